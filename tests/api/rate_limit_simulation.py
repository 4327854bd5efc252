"""Pacing against a simulated service, on a virtual clock: no network, no threads, no sleeping.

``python -m tests.api.rate_limit_simulation`` prints the table of figures; with ``shares``, how even four tasks get
at one limit, and what it would cost to make them more even.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import math
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_ims.api import rate_limit
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
        return self.waiting_for < min(self.in_flight, getattr(self.control, "window", 999)) and len(self.admitted) + self.waiting_for < self.requests


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
    def even(self) -> bool:
        """Whether each task got 0.6 to 1.4 of an equal part: of four, 15 to 35 % of the whole."""
        return min(self.shares) >= 0.6 and max(self.shares) <= 1.4


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
                task.control.no_answer()
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


LAW = RateControl

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
    in_flight: int = 8,
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
            LAW(max_requests_per_second=ceiling),
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
            LAW(),
            requests,
            in_flight=8,
            starts_at=rng.uniform(0, 5) if number else 0.0,
            killed_at=killed_at if number < 4 else math.inf,
            anew_at=killed_at + rng.uniform(14, 22),
            control_anew=LAW(),
        )
        for number in range(8)
    ]
    return simulate(SERVICES[service](steady(limit), seed), tasks, to_the_end=True, seed=seed)


def spread(runs: list[Figures]) -> float:
    """How far shares lie from an equal part, as a standard deviation."""
    return statistics.pstdev((share for figures in runs for share in figures.shares), mu=1)


def print_table(seeds: range = range(1, 6)) -> None:
    """Of several runs each: the lowest use, the highest share of throttled requests, the extreme shares."""
    after_throttle = {
        "": lambda seconds: None,
        "told when": lambda seconds: seconds,
        "told 1 s": lambda seconds: 1.0,
    }
    scenarios: list[tuple[str, dict[str, Any]]] = [
        *(
            (f"1 task at {limit}/s{note and ', ' + note}", {"limit": limit, "heeded": heeded})
            for limit in (50, 10, 200)
            for note, heeded in after_throttle.items()
        ),
        ("1 task at 2/s", {"limit": 2, "requests": 200}),
        ("1 task at 500/s, 16 in flight", {"limit": 500, "requests": 8000, "in_flight": 16}),
        ("1 task at 10/s, answers take 0.5 s", {"limit": 10, "answer_seconds": 0.5}),
        (
            "1 task at 4/s, 16 in flight, 2 s",
            {"limit": 4, "in_flight": 16, "answer_seconds": 2.0, "requests": 300},
        ),
        (
            "50/s becomes 25/s, from then on",
            {"limit": changing(50, 25, at=20), "requests": 9999, "since": 20, "until": 50},
        ),
        (
            "50/s becomes 100/s, from then on",
            {"limit": changing(50, 100, at=20), "requests": 9999, "since": 20, "until": 50},
        ),
        (
            "2 tasks at 50/s, the second 20 s later; 30 s on",
            {"limit": 50, "tasks": 2, "apart": 20.0, "requests": 9999, "since": 50, "until": 110},
        ),
        ("2 tasks at 10/s", {"limit": 10, "tasks": 2, "requests": 400}),
        ("4 tasks at 50/s", {"limit": 50, "tasks": 4}),
        (
            "4 tasks at 50/s, after 60 s",
            {"limit": 50, "tasks": 4, "requests": 9999, "since": 60, "until": 124},
        ),
        ("4 tasks at 200/s", {"limit": 200, "tasks": 4, "requests": 3200}),
        ("16 tasks at 50/s", {"limit": 50, "tasks": 16, "requests": 200}),
    ]
    print(f"{'':48} {'service':16} {'used':>6} {'throttled':>9}  shares (1 = equal)")
    for title, how in scenarios:
        for service in SERVICES:
            runs = [run(service, seed=seed, **how) for seed in seeds]
            shares = [share for figures in runs for share in figures.shares]
            fair = sum(0.6 <= share <= 1.4 for share in shares) / len(shares)
            print(
                f"{title:48} {service:16} {min(figures.used for figures in runs):6.1%}"
                f" {max(figures.throttled for figures in runs):9.1%}"
                + (
                    f"  {min(shares):.2f} to {max(shares):.2f}; {fair:.0%} within 0.6 to 1.4"
                    if len(shares) > len(runs)
                    else ""
                ),
                flush=True,
            )

    for service in SERVICES:
        runs = [run_with_a_kill(service, seed=seed) for seed in seeds]
        print(
            f"{'8 tasks at 50/s, 4 killed, to the end':48} {service:16} {min(figures.used for figures in runs):6.1%}"
            f" {max(figures.throttled for figures in runs):9.1%}"
            f"  the last at {max(figures.slowest for figures in runs):.2f} of the median",
            flush=True,
        )


def print_shares(seeds: range = range(1, 161)) -> None:
    """How often four tasks get 15 to 35 % of a limit of 50 each, for three speeds of climbing.

    Climbing faster makes more throttles, by which tasks learn of each other; eight tasks pay the most for it.
    """
    chosen = rate_limit.CLIMB
    for speed in (1.0, 1.4, 1.9):
        rate_limit.CLIMB = chosen * speed
        print(f"climbing {speed:.1f} times as fast")
        for service in SERVICES:
            for requests in (800, 3200) if speed == 1.0 and service == "bucket of 0.1 s" else (800,):
                runs = [run(service, 50, tasks=4, requests=requests, seed=seed) for seed in seeds]
                print(
                    f"  {service:16} four tasks of {20 * requests:,} ids: even in"
                    f" {sum(figures.even for figures in runs) / len(runs):4.0%} of {len(runs)} runs,"
                    f" spread {spread(runs):.2f},"
                    f" {statistics.mean(figures.throttled for figures in runs):.1%} throttled",
                    flush=True,
                )
        eights = [run_with_a_kill("bucket of 0.1 s", seed=seed).throttled for seed in seeds]
        print(f"  eight tasks, four killed: {statistics.mean(eights):.1%} throttled", flush=True)
    rate_limit.CLIMB = chosen


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.api.rate_limit_simulation", description=__doc__)
    parser.add_argument("figures", nargs="?", choices=("table", "shares"), default="table")
    {"table": print_table, "shares": print_shares}[parser.parse_args().figures]()
