"""Row 2: the processor time of one ``DeleteMediaInfos``."""

from __future__ import annotations

import json
import logging
import statistics
import sys
import time

from benchmarks import peers
from benchmarks.rows import Figure, Measured, Quantity, Row, in_alternation, ratio
from benchmarks.sabotage import sabotage
from benchmarks.service import BATCH, batches, ceiling, emulator, run

# By then the pace has found that there is no limit, and what is left is the cost.
WARM_UP = 600


def measure(short: bool) -> Measured:
    """Let each delete as many media, twenty a request, one request after the other, in a process of its own."""
    requests = 600 if short else 1000
    contenders = ["hook", "http.client"] if short else list(peers.CONTENDERS)
    with emulator() as service:
        limit = ceiling(service)

        def delete(contender: str) -> dict[str, float]:
            service.reset()
            ids = service.generate((WARM_UP + requests) * BATCH)
            return run("cost", contender, service.host, ids=ids)

        samples = in_alternation(3 if short else 5, contenders, delete)
    note = (
        f"The emulator itself takes up to {limit['per_second']:,.0f} requests a second "
        f"and {limit['cpu_us']:.0f} µs of its own processor for each."
    )
    return Measured(samples, notes=[note])


def figures(measured: Measured) -> list[Figure]:
    """Judge against the SDK; hold against the floor."""
    samples = measured.samples
    found = []
    if "SDK" in samples:
        found = [
            Figure("CPU, of the SDK's", ratio(samples, "cpu_us", "hook", "SDK"), at_most=0.8),
            Figure("CPU, of that of plain requests", ratio(samples, "cpu_us", "hook", "requests")),
        ]
    for quantity, words in (("cpu_us", "CPU"), ("quick_us", "time of the quickest twentieth")):
        least = {name: min(values[quantity]) for name, values in samples.items()}
        found.append(
            Figure(
                f"{words}, of that of http.client with a signature, least of all rounds",
                least["hook"] / least["http.client"],
                tolerance=1.3,
            )
        )
    return found


def main() -> None:
    """Delete what comes on standard input; print what a request cost."""
    logging.disable(logging.WARNING)
    sabotage()
    contender, host = sys.argv[1:]
    delete = peers.CONTENDERS[contender](host)
    todo = batches(sys.stdin.read().split())
    for batch in todo[:WARM_UP]:
        delete(batch)
    todo = todo[WARM_UP:]
    seconds = []
    used = time.process_time()
    for batch in todo:
        began = time.perf_counter()
        delete(batch)
        seconds.append(time.perf_counter() - began)
    used = time.process_time() - used
    found = {
        "cpu_us": used / len(todo),
        "us": statistics.mean(seconds),
        # However busy the machine is, some calls are not disturbed.
        "quick_us": statistics.quantiles(seconds, n=20)[0],
    }
    print(json.dumps({name: value * 1e6 for name, value in found.items()}))


ROW = Row(
    number=2,
    name="cost",
    title="What one DeleteMediaInfos costs",
    how="1,000 requests for 20 media each, one after the other on one kept connection, after 600 that don't "
    "count; each contender in a process of its own. Floor: http.client with this provider's signature and "
    "nothing else.",
    quantities={
        "cpu_us": Quantity("CPU a request", "µs"),
        "us": Quantity("time a request", "µs"),
        "quick_us": Quantity("the quickest twentieth", "µs"),
    },
    measure=measure,
    figures=figures,
)

if __name__ == "__main__":
    main()
