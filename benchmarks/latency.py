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
WIDER = "operator's run, max_concurrency=16"


def measure(short: bool) -> Measured:
    """Delete 2,000 media by each in turn."""
    contenders = [OURS, THREADS] if short else [OURS, WIDER, LOOP, THREADS]
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
            Figure(
                "time, of the SDK's loop",
                ratio(samples, "seconds", OURS, LOOP),
                at_most=0.15,
                digits=3,
                reason="With 1 request in flight, then 3, then 8, 100 requests are 14 waves: 0.14 of a loop before "
                "anything else. To begin with more would mean more refusals where the limit is low.",
            )
        )
    if WIDER in samples:
        wider = ratio(samples, "seconds", WIDER, THREADS)
        found.append(Figure("with 16 requests in flight, of the SDK's in 8 threads", wider))
    least = min(samples[OURS]["seconds"]) / min(samples[THREADS]["seconds"])
    return [
        *found,
        Figure(
            "time, of the SDK's in 8 threads",
            ratio(samples, "seconds", OURS, THREADS),
            at_most=0.9,
            digits=2,
            reason="Both have 8 requests in flight, 14 waves against 13 that don't look for a limit. Only more in "
            "flight are quicker, as the figure before this one shows.",
        ),
        Figure("the same, least of all rounds", least, tolerance=1.5, slack=0.1),
        Figure("requests", max(samples[OURS]["requests"]), digits=0, tolerance=1.05),
    ]


def main() -> None:
    """Delete what comes on standard input; print how long that took, imports and connection apart."""
    logging.disable(logging.WARNING)
    sabotage()
    contender, host = sys.argv[1:]
    ids = sys.stdin.read().split()
    in_flight = {OURS: 8, WIDER: 16}.get(contender)
    delete = (peers.hook if in_flight else peers.sdk)(host)
    # One that does not exist, so that nothing is loaded for the first time while the clock runs.
    nothing = ["00000000000000000000000000000000"]
    if in_flight:
        from airflow_provider_ims.hooks.ims import IMSHook

        IMSHook().delete_media(nothing)
    else:
        delete(nothing)
    began = time.perf_counter()
    if in_flight:
        # A hook of its own, which knows no pace and has no connection yet.
        IMSHook().delete_media(ids, max_concurrency=in_flight)
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
    "for each, with 8 requests in flight unless told otherwise) against the SDK with batches of 20, one after the "
    "other and in 8 threads, which look at no answer. Imports and one first request don't count.",
    quantities={"seconds": Quantity("time", "s", 2), "requests": Quantity("requests", "")},
    measure=measure,
    figures=figures,
)

if __name__ == "__main__":
    main()
