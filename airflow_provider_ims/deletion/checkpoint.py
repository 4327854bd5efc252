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
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from itertools import islice
from typing import Any, NamedTuple, Protocol

from airflow_provider_ims.deletion import saved
from airflow_provider_ims.deletion.resolve import Outcome, TargetResult

KEY = "airflow_provider_ims.deletion"
VERSION = 3

SAVE_SECONDS = 1.0
"""A checkpoint is saved at least so often while something happens."""
# How many bytes the reason of a row may take, and the id of its request.
MAX_REASON = 200
MAX_REQUEST_ID = 100

log = logging.getLogger(__name__)


class RunConfig(NamedTuple):
    """How the targets of a run are deleted, and where. What was saved of a run with another is no use."""

    url: str
    region: str | None
    delete_physical_files: bool
    preview: bool
    verify_files: bool = False


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

    def runs(self) -> list[int]:
        """Spell them as :func:`saved.spell_runs` does; shortly, since only what is open leaves gaps."""
        beyond = saved.spell_runs(self._beyond)
        if not self._below:
            return beyond
        return [0, self._below, *([beyond[0] - self._below, *beyond[1:]] if beyond else [])]

    @classmethod
    def from_runs(cls, spelled: Any, end: int) -> NumberSet:
        """Return the numbers that :meth:`runs` spelled.

        :raises ValueError: if it is no such list, or has numbers from ``end`` on.
        """
        found = cls()
        for run in saved.runs(spelled, end):
            if run.start == found._below:
                found._below = run.stop
            else:
                found._beyond.update(run)
        return found


class Row(NamedTuple):
    """What became of targets that had the same fate: ``ordinals`` names them, ascending."""

    ordinals: tuple[int, ...]
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

    @property
    def judged(self) -> int:
        """How many targets have an outcome."""
        return sum(self.counts.values())

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, for Airflow refuses tuples and enumerations; a copy, for the run goes on meanwhile."""
        spelled = {
            **vars(self),
            "done": self.done.runs(),
            "open": [
                saved.spell_runs(number for number, lost in self.open.items() if lost is which)
                for which in (False, True)
            ],
            "unwritten": [(saved.spell_runs(ordinals), *fate) for ordinals, *fate in self.unwritten],
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
        open_, unconfirmed = saved.items(value["open"], 2), saved.number(value["unconfirmed"], 10**6)
        found = cls(
            input=saved.text(value["input"]),
            requested=saved.number(value["requested"]),
            attempt=saved.number(value["attempt"], 10**9),
            unconfirmed=unconfirmed,
            done=NumberSet.from_runs(value["done"], targets),
            counts={
                Outcome(name): saved.number(count, targets)
                for name, count in saved.mapping(value["counts"]).items()
            },
            inferred=saved.number(value["inferred"], targets),
            files_left=saved.number(value["files_left"], targets),
            open={n: lost for lost in (False, True) for n in saved.numbers(open_[lost], targets)},
            unwritten=list(_rows(value["unwritten"], targets)),
            journal=[
                (saved.writer_name(name), saved.number(count, 10**6))
                for name, count in saved.items(value["journal"], saved.MAX_TEXT)
            ],
            samples={
                _sample_name(name): [saved.text(text, 10_000) for text in saved.items(texts, saved.MAX_TEXT)]
                for name, texts in saved.mapping(value["samples"]).items()
            },
            request_ids=[saved.text(text) for text in saved.items(value["request_ids"], saved.MAX_TEXT)],
            requests=saved.number(value["requests"]),
            retries=saved.number(value["retries"]),
            throttled=saved.number(value["throttled"]),
            seconds=saved.seconds(value["seconds"]),
            reported=value["reported"] is True,
        )
        if found.judged + len(found.open) > targets:
            raise ValueError("it counts more targets than there are")
        return found


class CheckpointStore:
    """Saves checkpoints in a thread of its own, one at a time, so that a run need not wait for the store.

    Knows how far a run may be ahead of what is saved, and when the next checkpoint is due.

    :param store: None saves nothing.
    :param max_concurrency: requests in flight at most.
    """

    def __init__(self, store: StateStore | None, max_concurrency: int) -> None:
        self._store = store
        self._max_unconfirmed = 2 * max_concurrency
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ims-checkpoint")
        self._running: Future[None] | None = None
        # Batches that are done, and not called so by a saved checkpoint.
        self._unsaved = self._being_saved = 0
        # How many batches may be handed out or done beyond a saved checkpoint: those that it calls unconfirmed.
        self._bound = self._bound_being_saved = 0
        self._done_while_saving = 0
        self._saved_at = time.monotonic()

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
        found = self._store.get(KEY) if self._store else None
        if found is None:
            return None
        if not isinstance(found, Mapping) or found.get("input") != input:
            log.warning(
                "An earlier try had another input, region, host, report or another of delete_physical_files, "
                "verify_files and preview. Starting over."
            )
            return None
        try:
            return Checkpoint.from_json(found, targets)
        except (ValueError, TypeError, KeyError, IndexError):
            log.warning("What an earlier try saved can't be used: it is damaged. Starting over.")
            return None

    def add_done(self) -> None:
        """Take note of a batch that is done."""
        self._unsaved += 1

    def may_start(self, in_flight: int) -> bool:
        """Whether another batch may be handed out before a checkpoint is saved.

        :param in_flight: batches that are being asked about for the first time.
        """
        return not self.saves or in_flight + self._unsaved + self._being_saved < self._bound

    def margin(self, in_flight: int, window: int) -> int:
        """How many batches besides those in flight a checkpoint that is saved now calls unconfirmed.

        As many as may be in flight, if with these the run need not wait for the store. What gets done while a
        checkpoint is being saved is in doubt until the next one is, which takes as long: so a slow store needs twice
        as many, and a third time for the run to become faster. Never more than twice ``max_concurrency`` in all.

        :param in_flight: batches that are being asked about for the first time.
        :param window: requests that may be in flight; 0 at the end of a run.
        """
        if not window:
            return 0
        return min(max(window, 3 * self._done_while_saving), self._max_unconfirmed - in_flight)

    def is_due(self, in_flight: int, window: int) -> bool:
        """Whether to save a checkpoint now; never while one is being saved.

        :param window: requests that may be in flight.
        :raises Exception: of the store, if the last checkpoint could not be saved.
        """
        if self.busy:
            return False
        self.wait()
        is_blocked = in_flight + self._unsaved >= self._bound
        is_late = self._unsaved > 0 and time.monotonic() - self._saved_at >= SAVE_SECONDS
        return is_blocked or is_late or self._unsaved >= max(window // 2, 1)

    def save(self, checkpoint: Checkpoint) -> None:
        """Begin to save a checkpoint.

        :raises Exception: of the store, if the last one could not be saved.
        """
        self.wait()
        if (store := self._store) is not None:
            value = checkpoint.to_json()
            self._running = self._thread.submit(lambda: store.set(KEY, value))
        self._being_saved, self._unsaved = self._unsaved, 0
        self._bound_being_saved = checkpoint.unconfirmed
        self._saved_at = time.monotonic()

    def wait(self) -> None:
        """Wait until the last checkpoint is saved.

        :raises Exception: of the store, if it could not be.
        """
        running, self._running = self._running, None
        if running:
            running.result()
            self._done_while_saving = self._unsaved
        self._being_saved, self._bound = 0, self._bound_being_saved

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


def rows(results: Iterable[TargetResult], at: int) -> Iterator[tuple[Row, list[TargetResult]]]:
    """Spell results as few rows, each with those that it stands for: alike in all but their targets."""
    groups: dict[tuple[Any, ...], list[TargetResult]] = {}
    for result in sorted(results, key=lambda result: result.target.ordinal):
        _, outcome, inferred, request_id, reason, _, file = result
        groups.setdefault((outcome, inferred, request_id, reason, file), []).append(result)
    for (outcome, inferred, request_id, reason, file), alike in groups.items():
        ordinals = tuple(result.target.ordinal for result in alike)
        request_id, reason = shorten(request_id, MAX_REQUEST_ID), shorten(reason, MAX_REASON)
        yield Row(ordinals, outcome, inferred, request_id, at, reason, file), alike


def shorten(text: str | None, most: int) -> str | None:
    """Return as much of a text as takes ``most`` bytes in JSON: six for a character beyond ASCII, twelve for some."""
    if text is None or (text.isascii() and len(text) <= most):
        return text
    kept = text[:most]
    while len(json.dumps(kept)) > most + 2:
        kept = kept[:-1]
    return kept


def _sample_name(name: str) -> str:
    return name if name == "files_left" else Outcome(name).value


def _rows(values: Any, targets: int) -> Iterator[Row]:
    left = targets
    for value in saved.items(values, targets):
        spelled, outcome, inferred, request_id, at, reason, file = saved.items(value, 7)
        ordinals = tuple(islice(saved.numbers(spelled, targets), left + 1))
        left -= len(ordinals)
        if left < 0:
            raise ValueError("its rows are about more targets than there are")
        yield Row(
            ordinals,
            Outcome(outcome),
            inferred is True,
            None if request_id is None else saved.text(request_id),
            saved.number(at, 2**40),
            None if reason is None else saved.text(reason),
            None if file is None else saved.text(file),
        )
