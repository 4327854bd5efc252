"""What a run saves, so that the next try resumes where it was cut.

A checkpoint alone says what is done. It is saved behind the run: of the batches that it does not call done, no more
than ``unconfirmed`` have ever been handed out, because a run starts another batch only while that holds. They are
the first that are not done, so after a kill these, and no others, may have been sent: what is *ignored and gone*
among them counts as deleted, inferred. A try that ends by itself knows exactly what is open, and is in doubt only
about what a killed one before it left.

The lines of the report lag behind too: what is done, but perhaps not in the journal yet, stands in ``unwritten``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, Protocol

from airflow_provider_ims.deletion.resolve import Outcome

KEY = "airflow_provider_ims.deletion"
VERSION = 2

MAX_TEXT = 1000
"""No text in a checkpoint is longer; neither is a list that is no list of numbers."""

log = logging.getLogger(__name__)


class StateStore(Protocol):
    """What is needed of Airflow's ``task_state_store``."""

    def get(self, key: str, default: Any = None) -> Any:
        """Return what is saved under a key."""

    def set(self, key: str, value: Any) -> None:
        """Save a JSON value."""

    def delete(self, key: str) -> None:
        """Forget it."""


class NumberSet:
    """Numbers from 0 on: all below a low-water mark, and those that came out of order."""

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        self._below = 0
        self._beyond: set[int] = set()
        for number in numbers:
            self.add(number)

    def add(self, number: int) -> None:
        """Take in a number."""
        if number < self._below:
            return
        self._beyond.add(number)
        while self._below in self._beyond:
            self._beyond.remove(self._below)
            self._below += 1

    def __contains__(self, number: int) -> bool:
        return number < self._below or number in self._beyond

    def __len__(self) -> int:
        return self._below + len(self._beyond)

    def ranges(self) -> list[tuple[int, int]]:
        """Return them as (first, end) of each row of numbers; few, since only what is open leaves gaps."""
        return [(0, self._below), *ranges(self._beyond)]

    @classmethod
    def from_ranges(cls, spelled: Any, end: int) -> NumberSet:
        """Return the numbers that :meth:`ranges` spelled.

        :raises ValueError: if it is no such list, or has numbers from ``end`` on.
        """
        (first, below), *rows = [_range(row, end) for row in _list(spelled, end + 1)]
        if first:
            raise ValueError("its finished batches do not begin with the first")
        found = cls()
        found._below = below
        for first, last in rows:
            for number in range(first, last):
                found.add(number)
        return found


class Row(NamedTuple):
    """What became of targets that follow one another: from ordinal ``first`` to before ``end``."""

    first: int
    end: int
    outcome: Outcome
    inferred: bool = False
    request_id: str | None = None
    at: int = 0
    reason: str | None = None
    file: str | None = None


@dataclass
class Checkpoint:
    """All that the next try needs, small whatever the size of the run.

    :param input: tells the same run again: a digest of what is deleted, how and where.
    :param requested: how many targets there are.
    :param attempt: number of the report's folder; 0 without a report.
    :param unconfirmed: how many of the first batches that are not done may have been sent.
    :param done: numbers of the batches that were judged, but for the targets in ``open``.
    :param open: ordinal of a target that needs another look -> whether an answer about it was lost.
    :param unwritten: results that may not be in the journal.
    :param journal: (writer, pieces) of each try: which files the journal has, whatever a listing shows.
    :param reported: the report is written, and the journal may be gone.
    """

    input: str
    requested: int = 0
    attempt: int = 0
    unconfirmed: int = 0
    done: NumberSet = field(default_factory=NumberSet)
    counts: dict[str, int] = field(default_factory=dict)
    inferred: int = 0
    files_left: int = 0
    open: dict[int, bool] = field(default_factory=dict)
    unwritten: list[Row] = field(default_factory=list)
    journal: list[tuple[str, int]] = field(default_factory=list)
    samples: dict[str, list[str]] = field(default_factory=dict)
    request_ids: list[str] = field(default_factory=list)
    requests: int = 0
    retries: int = 0
    throttled: int = 0
    seconds: float = 0.0
    reported: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, for Airflow refuses tuples and enumerations; a copy, for the run goes on meanwhile."""
        spelled = {
            **vars(self),
            "done": self.done.ranges(),
            "open": [ranges(n for n, lost in self.open.items() if lost is which) for which in (False, True)],
        }
        plain: dict[str, Any] = json.loads(json.dumps({"version": VERSION, **spelled}))
        return plain

    @classmethod
    def from_json(cls, value: Any, targets: int = 10**9) -> Checkpoint:
        """Return what was saved; others may have written there, so each field is checked for its type and size.

        :param targets: of the run, as far as that is known; no number in it may be larger.
        :raises ValueError: if it is damaged, or of a release that saved something else.
        """
        if not isinstance(value, Mapping) or value.get("version") != VERSION:
            raise ValueError("it is not of this release")
        if set(value) != {"version", *(one.name for one in fields(cls))}:
            raise ValueError("it has other fields")
        open_, unconfirmed = _list(value["open"], 2), _number(value["unconfirmed"], 10**6)
        found = cls(
            input=_text(value["input"]),
            requested=_number(value["requested"]),
            attempt=_number(value["attempt"], 10**9),
            unconfirmed=unconfirmed,
            done=NumberSet.from_ranges(value["done"], targets),
            counts={Outcome(name): _number(count, targets) for name, count in _dict(value["counts"]).items()},
            inferred=_number(value["inferred"], targets),
            files_left=_number(value["files_left"], targets),
            open={n: lost for lost in (False, True) for n in _numbers(open_[lost], targets)},
            unwritten=[_row(row, targets) for row in _list(value["unwritten"], targets)],
            journal=[
                (_name(name), _number(count, 10**6)) for name, count in _list(value["journal"], MAX_TEXT)
            ],
            samples={
                _sample_name(name): [_text(text, 10_000) for text in _list(texts, MAX_TEXT)]
                for name, texts in _dict(value["samples"]).items()
            },
            request_ids=[_text(text) for text in _list(value["request_ids"], MAX_TEXT)],
            requests=_number(value["requests"]),
            retries=_number(value["retries"]),
            throttled=_number(value["throttled"]),
            seconds=_seconds(value["seconds"]),
            reported=value["reported"] is True,
        )
        if sum(found.counts.values()) + len(found.open) > targets:
            raise ValueError("it counts more targets than there are")
        return found


class CheckpointStore:
    """Saves checkpoints in a thread of its own, one at a time, so that a run need not wait for the store.

    :param store: None saves nothing.
    """

    def __init__(self, store: StateStore | None) -> None:
        self._store = store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ims-checkpoint")
        self._running: Future[None] | None = None

    @property
    def saves(self) -> bool:
        """Whether a next try finds anything."""
        return self._store is not None

    @property
    def busy(self) -> Future[None] | None:
        """The save that is under way."""
        return self._running if self._running and not self._running.done() else None

    def load(self, input: str, targets: int) -> Checkpoint | None:
        """Return the checkpoint to go on from, None to start over.

        What can't be read, or is about another input, is no reason to fail: deleting twice is harmless.
        """
        saved = self._store.get(KEY) if self._store else None
        if saved is None:
            return None
        if not isinstance(saved, Mapping) or saved.get("input") != input:
            log.warning("An earlier try was about another input, region or host. Starting over.")
            return None
        try:
            return Checkpoint.from_json(saved, targets)
        except (ValueError, TypeError, KeyError, IndexError):
            log.warning("What an earlier try saved can't be used: it is damaged. Starting over.")
            return None

    def save(self, checkpoint: Checkpoint) -> None:
        """Begin to save a checkpoint."""
        self.wait()
        if (store := self._store) is not None:
            value = checkpoint.to_json()
            self._running = self._thread.submit(lambda: store.set(KEY, value))

    def wait(self) -> None:
        """Wait until the last checkpoint is saved.

        :raises Exception: of the store, if it could not be.
        """
        running, self._running = self._running, None
        if running:
            running.result()

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=True)


def forget(store: StateStore) -> None:
    """Drop the checkpoint: the task reached its end, so that it starts over when it is cleared later."""
    try:
        store.delete(KEY)
    except Exception as error:  # noqa: BLE001 - the media are gone, and the task must not fail for a leftover
        log.warning(
            "What the run saved for a next try could not be dropped (%s); a task that is cleared goes on from it.",
            type(error).__name__,
        )


def ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Return numbers as (first, end) of each row of them."""
    found: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number:
            found[-1] = (found[-1][0], number + 1)
        else:
            found.append((number, number + 1))
    return found


def _number(value: Any, most: int = 2**53) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError("a number in it is none")
    return value


def _sample_name(name: str) -> str:
    return name if name == "files_left" else Outcome(name).value


def _seconds(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value < 2**53:
        raise ValueError("its time is none")
    return float(value)


def _text(value: Any, most: int = MAX_TEXT) -> str:
    if not isinstance(value, str) or len(value) > most:
        raise ValueError("a text in it is none")
    return value


def _name(value: Any) -> str:
    """A writer's name becomes part of a path."""
    if not (name := _text(value)).replace("-", "").isalnum():
        raise ValueError("the name of a writer is none")
    return name


def _list(value: Any, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise ValueError("a list in it is none")
    return value


def _dict(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("an object in it is none")
    return value


def _range(value: Any, end: int) -> tuple[int, int]:
    first, last = (_number(number, end) for number in _list(value, 2))
    if first > last:
        raise ValueError("a range in it is none")
    return first, last


def _numbers(value: Any, end: int) -> Iterator[int]:
    seen = 0
    for row in _list(value, end):
        first, last = _range(row, end)
        seen += last - first
        if seen > end:
            raise ValueError("its ranges overlap")
        yield from range(first, last)


def _row(value: Any, targets: int) -> Row:
    first, end, outcome, inferred, request_id, at, reason, file = _list(value, 8)
    _range([first, end], targets)
    return Row(
        first,
        end,
        Outcome(outcome),
        inferred is True,
        None if request_id is None else _text(request_id),
        _number(at, 2**40),
        None if reason is None else _text(reason),
        None if file is None else _text(file),
    )
