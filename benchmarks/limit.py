"""Row 4: how much of a limit that nobody told is used, and how often the service has to refuse."""

from __future__ import annotations

import logging
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import repeat
from typing import NamedTuple

from airflow_provider_ims.deletion.run import DEFAULT_CONCURRENCY
from airflow_provider_ims.emulator import Emulator
from benchmarks import peers
from benchmarks.rows import Figure, Measured, Quantity, Row
from benchmarks.service import BATCH, batches, emulator, start

# A bucket of one token would measure how evenly a busy machine wakes its threads: what comes a millisecond early is
# refused. The simulation, `tests.api.rate_limit_simulation`, shows it beside others.
BURST_SECONDS, SMALLEST_BURST = 0.1, 2
OPENING_SECONDS = 10
"""The search for the limit lies in these, and is shown by itself."""
OURS = "operator's run"
CONTENDERS = {OURS: 0, "SDK, 1 thread": 1, "SDK, 8 threads": 8, "SDK, 16 threads": 16}
FAST, SLOW = 30, 300
"""Milliseconds an answer."""
ALONE = 200
"""From this limit on a contender needs the machine for itself; below, all run at once, each at its own emulator."""


class Watch(NamedTuple):
    """How a limit is watched.

    :param limit: requests a second.
    :param answer_ms: that each answer takes.
    :param seconds: from a contender's first request on.
    :param contenders: of :data:`CONTENDERS`.
    :param bin_seconds: width of a point of the curve.
    """

    limit: int
    answer_ms: int
    seconds: int
    rounds: int
    contenders: tuple[str, ...]
    bin_seconds: float

    @property
    def words(self) -> str:
        """What it is called."""
        return f"{self.limit:,} a second at {self.answer_ms} ms"

    def row_of(self, contender: str) -> str:
        """What a contender's row and curve are called."""
        return f"{self.words}: {contender}"

    @property
    def reachable(self) -> float:
        """Requests a second that get through at best, with as many in flight as by default."""
        return min(self.limit, DEFAULT_CONCURRENCY / self.answer_ms * 1000)


IN_FLIGHT = f"{DEFAULT_CONCURRENCY} requests in flight"
ALL, WIDEST = tuple(CONTENDERS), (OURS, "SDK, 16 threads")
WATCHES = (
    Watch(10, FAST, 60, 2, ALL, 4.0),
    Watch(50, FAST, 20, 3, ALL, 1.0),
    Watch(200, FAST, 10, 3, ALL, 0.5),
    Watch(1000, FAST, 10, 2, WIDEST, 0.5),
    Watch(10, SLOW, 60, 1, WIDEST, 4.0),
    Watch(50, SLOW, 60, 1, WIDEST, 2.0),
    Watch(200, SLOW, 20, 2, WIDEST, 1.0),
    Watch(1000, SLOW, 20, 1, WIDEST, 1.0),
)


def measure(short: bool) -> Measured:
    """Watch each, search for the limit included; there is more to delete than gets through."""
    measured = Measured({})
    with ExitStack() as stack:
        # Room for every request: the emulator's books tell what was let through, and when.
        services = {name: stack.enter_context(emulator("--keep-requests", "20000")) for name in CONTENDERS}
        watches = WATCHES[:3] if short else WATCHES
        for number in range(1 if short else max(watch.rounds for watch in watches)):
            for watch in watches:
                if number >= watch.rounds:
                    continue
                names = list(watch.contenders)
                groups = [[name] for name in names] if watch.limit >= ALONE else [names]
                for group in groups[:: 1 if number % 2 == 0 else -1]:
                    for name in group:
                        _prepare(services[name], watch)
                    with ThreadPoolExecutor(len(group)) as pool:
                        list(pool.map(_watch, map(services.get, group), group, repeat(watch.seconds)))
                    for name in group:
                        _take_in(measured, services[name], name, watch, keep_curve=number == 0)
    return measured


def _prepare(service: Emulator, watch: Watch) -> None:
    service.reset()
    service.ask("POST", "/seed", {"count": round(watch.reachable * 1.1 * (watch.seconds + 2)) * BATCH})
    service.add_fault("delay", milliseconds=watch.answer_ms)
    service.add_fault("limit", rate=watch.limit, burst=max(SMALLEST_BURST, watch.limit * BURST_SECONDS))


def _watch(service: Emulator, contender: str, seconds: float) -> None:
    """Let a contender run for a while, then end its process: what is left to delete is of no interest."""
    process = start("limit", contender, service.host)
    assert process.stdin
    assert process.stdout
    with process:
        process.stdin.write("\n".join(service.media_ids()))
        process.stdin.close()
        if not process.stdout.readline():
            raise RuntimeError(f"{contender} ended with {process.wait()}")
        # Counted from the first request on: checking 400,000 ids takes some seconds.
        while not service.stats()["by_action"].get("DeleteMediaInfos"):
            time.sleep(0.05)
        time.sleep(seconds + 0.5)
        process.kill()


def _take_in(
    measured: Measured, service: Emulator, contender: str, watch: Watch, *, keep_curve: bool
) -> None:
    entries = service.requests("DeleteMediaInfos")
    began = entries[0]["at"]
    entries = [entry for entry in entries if entry["at"] < began + watch.seconds]
    through = [entry["at"] for entry in entries if entry["done"]]
    values = {
        "used": 100 * len(through) / watch.seconds / watch.limit,
        "throttled": 100 * (1 - len(through) / len(entries)),
    }
    quantities = measured.samples.setdefault(watch.row_of(contender), {})
    for quantity, value in values.items():
        quantities.setdefault(quantity, []).append(value)
    if keep_curve:
        width = watch.bin_seconds
        counts = [0] * round(watch.seconds / width)
        for at in through:
            counts[min(int((at - began) / width), len(counts) - 1)] += 1
        measured.curves[watch.row_of(contender)] = [
            [(number + 0.5) * width, 100 * count / width / watch.limit] for number, count in enumerate(counts)
        ]


def figures(measured: Measured) -> list[Figure]:
    """Judge each limit."""
    found = []
    for watch in WATCHES:
        row = watch.row_of(OURS)
        if row not in measured.samples:
            continue
        used, throttled = (statistics.median(measured.samples[row][name]) for name in ("used", "throttled"))
        curve = measured.curves[row]
        opening = [share for at, share in curve if at < OPENING_SECONDS]
        afterwards = [share for _, share in curve[len(curve) // 2 :]]
        # At 1,000 a second the processors are the limit, and the emulator works on the same.
        is_judged = watch.reachable < 1000
        of = (
            "" if watch.reachable == watch.limit else f", of the {watch.reachable:.0f} that {IN_FLIGHT} allow"
        )
        reachable = watch.reachable / watch.limit
        found += [
            Figure(
                f"used of {watch.words}{of}",
                used / reachable,
                "%",
                at_least=90 if is_judged else None,
                digits=1,
                reason=f"The first search for the limit is within the {watch.seconds} s that are counted. Then each "
                "refusal costs a step back, and the way up again: steeper ways use more and are refused more, and "
                "give tasks that start together less even shares.",
            ),
            *(
                Figure(f"used of it in the {part}", statistics.mean(shares) / reachable, "%", digits=1)
                for part, shares in (
                    (f"first {OPENING_SECONDS} s, with the search", opening),
                    ("second half of the time", afterwards),
                )
                if len(shares) < len(curve)
            ),
            Figure(f"throttled at {watch.words}", throttled, "%", at_most=4, digits=1),
        ]
    return found


def main() -> None:
    """Delete what comes on standard input, after a line that says that it begins."""
    logging.disable(logging.WARNING)
    contender, host = sys.argv[1:]
    ids = sys.stdin.read().split()
    delete = peers.hook(host) if contender == OURS else peers.sdk_with_tenacity(host)
    sys.stdout.write("begins\n")
    sys.stdout.flush()
    if contender == OURS:
        from airflow_provider_ims.hooks.ims import IMSHook

        IMSHook().delete_media(ids)
    else:
        with ThreadPoolExecutor(CONTENDERS[contender]) as pool:
            list(pool.map(delete, batches(ids)))


ROW = Row(
    number=4,
    name="limit",
    title="An unknown limit",
    how="The emulator lets 10, 50, 200 or 1,000 requests a second through (a bucket of a tenth of a second, of two "
    "requests at least) and answers after 30 or 300 ms; nobody is told. Counted in its books for 60, 20 or 10 s "
    "from the first request on, so that the search for the limit is part of it. The SDK is called through "
    "tenacity (random exponential pauses, up to 20 s). At 10 and 50 a second all run at the same time, each at "
    "an emulator of its own; else one after the other. At 1,000 a second and 30 ms the two processors of the "
    "machine are the limit, which the emulator shares.",
    quantities={
        "used": Quantity("used of the limit", "%", 1),
        "throttled": Quantity("throttled, of all requests", "%", 1),
    },
    measure=measure,
    figures=figures,
)

if __name__ == "__main__":
    main()
