"""What planning costs, and how it fares against a naive selection and a faulty service.

``python -m tests.retention.figures`` prints a line for each figure and fails if one is missed. ``--media`` sets the
size of the large library, a million by default, which takes some five minutes.
"""

from __future__ import annotations

import argparse
import os
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
from airflow_provider_ims.deletion.run import DeletionRun
from airflow_provider_ims.deletion.targets import read_targets
from airflow_provider_ims.emulator.server import Emulator
from airflow_provider_ims.retention.listing import list_whole
from airflow_provider_ims.retention.page import write_page
from airflow_provider_ims.retention.plan import Plan, read_caps, write_plan
from airflow_provider_ims.retention.policy import make_policy, why_kept
from benchmarks.service import peak_megabytes

TESTS = Path(__file__).parent
missed = []


def figure(what: str, value: float, at_most: float, unit: str) -> None:
    """Print a figure, and remember if it is missed."""
    good = value <= at_most
    print(
        f"{'ok    ' if good else 'MISSED'} {what}: {value:,.2f} {unit} (at most {at_most:,.2f})", flush=True
    )
    if not good:
        missed.append(what)


class TimedClient(IMSClient):
    """Counts the seconds that its calls take, from signing to the typed answer."""

    def __init__(self, emulator: Emulator) -> None:
        credentials = StaticCredentials(emulator.access_key_id, emulator.access_key_secret)
        super().__init__(parse_host(emulator.endpoint), credentials)
        self.seconds = 0.0

    def call(self, *arguments: Any, **options: Any) -> Any:
        started = time.monotonic()
        try:
            return super().call(*arguments, **options)
        finally:
            self.seconds += time.monotonic() - started


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


def plan_large_library(emulator: Emulator, folder: str, count: int) -> dict[str, float]:
    """Plan a library of a certain size; tell what that took."""
    emulator.reset()
    emulator.ask("POST", "/seed", {"count": count})
    as_of = datetime.now(UTC).replace(microsecond=0)
    client = TimedClient(emulator)
    before_memory = peak_megabytes()
    started = time.monotonic()
    made = plan(client, folder, as_of, "P365D")
    return {
        "seconds": time.monotonic() - started,
        "list_seconds": client.seconds,
        "megabytes": peak_megabytes() - before_memory,
        "requests": client.tally.requests,
        "population": made.header["population"],
        "selected": made.header["selected"],
    }


def large_library(emulator: Emulator, folder: str, count: int) -> None:
    found = plan_large_library(emulator, folder, count)
    print(
        f"       planned {found['selected']:,} of {found['population']:,} media in {found['seconds']:.0f} s"
    )
    if found["population"] != count:
        missed.append("population")
    figure("memory above the baseline", found["megabytes"], 300, "MB")
    figure("time, of that of the list requests alone", found["seconds"] / found["list_seconds"], 1.3, "times")
    figure("requests", found["requests"], count / 99 + 3, "")


def deletion_of_a_plan(emulator: Emulator, folder: str) -> None:
    emulator.reset()
    emulator.ask("POST", "/seed", {"count": 5000})
    client = TimedClient(emulator)
    made = plan(client, folder, datetime.now(UTC).replace(microsecond=0), "P365D")
    targets = read_targets(manifest=f"{folder}/plan.jsonl")
    before = client.tally
    result = DeletionRun(
        client, targets, why_kept=lambda row, now: why_kept(made.header["policy"], row, now)
    ).execute()
    assert result["deleted"] == made.header["selected"] == len(emulator.deleted())
    batches = -(-made.header["selected"] // 20)
    figure(
        f"requests to delete a plan of {len(targets):,}",
        (client.tally - before).requests,
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
        large_library(emulator, folder, count)
        deletion_of_a_plan(emulator, folder)
    os.environ["GENERATED_RUNS"] = "1000"
    tests_of("test_listing.py", "generated")
    tests_of("test_retention.py", "naive")
    sys.exit(f"missed: {', '.join(missed)}" if missed else 0)


if __name__ == "__main__":
    main()
