"""Row 7: planning the retention of a library: pages side by side, and a library of a million."""

from __future__ import annotations

import json
import logging
import statistics
import sys
import tempfile
import time

from airflow_provider_ims.retention.listing import MAX_WINDOWS
from benchmarks import peers
from benchmarks.rows import Figure, Measured, Quantity, Row, in_alternation, median
from benchmarks.service import emulator, run

FEW, MANY = 20_000, 1_000_000
DELAYS = (0, 30, 100)
SIDE_BY_SIDE, ONE_BY_ONE = f"{FEW:,} media, side by side", f"{FEW:,} media, one page after the other"
SDK, MILLION = f"{FEW:,} media, the SDK, only listed", f"{MANY:,} media, side by side"
TINY = "2,000 media, side by side"
WINDOWS = {TINY: MAX_WINDOWS, SIDE_BY_SIDE: MAX_WINDOWS, ONE_BY_ONE: 1, SDK: 0, MILLION: MAX_WINDOWS}


def measure(short: bool) -> Measured:
    """Plan the small library in each way, then the large one, each in a process of its own."""
    contenders = [SIDE_BY_SIDE, ONE_BY_ONE] if short else [SIDE_BY_SIDE, ONE_BY_ONE, SDK]
    measured = Measured(
        in_alternation(
            1 if short else 3, contenders, lambda way: run("planning", way, str(FEW), *map(str, DELAYS))
        )
    )
    if not short:
        for way, size in ((TINY, 2_000), (MILLION, MANY)):
            found = run("planning", way, str(size), "30")
            measured.samples[way] = {quantity: [value] for quantity, value in found.items()}
    return measured


def figures(measured: Measured) -> list[Figure]:
    """Judge what the answers' delay costs, and what the large library takes."""
    samples = measured.samples
    found = []
    for delay in DELAYS[1:]:
        costs = {
            way: statistics.median(
                late - at_once
                for late, at_once in zip(
                    samples[way][f"seconds_{delay}"], samples[way]["seconds_0"], strict=True
                )
            )
            for way in (SIDE_BY_SIDE, ONE_BY_ONE)
        }
        found.append(
            Figure(
                f"what {delay} ms an answer cost, of that one page after the other",
                costs[SIDE_BY_SIDE] / costs[ONE_BY_ONE],
                at_most=0.2,
            )
        )
    if SDK in samples:
        planned, listed = (median(samples, way, "seconds_100") for way in (SIDE_BY_SIDE, SDK))
        found.append(Figure("plan at 100 ms, of the SDK's listing alone", planned / listed))
    if MILLION in samples:
        found += [
            Figure(
                "plan of a million at 30 ms",
                median(samples, MILLION, "seconds_30"),
                "s",
                at_most=150,
                digits=0,
            ),
            Figure(
                "its memory, more than for 2,000",
                median(samples, MILLION, "megabytes") - median(samples, TINY, "megabytes"),
                "MB",
                at_most=20,
                digits=0,
            ),
            Figure("its requests", median(samples, MILLION, "requests"), digits=0),
        ]
    return found


def main() -> None:
    """Plan, or only list, a library of the size that is named, at each delay; print what it took."""
    logging.disable(logging.WARNING)
    from tests.retention.figures import plan_large_library

    way, count, *delays = sys.argv[1:]
    size = int(count)
    took: dict[str, float] = {}
    with emulator() as service, tempfile.TemporaryDirectory(prefix="ims-benchmark-") as folder:
        for delay in delays:
            if way == SDK:
                service.reset()
                service.ask("POST", "/seed", {"count": size})
                if int(delay):
                    service.add_fault("delay", milliseconds=int(delay))
                pages = peers.sdk_pages(service.host)
                began = time.perf_counter()
                listed = sum(map(len, pages))
                took[f"seconds_{delay}"] = time.perf_counter() - began
            else:
                found = plan_large_library(service, folder, size, int(delay), WINDOWS[way])
                listed = found["population"]
                took["requests"] = found["requests"]
                if len(delays) == 1:  # else it is what an earlier plan had taken already
                    took["megabytes"] = found["megabytes"]
                took[f"seconds_{delay}"] = found["seconds"]
            if listed != size:
                raise RuntimeError(f"{way}: {listed} of {size}")
    print(json.dumps(took))


ROW = Row(
    number=7,
    name="planning",
    title="Planning a library",
    how="Media of all ages are listed (100 a request) from the emulator and held against a policy that selects those "
    "over a year old, keeps the newest 1,000 and all with a legal hold; the plan and its page are written. Side by "
    f"side: up to {MAX_WINDOWS} windows of time at once, as by default; one page after the other: one. The SDK "
    "follows the pages one after the other and does nothing else.",
    quantities={
        **{f"seconds_{delay}": Quantity(f"time at {delay} ms", "s", 1) for delay in DELAYS},
        "megabytes": Quantity("memory", "MB"),
        "requests": Quantity("requests", ""),
    },
    measure=measure,
    figures=figures,
)

if __name__ == "__main__":
    main()
