"""What planning costs, and how it fares against a naive selection and a faulty service.

``python -m tests.retention.figures`` prints a line for each figure and fails if one is missed. ``--media`` sets the
size of the large library, a million by default, which takes some five minutes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_ims.api.client import IMSClient
from airflow_provider_ims.api.credentials import StaticCredentials
from airflow_provider_ims.api.endpoints import parse_host
from airflow_provider_ims.api.rate_limit import RateLimiter
from airflow_provider_ims.api.times import write_time
from airflow_provider_ims.deletion.run import DeletionRun
from airflow_provider_ims.deletion.targets import read_targets
from airflow_provider_ims.emulator import Emulator
from airflow_provider_ims.retention import listing
from airflow_provider_ims.retention.listing import MAX_WINDOWS, list_whole
from airflow_provider_ims.retention.page import write_page
from airflow_provider_ims.retention.plan import Plan, read_caps, write_plan
from airflow_provider_ims.retention.policy import make_policy, why_kept
from benchmarks.service import peak_megabytes

TESTS = Path(__file__).parent
AS_OF = datetime.now(UTC).replace(microsecond=0)
missed = []


def figure(what: str, value: float, at_most: float, unit: str) -> None:
    """Print a figure, and remember if it is missed."""
    good = value <= at_most
    print(
        f"{'ok    ' if good else 'MISSED'} {what}: {value:,.2f} {unit} (at most {at_most:,.2f})", flush=True
    )
    if not good:
        missed.append(what)


def client_of(emulator: Emulator) -> IMSClient:
    """A client as a hook makes it."""
    credentials = StaticCredentials(emulator.access_key_id, emulator.access_key_secret)
    return IMSClient(parse_host(emulator.endpoint), credentials, pace=RateLimiter())


def plan(client: IMSClient, folder: str, as_of: datetime, older_than: str) -> Plan:
    made = write_plan(
        f"{folder}/plan.jsonl",
        list_whole(client, as_of),
        policy=make_policy(as_of=as_of, older_than=older_than, exclude_tags="legal-hold", keep_latest=1000),
        caps=read_caps(None, None),
        as_of=as_of,
        region="cn-shanghai",
        host=client.endpoint.host,
    )
    write_page(made)
    return made


def plan_large_library(
    emulator: Emulator, folder: str, count: int, milliseconds: float = 0, windows: int = MAX_WINDOWS
) -> dict[str, Any]:
    """Plan a library of a certain size; return what that took.

    :param milliseconds: that each answer takes longer than it has to.
    :param windows: how many windows of time are listed side by side at most.
    """
    emulator.reset()
    # The same library and the same moment each time, for the same plan.
    emulator.ask("POST", "/seed", {"count": count, "until": write_time(AS_OF)})
    emulator.drop_faults()
    if milliseconds:
        emulator.add_fault("delay", milliseconds=milliseconds)
    client = client_of(emulator)
    before_memory = peak_megabytes()
    started = time.monotonic()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "MAX_WINDOWS", windows)
        made = plan(client, folder, AS_OF, "P365D")
    return {
        "seconds": time.monotonic() - started,
        "megabytes": peak_megabytes() - before_memory,
        "requests": client.stats.requests,
        "population": made.header["population"],
        "selected": made.header["selected"],
        "digest": made.digest,
    }


def delayed_answers(emulator: Emulator, folder: str) -> None:
    """What it costs that answers take their time: side by side, as a part of what it costs one after the other."""
    costs = {}
    for windows in (1, MAX_WINDOWS):
        runs = [
            [plan_large_library(emulator, folder, 20_000, delay, windows)["seconds"] for delay in (0, 100)]
            for _ in range(3)
        ]
        costs[windows] = statistics.median(late - at_once for at_once, late in runs)
        print(f"       20,000 media, {windows} windows, at 0 and 100 ms: {runs}", flush=True)
    figure("cost of 100 ms an answer, side by side", costs[MAX_WINDOWS] / costs[1], 0.2, "of one by one")


def large_library(emulator: Emulator, folder: str, count: int) -> None:
    one_by_one = plan_large_library(emulator, folder, count, windows=1)
    found = plan_large_library(emulator, folder, count, 30)
    print(
        f"       planned {found['selected']:,} of {found['population']:,} media in {found['seconds']:.0f} s at "
        f"30 ms, one after the other in {one_by_one['seconds']:.0f} s at 0 ms"
    )
    if found["population"] != count or found["digest"] != one_by_one["digest"]:
        missed.append("the same plan")
    figure("time for a million media", found["seconds"] * 1_000_000 / count, 150, "s")
    figure("requests", found["requests"], count / 99 * 1.1 + 100, "")


def deletion_of_a_plan(emulator: Emulator, folder: str) -> None:
    emulator.reset()
    emulator.ask("POST", "/seed", {"count": 5000})
    client = client_of(emulator)
    made = plan(client, folder, datetime.now(UTC).replace(microsecond=0), "P365D")
    targets = read_targets(manifest=f"{folder}/plan.jsonl")
    before = client.stats
    result = DeletionRun(client, targets, why_kept=lambda row, now: why_kept(made.policy, row, now)).execute()
    assert result["deleted"] == made.header["selected"] == len(emulator.deleted())
    batches = -(-made.header["selected"] // 20)
    figure(
        f"requests to delete a plan of {len(targets):,}",
        (client.stats - before).requests,
        1 + 2.3 * batches,
        "",
    )


def tests_of(file: str, name: str) -> None:
    if pytest.main([str(TESTS / file), "-q", "-s", "-k", name, "--no-header", "-p", "no:cacheprovider"]):
        missed.append(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--media", type=int, default=1_000_000, help="size of the large library")
    count = parser.parse_args().media
    with Emulator(start_timeout=120) as emulator, tempfile.TemporaryDirectory() as folder:
        delayed_answers(emulator, folder)
        large_library(emulator, folder, count)
        deletion_of_a_plan(emulator, folder)
    os.environ["GENERATED_RUNS"] = "1000"
    tests_of("test_listing.py", "generated")
    tests_of("test_policy.py", "naive")
    sys.exit(f"missed: {', '.join(missed)}" if missed else 0)


if __name__ == "__main__":
    main()
