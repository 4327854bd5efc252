"""Row 3: how long a small run takes when each answer takes 30 ms."""

from __future__ import annotations

import json
import logging
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks import peers
from benchmarks.rows import Figure, Measured, Quantity, Row, in_alternation, ratio
from benchmarks.sabotage import sabotage
from benchmarks.service import ANSWER_MS, batches, emulator, run

IDS = 2000
OURS, LOOP, THREADS = "operator's run", "SDK in a loop", "SDK in 8 threads"
EIGHT = "operator's run, max_concurrency=8"


def measure(short: bool) -> Measured:
    """Delete 2,000 media by each in turn."""
    contenders = [OURS, THREADS] if short else [OURS, EIGHT, LOOP, THREADS]
    with emulator() as service:

        def delete(contender: str) -> dict[str, float]:
            service.reset()
            ids = service.generate(IDS)
            service.add_fault("delay", milliseconds=ANSWER_MS)
            took = run("latency", contender, service.host, ids=ids)
            if (gone := len(service.deleted())) != IDS:
                raise RuntimeError(f"{contender} deleted {gone} of {IDS}")
            return took | {"requests": service.stats()["by_action"]["DeleteMediaInfos"]}

        return Measured(in_alternation(3 if short else 5, contenders, delete))


def figures(measured: Measured) -> list[Figure]:
    """Judge against both ways of using the SDK."""
    samples = measured.samples
    found = []
    if LOOP in samples:
        found.append(
            Figure("time, of the SDK's loop", ratio(samples, "seconds", OURS, LOOP), at_most=0.11, digits=3)
        )
    if EIGHT in samples:
        eight = ratio(samples, "seconds", EIGHT, THREADS)
        found.append(Figure("with 8 requests in flight, of the SDK's in 8 threads", eight))
    least = min(samples[OURS]["seconds"]) / min(samples[THREADS]["seconds"])
    return [
        *found,
        Figure("time, of the SDK's in 8 threads", ratio(samples, "seconds", OURS, THREADS), at_most=0.8),
        Figure("the same, least of all rounds", least, tolerance=1.5, slack=0.1),
        Figure("requests", max(samples[OURS]["requests"]), digits=0, tolerance=1.05),
    ]


def main() -> None:
    """Delete what comes on standard input; print how long that took, imports and connection apart."""
    logging.disable(logging.WARNING)
    sabotage()
    contender, host = sys.argv[1:]
    ids = sys.stdin.read().split()
    is_ours = contender in (OURS, EIGHT)
    delete = (peers.hook if is_ours else peers.sdk)(host)
    # One that does not exist, so that nothing is loaded for the first time while the clock runs.
    nothing = ["00000000000000000000000000000000"]
    if is_ours:
        from airflow_provider_ims.hooks.ims import IMSHook

        IMSHook().delete_media(nothing)
    else:
        delete(nothing)
    began = time.perf_counter()
    if is_ours:
        # A hook of its own, which knows no pace and has no connection yet.
        IMSHook().delete_media(ids, **({"max_concurrency": 8} if contender == EIGHT else {}))
    elif contender == LOOP:
        for batch in batches(ids):
            delete(batch)
    else:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(delete, batches(ids)))
    print(json.dumps({"seconds": time.perf_counter() - began}))


ROW = Row(
    number=3,
    name="latency",
    title="2,000 media at 30 ms an answer",
    how="What the operator runs (IMSHook.delete_media, which finds the pace from nothing and knows an outcome "
    "for each; nothing is tuned) against the SDK with batches of 20, one after the "
    "other and in 8 threads, which look at no answer. Imports and one first request don't count.",
    quantities={"seconds": Quantity("time", "s", 2), "requests": Quantity("requests", "")},
    measure=measure,
    figures=figures,
)

if __name__ == "__main__":
    main()
