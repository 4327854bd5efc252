"""Row 4: how much of a limit that nobody told is used, and how often the service has to refuse."""

from __future__ import annotations

import logging
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import repeat

from airflow_provider_ims.emulator.server import Emulator
from benchmarks import peers
from benchmarks.rows import Figure, Measured, Quantity, Row
from benchmarks.service import ANSWER_MS, BATCH, batches, emulator, start

# A bucket of one token would measure how evenly a busy machine wakes its threads.
BURST_SECONDS = 0.1
SECONDS = {10: 60, 50: 20, 200: 10}
"""How long each limit is watched, from a contender's first request on."""
ROUNDS = {10: 2, 50: 3, 200: 3}
ALONE = 200
"""From this limit on a contender needs the machine for itself; below, all run at once, each at its own emulator."""
CURVE_SECONDS = {10: 4.0, 50: 1.0, 200: 0.5}
OURS = "operator's run"
CONTENDERS = {OURS: 0, "SDK, 1 thread": 1, "SDK, 8 threads": 8, "SDK, 16 threads": 16}


def measure(short: bool) -> Measured:
    """Watch each for :data:`SECONDS`, search for the limit included; there is more to delete than gets through."""
    measured = Measured({})
    with ExitStack() as stack:
        # Room for every request: the emulator's books tell what was let through, and when.
        services = {name: stack.enter_context(emulator("--keep-requests", "20000")) for name in CONTENDERS}
        for number in range(1 if short else max(ROUNDS.values())):
            for limit, seconds in SECONDS.items():
                if number >= ROUNDS[limit]:
                    continue
                groups = [[name] for name in CONTENDERS] if limit >= ALONE else [list(CONTENDERS)]
                for group in groups[:: 1 if number % 2 == 0 else -1]:
                    for name in group:
                        _prepare(services[name], limit, limit * (seconds + 2))
                    with ThreadPoolExecutor(len(group)) as pool:
                        list(pool.map(_watch, map(services.get, group), group, repeat(seconds)))
                    for name in group:
                        _take_in(measured, services[name], name, limit, keep_curve=number == 0)
    return measured


def _prepare(service: Emulator, limit: int, requests: int) -> None:
    service.reset()
    service.ask("POST", "/seed", {"count": requests * BATCH})
    service.add_fault("delay", milliseconds=ANSWER_MS)
    service.add_fault("limit", rate=limit, burst=max(1, limit * BURST_SECONDS))


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
        time.sleep(seconds + 0.5)
        process.kill()


def _take_in(measured: Measured, service: Emulator, contender: str, limit: int, *, keep_curve: bool) -> None:
    seconds = SECONDS[limit]
    entries = service.requests("DeleteMediaInfos")
    began = entries[0]["at"]
    entries = [entry for entry in entries if entry["at"] < began + seconds]
    through = [entry["at"] for entry in entries if entry["done"]]
    values = {
        "used": 100 * len(through) / seconds / limit,
        "throttled": 100 * (1 - len(through) / len(entries)),
    }
    quantities = measured.samples.setdefault(contender, {})
    for quantity, value in values.items():
        quantities.setdefault(f"{quantity}_{limit}", []).append(value)
    if keep_curve:
        width = CURVE_SECONDS[limit]
        counts = [0] * round(seconds / width)
        for at in through:
            counts[min(int((at - began) / width), len(counts) - 1)] += 1
        measured.curves[f"{contender}|{limit}"] = [
            [(number + 0.5) * width, 100 * count / width / limit] for number, count in enumerate(counts)
        ]


def figures(measured: Measured) -> list[Figure]:
    """Judge each limit."""
    found = []
    for limit in SECONDS:
        quantities = measured.samples[OURS]
        used = statistics.median(quantities[f"used_{limit}"])
        throttled = statistics.median(quantities[f"throttled_{limit}"])
        found += [
            Figure(
                f"used of {limit} a second",
                used,
                "%",
                at_least=90,
                digits=1,
                reason=f"The search for the limit is within the {SECONDS[limit]} s that are counted; the plot shows "
                "how long it lasts. A quicker one gives tasks that start together less even shares.",
            ),
            Figure(f"throttled at {limit} a second", throttled, "%", at_most=3, digits=1),
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


def _quantities() -> dict[str, Quantity]:
    found: dict[str, Quantity] = {}
    for limit in SECONDS:
        found[f"used_{limit}"] = Quantity(f"used of {limit}/s", "%", 1)
        found[f"throttled_{limit}"] = Quantity(f"throttled at {limit}/s", "%", 1)
    return found


ROW = Row(
    number=4,
    name="limit",
    title="An unknown limit",
    how="The emulator lets 10, 50 or 200 requests a second through (a bucket of a tenth of a second) and answers "
    "after 30 ms; nobody is told. Counted in its books for 60, 20 and 10 s from the first request on, so that the "
    "search for the limit is part of it. The SDK is called through tenacity (random exponential pauses, up to 20 s). "
    "At 10 and 50 a second all run at the same time, each at an emulator of its own; at 200 one after the other.",
    quantities=_quantities(),
    measure=measure,
    figures=figures,
)

if __name__ == "__main__":
    main()
