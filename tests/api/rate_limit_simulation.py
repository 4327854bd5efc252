"""Pacing against a simulated service, on a virtual clock: no network, no threads, no sleeping.

``python -m tests.api.rate_limit_simulation`` prints the table of figures.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_ims.api.rate_limit import Permit, RateControl

Limit = Callable[[float], float]
"""The service's limit in requests per second at a time in seconds."""


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

    def closed_for(self, now: float) -> float:
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

    def closed_for(self, now: float) -> float:
        return 1 - (now + self.phase) % 1


@dataclass
class Task:
    """One client: `in_flight` threads that want `requests` answers between them.

    :param killed_at: what is in flight then is lost, and what was learned; some time later, it starts anew.
    """

    control: RateControl
    requests: int
    in_flight: int
    starts_at: float = 0.0
    killed_at: float = math.inf
    anew_at: float = math.inf
    control_anew: RateControl | None = None
    waiting_for: int = 0
    starts: list[float] = field(default_factory=list)
    admitted: list[float] = field(default_factory=list)
    throttled: list[float] = field(default_factory=list)

    @property
    def done(self) -> bool:
        return len(self.admitted) >= self.requests

    @property
    def wants_to_start(self) -> bool:
        in_flight = min(self.in_flight, self.control.window)
        return self.waiting_for < in_flight and len(self.admitted) + self.waiting_for < self.requests


@dataclass(frozen=True)
class Figures:
    """What came of one run.

    :param used: answers that were not throttled, as a share of what the limit (or, if that is lower, the number of
        requests in flight over the answer time) allowed in the time.
    :param throttled: share of the requests.
    :param shares: each task's part of the answers; 1.0 is an equal part.
    :param seconds: the length of the run.
    :param slowest: when the last task got its last answer, against the median.
    """

    used: float
    throttled: float
    shares: tuple[float, ...]
    seconds: float
    slowest: float

    @property
    def fairness(self) -> float:
        """Jain's index (Jain, Chiu and Hawe, 1984): 1.0 if all got the same, 1 / n if one got all."""
        return sum(self.shares) ** 2 / (len(self.shares) * sum(share**2 for share in self.shares))


def simulate(
    service: TokenBucket | FixedWindow,
    tasks: list[Task],
    *,
    answer_seconds: float = 0.03,
    heeded: Callable[[float], float | None] = lambda seconds: None,
    lost_share: float = 0.0,
    throttled_share: float = 0.0,
    until: float = math.inf,
    since: float = 0.0,
    to_the_end: bool = False,
    seed: int = 1,
) -> Figures:
    """Run until the first task has all its answers (with ``to_the_end``, all of them), or the time is up.

    Answers take ``answer_seconds``, throttled ones at most 30 ms, both 20 % more or less; requests are counted by
    the service a quarter of the answer time, at most 10 ms (20 % more or less), after they were sent.

    :param heeded: seconds until the service will take a request again -> the ``retry_after`` that it sends.
    :param lost_share: of the answers, never to arrive.
    :param throttled_share: of the requests, refused whatever the rate.
    :param since: what comes before is not counted.
    """
    rng = random.Random(seed)
    travel = min(answer_seconds / 4, 0.01)
    events: list[tuple[float, int, Callable[[float], None]]] = []
    order = itertools.count()
    woken_at: dict[int, float] = {}

    def at(time: float, action: Callable[[float], None]) -> None:
        heapq.heappush(events, (time, next(order), action))

    def wake(task: Task, now: float) -> None:
        if task.wants_to_start:
            time = max(now, task.control.next_start())
            if time < woken_at.get(id(task), math.inf):
                woken_at[id(task)] = time
                at(time, lambda then: try_start(task, then))

    def try_start(task: Task, now: float) -> None:
        if woken_at.get(id(task)) != now:
            return
        del woken_at[id(task)]
        if task.wants_to_start and now >= task.control.next_start():
            control = task.control
            permit = control.start(now)
            task.starts.append(now)
            task.waiting_for += 1
            at(now + travel * rng.uniform(0.8, 1.2), lambda then: arrive(task, control, permit, now, then))
        wake(task, now)

    def arrive(task: Task, control: RateControl, permit: Permit, sent: float, now: float) -> None:
        admitted = not (throttled_share and rng.random() < throttled_share) and service.admits(now)
        retry_after = None if admitted else heeded(service.closed_for(now))
        seconds = (answer_seconds if admitted else min(answer_seconds, 0.03)) * rng.uniform(0.8, 1.2)
        lost = rng.random() < lost_share

        def answer(then: float) -> None:
            if task.control is not control:
                return  # It was killed meanwhile.
            task.waiting_for -= 1
            if lost:
                task.control.forget()
            else:
                task.control.answer(permit, then, throttled=not admitted, retry_after=retry_after)
            (task.admitted if admitted else task.throttled).append(then)
            wake(task, then)

        at(max(now, sent + seconds), answer)

    def kill(task: Task) -> None:
        if not task.done:
            assert task.control_anew
            task.control, task.waiting_for = task.control_anew, 0
            woken_at.pop(id(task), None)
            at(task.anew_at, lambda then: wake(task, then))

    for task in tasks:
        at(task.starts_at, lambda then, task=task: wake(task, then))  # type: ignore[misc]
        if task.killed_at < math.inf:
            at(task.killed_at, lambda then, task=task: kill(task))  # type: ignore[misc]
    now = 0.0
    ended = all if to_the_end else any
    while events and not ended(task.done for task in tasks):
        now, _, action = heapq.heappop(events)
        if now >= until:
            now = until
            break
        action(now)
    admitted = [sum(then >= since for then in task.admitted) for task in tasks]
    throttled = sum(then >= since for task in tasks for then in task.throttled)
    possible = sum(task.in_flight for task in tasks) / answer_seconds
    steps = int((now - since) * 100)
    allowed = sum(min(service.limit(since + step / 100), possible) for step in range(steps)) / 100
    whole = sum(admitted)
    return Figures(
        used=whole / allowed,
        throttled=throttled / (whole + throttled),
        shares=tuple(part / whole * len(tasks) for part in admitted),
        seconds=now,
        slowest=now / statistics.median(task.admitted[-1] if task.admitted else now for task in tasks),
    )


def steady(limit: float) -> Limit:
    return lambda now: limit


def changing(before: float, after: float, *, at: float) -> Limit:
    return lambda now: before if now < at else after


SERVICES: dict[str, Callable[[Limit, int], TokenBucket | FixedWindow]] = {
    "bucket of 1": lambda limit, seed: TokenBucket(limit, 1),
    "bucket of 2": lambda limit, seed: TokenBucket(limit, 2),
    "bucket of 0.1 s": lambda limit, seed: TokenBucket(limit, max(2.0, limit(0) / 10)),
    "bucket of 1 s": lambda limit, seed: TokenBucket(limit, max(2.0, limit(0))),
    "by the second": lambda limit, seed: FixedWindow(limit, phase=seed * 0.37 % 1),
}


def run(
    service: str,
    limit: float | Limit,
    *,
    requests: int = 800,
    tasks: int = 1,
    in_flight: int = 32,
    apart: float | None = None,
    ceiling: float | None = None,
    seed: int = 1,
    **how: Any,
) -> Figures:
    """One run of tasks that start within the first second, or ``apart`` seconds from each other."""
    limit = limit if callable(limit) else steady(limit)
    rng = random.Random(seed)
    clients = [
        Task(
            RateControl(max_requests_per_second=ceiling),
            requests,
            in_flight,
            starts_at=number * apart if apart is not None else rng.random() if number else 0.0,
        )
        for number in range(tasks)
    ]
    return simulate(SERVICES[service](limit, seed), clients, seed=seed, **how)


def run_with_a_kill(service: str, *, limit: float = 50, requests: int = 625, seed: int = 1) -> Figures:
    """Eight tasks of which four are killed when 40 % is done, and start anew some 15 s later, until all are done.

    It is what ``python -m tests.celery`` does with real processes.
    """
    rng = random.Random(seed)
    killed_at = 0.4 * 8 * requests / limit
    tasks = [
        Task(
            RateControl(),
            requests,
            in_flight=32,
            starts_at=rng.uniform(0, 5) if number else 0.0,
            killed_at=killed_at if number < 4 else math.inf,
            anew_at=killed_at + rng.uniform(14, 22),
            control_anew=RateControl(),
        )
        for number in range(8)
    ]
    return simulate(SERVICES[service](steady(limit), seed), tasks, to_the_end=True, seed=seed)


WATCHED_SECONDS = {2: 60, 10: 60, 50: 20, 200: 10, 1000: 10}
"""How long a task alone is watched at a limit, from its first request on; as long as ``benchmarks/limit.py`` does."""


def alone(service: str, limit: int, **how: Any) -> Figures:
    """One task that never comes to an end."""
    return run(service, limit, requests=10**6, until=float(WATCHED_SECONDS[limit]), **how)


def print_table(seeds: range = range(1, 21)) -> None:
    """Of several runs each: use, throttled requests and fairness, as worst and mean."""
    endless: dict[str, Any] = {"requests": 10**6}
    accidents: dict[str, Any] = {"lost_share": 0.2, "throttled_share": 0.2, **endless}
    scenarios: list[tuple[str, Callable[[str, int], Figures]]] = [
        *(
            (
                f"1 task at {limit}/s, {round(1000 * seconds)} ms",
                lambda service, seed, limit=limit, seconds=seconds: alone(  # type: ignore[misc]
                    service, limit, answer_seconds=seconds, seed=seed
                ),
            )
            for limit in WATCHED_SECONDS
            for seconds in (0.03, 0.3)
        ),
        *(
            (title, lambda service, seed, how=how: run(service, seed=seed, **how))  # type: ignore[misc]
            for title, how in [
                (
                    "50/s becomes 25/s",
                    {"limit": changing(50, 25, at=20), "since": 20, "until": 50, **endless},
                ),
                (
                    "50/s became 100/s 10 s ago",
                    {"limit": changing(50, 100, at=20), "since": 30, "until": 60, **endless},
                ),
                ("20 % throttled, 20 % lost, at 50/s", {"limit": 50, "until": 60, **accidents}),
                ("4 tasks at 50/s, 16,000 ids each", {"limit": 50, "tasks": 4}),
                ("4 tasks at 50/s, 64,000 ids each", {"limit": 50, "tasks": 4, "requests": 3200}),
                ("4 tasks at 200/s, 64,000 ids each", {"limit": 200, "tasks": 4, "requests": 3200}),
                ("8 tasks at 50/s, 12,500 ids each", {"limit": 50, "tasks": 8, "requests": 625}),
                ("16 tasks at 50/s, 4,000 ids each", {"limit": 50, "tasks": 16, "requests": 200}),
            ]
        ),
        ("8 tasks, 4 killed, to the end", lambda service, seed: run_with_a_kill(service, seed=seed)),
    ]
    print(f"{'worst, mean':36} {'service':16} {'used':>14} {'throttled':>14} {'fairness':>12}")
    for title, scenario in scenarios:
        for service in SERVICES:
            runs = [scenario(service, seed) for seed in seeds]
            used, throttled = [r.used for r in runs], [r.throttled for r in runs]
            fairness = [r.fairness for r in runs]
            print(
                f"{title:36} {service:16} {min(used):6.1%} {statistics.mean(used):7.1%}"
                f" {max(throttled):6.1%} {statistics.mean(throttled):7.1%}"
                + (
                    f" {min(fairness):5.2f} {statistics.mean(fairness):6.2f}"
                    if len(runs[0].shares) > 1 and " to the end" not in title
                    else ""
                ),
                flush=True,
            )


if __name__ == "__main__":
    print_table()
