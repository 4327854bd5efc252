"""What a run keeps, so that the next try goes on where it was cut.

The order is: the answer comes, the report's line is written, then the state is kept. A kill at any point between
leaves something from which the next try is right:

- *Before the state*: the state is older than the report. The lines after the kept position tell which targets
  are settled; they are counted, and taken into the state before the first request of the next try, so that the
  kill after this one finds them there.
- *Before the line*: nothing is known of the batch. The next try sends it again; it is among the first batches
  that are not done, of which any may have been sent, so what is ignored and gone by now counts as deleted, inferred.
- *Before the first request*: the first state is kept before it, so that a try without a state is a try that
  sent nothing.

Batches are handed out in order, and of those not kept as done no more than ``in_doubt`` have ever been handed out
without a report's lines telling of all their targets: at most one for each request in flight, and as many more
that are done but not kept, because a run waits for its state to be kept before it goes further ahead. Hence only
the first ``in_doubt`` batches that are neither done nor told of are in doubt; the others were never sent. A try
that ends by itself knows exactly what is open, and is in doubt only about what a killed one before it left.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

KEY = "airflow_provider_ims.deletion"
VERSION = 1

log = logging.getLogger(__name__)


class StateStore(Protocol):
    """What is needed of Airflow's ``task_state_store``."""

    def get(self, key: str, default: Any = None) -> Any:
        """Give what is kept under a key."""

    def set(self, key: str, value: Any) -> None:
        """Keep a JSON value."""

    def delete(self, key: str) -> None:
        """Forget it."""


@dataclass
class Done:
    """The numbers of the batches that are done: all below ``below``, and ``beyond`` it some more."""

    below: int = 0
    beyond: set[int] = field(default_factory=set)

    def add(self, number: int) -> None:
        """Take in one that is done."""
        self.beyond.add(number)
        while self.below in self.beyond:
            self.beyond.remove(self.below)
            self.below += 1

    def rows_beyond(self) -> list[tuple[int, int]]:
        """Spell ``beyond`` as (first, end) of each row of numbers: few, since only what is open leaves gaps."""
        rows: list[tuple[int, int]] = []
        for number in sorted(self.beyond):
            if rows and rows[-1][1] == number:
                rows[-1] = (rows[-1][0], number + 1)
            else:
                rows.append((number, number + 1))
        return rows

    def __contains__(self, number: int) -> bool:
        return number < self.below or number in self.beyond

    def __len__(self) -> int:
        return self.below + len(self.beyond)


@dataclass
class RunState:
    """All that the next try needs, small whatever the size of the run.

    :param input: tells the same run again: what is deleted, how and where.
    :param requested: how many targets there are.
    :param in_doubt: how many of the first batches that are not done may have been sent.
    :param aside: ordinal of a target that is set aside -> whether an answer about it was lost.
    :param report: the report's folder, None without a report.
    :param part: the report's part file and ``lines``, how far in it, that this state knows.
    """

    input: str
    in_doubt: int
    done: Done = field(default_factory=Done)
    counts: dict[str, int] = field(default_factory=dict)
    inferred: int = 0
    aside: dict[int, bool] = field(default_factory=dict)
    samples: dict[str, list[str]] = field(default_factory=dict)
    request_ids: list[str] = field(default_factory=list)
    requests: int = 0
    retries: int = 0
    throttled: int = 0
    seconds: float = 0.0
    report: str | None = None
    part: int = 1
    lines: int = 0
    requested: int = 0

    def to_json(self) -> dict[str, Any]:
        """Spell it for the store: plain JSON, for Airflow refuses tuples and enumerations."""
        aside = [
            sorted(ordinal for ordinal, lost in self.aside.items() if lost is which)
            for which in (False, True)
        ]
        done = [self.done.below, self.done.rows_beyond()]
        # Through JSON, which copies as well: the run goes on while this is being kept.
        text = json.dumps({"version": VERSION, **vars(self), "done": done, "aside": aside})
        plain: dict[str, Any] = json.loads(text)
        return plain

    @classmethod
    def from_json(cls, value: Any) -> RunState:
        """Read what was kept.

        :raises ValueError: when it is damaged, or of a release that kept something else.
        """
        try:
            if value["version"] != VERSION:
                raise ValueError(f"it is of version {value['version']}")
            fields = {key: item for key, item in value.items() if key != "version"}
            below, rows = fields["done"]
            fields["done"] = Done(int(below), {number for first, end in rows for number in range(first, end)})
            calm, lost = fields["aside"]
            fields["aside"] = dict.fromkeys(map(int, calm), False) | dict.fromkeys(map(int, lost), True)
            state = cls(**fields)
            counted = (
                state.in_doubt,
                state.requests,
                state.retries,
                state.throttled,
                state.part,
                state.lines,
                state.requested,
            )
            if not all(
                isinstance(number, int) and number >= 0 for number in (*counted, *state.counts.values())
            ):
                raise ValueError("its counts are none")
            if not isinstance(state.input, str):
                raise ValueError("it names no input")
        except (KeyError, TypeError, AttributeError):
            raise ValueError("it is damaged") from None
        return state


class StateKeeper:
    """Keeps states in a thread of its own, one at a time, so that a run need not wait for the store.

    :param store: None keeps nothing, but still makes report lines durable.
    """

    def __init__(self, store: StateStore | None) -> None:
        self._store = store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ims-keep")
        self._running: Future[None] | None = None

    @property
    def keeps(self) -> bool:
        """Whether a next try finds anything."""
        return self._store is not None

    @property
    def busy(self) -> Future[None] | None:
        """The write that is under way."""
        return self._running if self._running and not self._running.done() else None

    def load(self, input: str) -> RunState | None:
        """Give the state to go on from, None to start over.

        What can't be read, or is about another input, is no reason to fail: deleting twice is harmless.
        """
        if self._store is None:
            return None
        kept = self._store.get(KEY)
        if kept is None:
            return None
        try:
            state = RunState.from_json(kept)
        except ValueError as error:
            log.warning("The kept state of an earlier try can't be used: %s. Starting over.", error)
            return None
        if state.input != input:
            log.warning("An earlier try was about another input, region or host. Starting over.")
            return None
        return state

    def save(self, state: RunState, make_durable: Callable[[], None]) -> None:
        """Begin to keep a state; the report's lines that it knows of are made durable first."""
        self.wait()
        store = self._store
        if store is None:
            self._running = self._thread.submit(make_durable)
            return
        value = state.to_json()

        def keep() -> None:
            make_durable()
            store.set(KEY, value)

        self._running = self._thread.submit(keep)

    def wait(self) -> None:
        """Wait until the last state is kept.

        :raises Exception: of the store or of the report, if it could not be.
        """
        running, self._running = self._running, None
        if running:
            running.result()

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=True)


def forget(store: StateStore) -> None:
    """Drop the state: the task reached its end, so that it starts over when it is cleared later."""
    store.delete(KEY)
