"""When to ask for what: pure bookkeeping, without a clock, a loop or a request.

Media that different tasks wait for share requests. Nothing is asked for earlier than its interval says; up to a
tenth of it later, so that a request fills up. Requests are spread over the interval instead of coming in bursts.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from math import ceil, inf
from typing import NamedTuple

from airflow_provider_ims.triggers.status import MAX_AT_ONCE, SubjectKind

# The part of an interval that something may be late so that a request fills up, and the most of it in seconds.
SLACK, MAX_SLACK = 0.1, 5.0
# The part of an interval that the requests of one round are spread over; the rest is there to catch up.
SPREAD = 0.75
# Few requests need no spreading.
MAX_GAP = 1.0


@dataclass(eq=False, slots=True)
class Waiter:
    """One task's interest: what it still waits for, how often that may be asked for, and until when."""

    kind: SubjectKind
    pending: set[str]
    interval: float
    deadline: float = inf


class PollRequest(NamedTuple):
    """One request to make: ``values`` of one kind."""

    kind: SubjectKind
    values: tuple[str, ...]


@dataclass(eq=False, slots=True)
class _Entry:
    kind: SubjectKind
    value: str
    interval: float
    due: float = inf
    watches: set[Waiter] = field(default_factory=set)


class Schedule:
    """All subjects that somebody waits for. Times are seconds on any clock that only goes forward."""

    def __init__(self) -> None:
        self._entries: dict[tuple[SubjectKind, str], _Entry] = {}
        # Entries that are rescheduled or dropped stay in their heap until they come up: their due time tells.
        self._heaps: dict[SubjectKind, list[tuple[float, int, _Entry]]] = {kind: [] for kind in MAX_AT_ONCE}
        self._intervals: Counter[tuple[SubjectKind, float]] = Counter()
        self._leaving: list[tuple[float, tuple[SubjectKind, float]]] = []
        self._order = count()
        self._next_start = -inf

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, value: str, watch: Waiter, now: float) -> None:
        """Wait for ``value`` on behalf of ``watch``, which has looked just now."""
        entry = self._entries.get((watch.kind, value))
        if entry is None:
            entry = self._entries[watch.kind, value] = _Entry(watch.kind, value, watch.interval)
            self._count((watch.kind, watch.interval), 1)
            entry.watches.add(watch)
            self._set_due(entry, now)
            return
        entry.watches.add(watch)
        self._set_interval(entry)
        if entry.due < inf:
            self._set_due(entry, now, entry.due)

    def drop(self, kind: SubjectKind, value: str, now: float) -> set[Waiter]:
        """Forget a value; give those who waited for it."""
        entry = self._entries.pop((kind, value), None)
        if entry is None:
            return set()
        entry.due = -inf
        # The round that it was part of goes on at its pace, or the others would be late.
        heapq.heappush(self._leaving, (now + entry.interval, (kind, entry.interval)))
        return entry.watches

    def leave(self, watch: Waiter, now: float) -> None:
        """Forget a watch, and what nobody else waits for."""
        for value in watch.pending:
            entry = self._entries.get((watch.kind, value))
            if entry is None or watch not in entry.watches:
                continue
            entry.watches.discard(watch)
            if entry.watches:
                self._set_interval(entry)
            else:
                self.drop(watch.kind, value, now)

    def again(self, kind: SubjectKind, value: str, now: float) -> set[Waiter]:
        """Ask once more after its interval for what was asked for and is pending; give those who wait for it."""
        entry = self._entries.get((kind, value))
        if entry is None:
            return set()
        self._set_due(entry, now)
        return entry.watches

    def next(self, now: float) -> PollRequest | float:
        """Give the request to make now, whose subjects are then left alone until :meth:`again`.

        Otherwise give the time when to call again; infinite if nothing but answers can change that.
        """
        earliest = inf
        # Of the kinds that may be asked for now, the most overdue: a fixed order would starve the last.
        waiting: dict[SubjectKind, list[_Entry]] = {}
        for kind, size in MAX_AT_ONCE.items():
            candidates = list(self._take(kind, size))
            if not candidates:
                continue
            for entry in candidates:
                self._push(entry)
            oldest = candidates[0]
            full_at = min(candidates[-1].due, oldest.due + min(SLACK * oldest.interval, MAX_SLACK))
            at = max(full_at, self._next_start)
            earliest = min(earliest, at)
            if at <= now:
                waiting[kind] = [entry for entry in candidates if entry.due <= now]
        if not waiting:
            return earliest
        kind, chosen = min(waiting.items(), key=lambda item: item[1][0].due)
        for entry in chosen:
            entry.due = inf
        self._next_start = now + self._gap(now)
        return PollRequest(kind, tuple(entry.value for entry in chosen))

    def _take(self, kind: SubjectKind, size: int) -> Iterator[_Entry]:
        """Take up to ``size`` entries off the heap, in the order in which they are due."""
        heap = self._heaps[kind]
        while heap and size:
            due, _, entry = heapq.heappop(heap)
            if due == entry.due:
                size -= 1
                yield entry

    def _gap(self, now: float) -> float:
        """Seconds from one request to the next, so that a round's requests spread over their interval."""
        while self._leaving and self._leaving[0][0] <= now:
            self._count(heapq.heappop(self._leaving)[1], -1)
        rate = sum(
            ceil(number / MAX_AT_ONCE[kind]) / every for (kind, every), number in self._intervals.items()
        )
        return min(SPREAD / rate, MAX_GAP)

    def _set_due(self, entry: _Entry, now: float, at_most: float = inf) -> None:
        deadlines = (watch.deadline for watch in entry.watches if watch.deadline > now)
        due = min(now + entry.interval, at_most, *deadlines)
        if due != entry.due:
            entry.due = due
            self._push(entry)

    def _push(self, entry: _Entry) -> None:
        heapq.heappush(self._heaps[entry.kind], (entry.due, next(self._order), entry))

    def _set_interval(self, entry: _Entry) -> None:
        interval = min(watch.interval for watch in entry.watches)
        if interval != entry.interval:
            self._count((entry.kind, entry.interval), -1)
            self._count((entry.kind, interval), 1)
            entry.interval = interval

    def _count(self, key: tuple[SubjectKind, float], number: int) -> None:
        self._intervals[key] += number
        if not self._intervals[key]:
            del self._intervals[key]
