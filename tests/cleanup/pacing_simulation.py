"""Pacing against a simulated service, on a virtual clock: no network, no threads, no sleeping.

``python -m tests.cleanup.pacing_simulation`` prints the table of figures.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from airflow_provider_ims.cleanup.pacing import RateControl

Limit = Callable[[float], float]
"""The service's limit in requests per second at a time in seconds."""


class Service(Protocol):
    def admits(self, now: float) -> bool: ...

    def retry_after(self, now: float) -> float: ...


class TokenBucket:
    """Refilled with `limit` tokens per second up to `burst`; full in the beginning."""

    def __init__(self, limit: Limit, burst: float) -> None:
        self.limit, self.burst, self.tokens, self.updated = limit, burst, burst, 0.0

    def admits(self, now: float) -> bool:
        self.tokens = min(self.burst, self.tokens + (now - self.updated) * self.limit(now))
        self.updated = now
        if self.tokens < 1 - 1e-9:
            return False
        self.tokens -= 1
        return True

    def retry_after(self, now: float) -> float:
        return (1 - self.tokens) / max(self.limit(now), 0.1)


class FixedWindow:
    """Up to `limit` requests in each second of the service's clock, which is `phase` seconds ahead of ours."""

    def __init__(self, limit: Limit, phase: float = 0.37) -> None:
        self.limit, self.phase, self.window, self.admitted = limit, phase, -1, 0

    def admits(self, now: float) -> bool:
        window = int(now + self.phase)
        if window != self.window:
            self.window, self.admitted = window, 0
        if self.admitted + 1 > self.limit(now):
            return False
        self.admitted += 1
        return True

    def retry_after(self, now: float) -> float:
        return 1 - (now + self.phase) % 1


@dataclass
class Task:
    """One client: `in_flight` threads that send `requests` between them, starting at `starts_at`."""

    control: RateControl
    requests: int
    in_flight: int = 8
    starts_at: float = 0.0
    free: int = field(init=False)
    started: int = field(init=False, default=0)
    throttled: int = field(init=False, default=0)
    succeeded: list[float] = field(init=False, default_factory=list)
    refused: list[float] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.free = self.in_flight

    @property
    def wanted(self) -> int:
        return self.requests - len(self.succeeded) - (self.in_flight - self.free)


def simulate(
    service: Service,
    tasks: list[Task],
    *,
    answer_seconds: float = 0.03,
    refusal_seconds: float | None = None,
    retry_after: Callable[[float], float | None] | None = None,
    until: float = float("inf"),
    lost_share: float = 0.0,
    seed: int = 1,
) -> float:
    """Run until the first task has all its answers (or `until`); returns the elapsed seconds."""
    rng = random.Random(seed)
    network = min(answer_seconds / 4, 0.01)
    refusal = min(answer_seconds, 0.03) if refusal_seconds is None else refusal_seconds
    order = itertools.count()
    events: list[tuple[float, int, Callable[[float], None]]] = []

    def at(time: float, action: Callable[[float], None]) -> None:
        heapq.heappush(events, (time, next(order), action))

    wake_at: dict[int, float] = {}

    def wake(task: Task, now: float) -> None:
        if task.free and task.wanted > 0:
            time = max(now, task.control.next_start(now))
            if wake_at.get(id(task), float("inf")) > time:
                wake_at[id(task)] = time
                at(time, lambda moment: try_start(task, moment))

    def try_start(task: Task, now: float) -> None:
        if wake_at.get(id(task)) != now:
            return
        del wake_at[id(task)]
        if task.free and task.wanted > 0 and now >= task.control.next_start(now):
            permit = task.control.start(now)
            task.free -= 1
            task.started += 1
            at(now + network * rng.uniform(0.8, 1.2), lambda moment: arrive(task, permit, now, moment))
        wake(task, now)

    def arrive(task: Task, permit, sent: float, now: float) -> None:  # type: ignore[no-untyped-def]
        lost = rng.random() < lost_share
        admitted = service.admits(now)
        pause = None if admitted else service.retry_after(now)
        takes = (answer_seconds if admitted else refusal) * rng.uniform(0.8, 1.2)
        at(max(now, sent + takes), lambda moment: answered(task, permit, admitted, pause, lost, moment))

    def answered(task: Task, permit, admitted: bool, pause, lost: bool, now: float) -> None:  # type: ignore[no-untyped-def]
        task.free += 1
        if lost:
            task.control.answer(permit, now, answered=False)
        else:
            hint = None if admitted or retry_after is None else retry_after(pause)
            task.control.answer(permit, now, throttled=not admitted, retry_after=hint)
            if admitted:
                task.succeeded.append(now)
            else:
                task.throttled += 1
                task.refused.append(now)
        wake(task, now)

    for task in tasks:
        at(task.starts_at, lambda moment, task=task: wake(task, moment))
    now = 0.0
    while events:
        now, _, action = heapq.heappop(events)
        if now >= until:
            return until
        action(now)
        if any(len(task.succeeded) >= task.requests for task in tasks):
            break
    return now
