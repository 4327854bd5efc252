"""Who waits for what, and when that is asked for again. Pure bookkeeping: no clock, no loop, no request."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from heapq import nsmallest
from math import ceil, inf
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_ims.triggers.status import MAX_AT_ONCE, SubjectKind

if TYPE_CHECKING:
    from asyncio import Future

# Requests a second, relative to what a round needs: the rest is there to catch up.
HEADROOM = 1.25
# A request that is not full waits for more: for a tenth of the interval, but no longer than this many seconds.
MAX_SLACK = 5


class WaitResult(NamedTuple):
    """How waiting ended. ``pending``: how many are still to be waited for at the deadline."""

    pending: int
    error: Exception | None = None


class PollRequest(NamedTuple):
    """One request to make: ``values`` of one kind; ``waiter``, if it is for one task alone."""

    kind: SubjectKind
    values: tuple[str, ...]
    waiter: Waiter | None = None


@dataclass(eq=False, slots=True)
class Waiter:
    """One task's interest: what it still waits for, every how many seconds that may be asked for, and until when.

    :param deadline: the second of the last look.
    :param logged: when it was last logged how many are pending.
    """

    kind: SubjectKind
    pending: set[str]
    interval: int
    deadline: float = inf
    result: Future[WaitResult] | None = None
    log_pending: Callable[[str], None] | None = None
    total: int = 0
    logged: float = -inf

    def end(self, error: Exception | None = None) -> None:
        """Tell the task how waiting ended, if it has not been told."""
        if self.result and not self.result.done():
            self.result.set_result(WaitResult(len(self.pending), error))


@dataclass(eq=False, slots=True)
class _Subject:
    """A value that somebody waits for. It is never due while an answer about it is awaited."""

    value: str
    interval: int
    due: float = inf
    waiters: set[Waiter] = field(default_factory=set)

    @property
    def slack(self) -> int:
        return min(self.interval // 10, MAX_SLACK)

    def schedule(self, now: int) -> None:
        """Set when it is due, having been looked at in the second ``now``."""
        deadlines = (waiter.deadline for waiter in self.waiters if waiter.deadline > now)
        self.due = min((now + self.interval, *deadlines))


class Schedule:
    """What is due in which second.

    Media that different tasks wait for share requests. Nothing is asked for earlier than its interval says.
    """

    def __init__(self) -> None:
        self._subjects: dict[SubjectKind, dict[str, _Subject]] = {kind: {} for kind in MAX_AT_ONCE}

    def __len__(self) -> int:
        return sum(
            bool(subject.waiters) for subjects in self._subjects.values() for subject in subjects.values()
        )

    def add(self, waiter: Waiter, value: str, now: int) -> None:
        """Wait for ``value`` on behalf of ``waiter``, which has looked just now."""
        subjects = self._subjects[waiter.kind]
        subject = subjects.get(value)
        if subject is None or not subject.waiters:
            subject = subjects[value] = _Subject(value, waiter.interval)
        is_asked_for = bool(subject.waiters) and subject.due == inf
        before = subject.due
        subject.waiters.add(waiter)
        subject.interval = min(subject.interval, waiter.interval)
        if not is_asked_for:
            subject.schedule(now)
            subject.due = min(subject.due, before)

    def leave(self, waiter: Waiter, now: int) -> None:
        """Forget a waiter, and what nobody else waits for."""
        for value in waiter.pending:
            subject = self._subjects[waiter.kind].get(value)
            if subject is None or waiter not in subject.waiters:
                continue
            subject.waiters.discard(waiter)
            if subject.waiters:
                subject.interval = min(other.interval for other in subject.waiters)
            else:
                subject.due = min(subject.due, now + subject.interval)

    def answered(self, kind: SubjectKind, value: str, asked: int, *, pending: bool) -> set[Waiter]:
        """Note an answer to what was asked for in the second ``asked``; return who waits for it."""
        subject = self._subjects[kind].get(value)
        if subject is None:
            return set()
        waiters = set(subject.waiters)
        if not pending:
            subject.waiters.clear()
        subject.schedule(asked)
        return waiters

    def is_looked_at(self, waiter: Waiter, now: int) -> bool:
        """Return whether nothing that it waits for is due in the second ``now``, or is being asked for."""
        subjects = self._subjects[waiter.kind]
        return all(now < subjects[value].due < inf for value in waiter.pending if value in subjects)

    def requests(self, now: int) -> list[PollRequest]:
        """Return the requests to make in the second ``now``; what they name is left alone until it is answered."""
        return [request for kind in MAX_AT_ONCE for request in self._requests(kind, now)]

    def _requests(self, kind: SubjectKind, now: int) -> Iterable[PollRequest]:
        subjects, size = self._subjects[kind], MAX_AT_ONCE[kind]
        # What nobody waits for any more counts until it would have been due: the round that it was part of goes on
        # at its pace, or the others would be late.
        for subject in [one for one in subjects.values() if one.due <= now and not one.waiters]:
            del subjects[subject.value]
        rate = sum(1 / subject.interval for subject in subjects.values()) / size
        soon = (one for one in subjects.values() if one.due <= now + MAX_SLACK and one.waiters)
        oldest_first = nsmallest(ceil(HEADROOM * rate) * size, soon, key=attrgetter("due"))
        for start in range(0, len(oldest_first), size):
            batch = oldest_first[start : start + size]
            if min(batch[-1].due, batch[0].due + batch[0].slack) > now:
                return
            batch = [subject for subject in batch if subject.due <= now]
            for subject in batch:
                subject.due = inf
            yield PollRequest(kind, tuple(subject.value for subject in batch))
