"""``python -m tests.faults``: generated runs, each held against the emulator's books."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

# Read by the libraries when they are imported, here and in the processes that are started.
os.environ |= {"ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true", "no_proxy": "127.0.0.1,localhost"}


from airflow_provider_ims.emulator import Emulator
from tests.faults.runner import Runner, short_waits
from tests.faults.scenario import make_scenario
from tests.faults.share import run_share


def replay(seed: int) -> int:
    """Run one scenario with everything said."""
    logging.basicConfig(level=logging.INFO, format="%(threadName)s %(name)s: %(message)s")
    logging.getLogger("airflow_provider_ims").setLevel(logging.DEBUG)
    scenario = make_scenario(seed)
    for name in ("kind", "rules", "interruptions", "batch_size", "concurrency", "report", "durable"):
        print(f"{name}: {getattr(scenario, name)}")
    with Emulator("--keep-requests", "100000") as emulator, short_waits():
        runner = Runner(emulator)
        findings = runner.run(scenario)
        runner.close()
    print(f"tries: {runner.interruptions}, faults: {runner.faults}")
    print("\n".join(findings.wrong) or "nothing wrong")
    return bool(findings.wrong)


def main() -> int:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument(
        "--seed", type=int, default=1, help="of the first scenario; each next one's is one more"
    )
    parser.add_argument("--seconds", type=float, help="begin no further run after this time")
    parser.add_argument("--jobs", type=int, default=2, help="processes, each with an emulator of its own")
    parser.add_argument("--replay", type=int, metavar="SEED", help="run this one scenario, with its log")
    arguments = parser.parse_args()
    if arguments.replay is not None:
        return replay(arguments.replay)
    began = time.monotonic()
    jobs = max(1, arguments.jobs)
    shares = [
        (arguments.seed + job, jobs, len(range(job, arguments.runs, jobs)), arguments.seconds)
        for job in range(jobs)
    ]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        parts = list(pool.map(run_share, shares))
    return report(parts, time.monotonic() - began)


def report(parts: list[dict[str, Any]], seconds: float) -> int:
    """Print the figures; 1 if anything was wrong."""
    figures, faults, ends = Counter[str](), Counter[str](), Counter[str]()
    failures: list[tuple[int, list[str]]] = []
    for part in parts:
        figures.update(part["figures"])
        faults.update(part["faults"])
        ends.update(part["ends"])
        failures += part["failures"]
    print(f"{figures['runs']:,} runs, {figures['targets']:,} targets in {seconds:.0f} s")
    print(f"{sum(faults.values()):,} faults fired, of {len(faults)} kinds:")
    for name, count in faults.most_common():
        print(f"  {name:24}{count:8,}")
    print("tries that ended by:")
    for name, count in ends.most_common():
        print(f"  {name:24}{count:8,}")
    print(
        f"missing, called deleted since an answer about them was lost: {figures['missing_called_deleted']:,}"
    )
    print(
        f"  of them never sent, but next in line when the worker was killed: {figures['never_sent_called_deleted']:,}"
    )
    print(f"asked about again although their answer had come (kills): {figures['asked_again']:,}")
    print(f"runs with anything wrong: {len(failures)}")
    for seed, _ in sorted(failures)[:50]:
        print(f"  python -m tests.faults --replay {seed}")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
