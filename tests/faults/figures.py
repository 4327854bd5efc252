"""``python -m tests.faults.figures``: how even, and how it ends when the service stays down.

How fast and how small is measured side by side with others, by ``make bench``.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ |= {"ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true", "no_proxy": "127.0.0.1,localhost"}

from airflow_provider_ims.api.client import IMSClient
from airflow_provider_ims.api.credentials import StaticCredentials
from airflow_provider_ims.api.endpoints import parse_host
from airflow_provider_ims.api.errors import IMSThrottlingError, IMSTransientError
from airflow_provider_ims.api.rate_limit import RateLimiter
from airflow_provider_ims.deletion.run import DeletionRun
from airflow_provider_ims.deletion.targets import read_targets
from airflow_provider_ims.emulator import Emulator
from airflow_provider_ims.files.storage import storage_path
from tests.faults.crash import Life, MortalStore

ANSWER_MS = 30
# A bucket of one token would measure how evenly a busy machine wakes its threads.
BURST_SECONDS = 0.1


def delete(endpoint: str, manifest: Path, folder: Path, **options: Any) -> dict[str, Any]:
    """Delete what a manifest names, as the hook does; give the result."""
    client = IMSClient(
        parse_host(endpoint),
        StaticCredentials(Emulator.access_key_id, Emulator.access_key_secret),
        pace=RateLimiter(),
        retry_seconds=options.pop("retry_seconds", 300),
    )
    targets = read_targets(manifest=str(manifest))
    report = storage_path(str(folder))
    return DeletionRun(client, targets, report_base=report, **options).execute()


def start(endpoint: str, manifest: Path, folder: Path) -> subprocess.Popen[str]:
    """The same in a process of its own, as a task."""
    command = [sys.executable, "-m", "tests.faults.figures", "--delete", endpoint, str(manifest), str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def result_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = process.communicate()
    assert process.returncode == 0
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def write(path: Path, ids: list[str]) -> Path:
    path.write_text("\n".join(ids))
    return path


def share(emulator: Emulator, scratch: Path) -> bool:
    """Four tasks at one limit of 50 a second."""
    ids = emulator.generate(64_000)
    emulator.add_fault("delay", milliseconds=ANSWER_MS)
    emulator.add_fault("limit", rate=50, burst=50 * BURST_SECONDS)
    quarters = [ids[part::4] for part in range(4)]
    owner = {media_id: part for part, quarter in enumerate(quarters) for media_id in quarter}
    tasks = [
        start(emulator.endpoint, write(scratch / f"ids-{part}", quarter), scratch / f"report-{part}")
        for part, quarter in enumerate(quarters)
    ]
    results = [result_of(task) for task in tasks]
    # The time in which all four were at it.
    spans: list[list[float]] = [[], [], [], []]
    for entry in emulator.requests("DeleteMediaInfos"):
        if entry["targets"]:
            spans[owner[entry["targets"][0]]].append(entry["at"])
    first, last = max(min(span) for span in spans), min(max(span) for span in spans)
    counts = [sum(first <= at <= last for at in span) for span in spans]
    shares = [count / sum(counts) for count in counts]
    used = sum(counts) / (last - first) / 50
    throttled = sum(result["throttled"] for result in results) / sum(result["requests"] for result in results)
    print(
        f"four tasks at one limit of 50: {', '.join(f'{share:.0%}' for share in shares)} of the whole, "
        f"{used:.1%} of it used, {throttled:.1%} throttled, over {last - first:.0f} s"
    )
    return all(0.15 <= share <= 0.35 for share in shares)


def outage(emulator: Emulator, scratch: Path) -> bool:
    """A service that stays down, and a next try."""
    right = True
    for words, fault, error_type in (
        ("503 only", {"kind": "error", "status": 503}, IMSTransientError),
        ("throttled only", {"kind": "throttle", "status": 400}, IMSThrottlingError),
    ):
        emulator.reset()
        manifest = write(scratch / "ids", emulator.generate(400))
        emulator.add_fault(**fault, skip=10)
        store = MortalStore({}, Life())
        began = time.monotonic()
        ended: BaseException | None = None
        try:
            delete(emulator.endpoint, manifest, scratch / words, store=store, retry_seconds=10)
        except IMSTransientError as error:
            ended = error
        seconds = time.monotonic() - began
        done = len(emulator.deleted())
        emulator.drop_faults()
        result = delete(emulator.endpoint, manifest, scratch / words, store=store, attempt=2)
        lines = sum(len(part.read_text().splitlines()) for part in Path(result["report"]).iterdir())
        print(
            f"{words}, with 10 s of retries: {type(ended).__name__} after {seconds:.1f} s and {done} deletions; "
            f"the next try: {result['deleted']} deleted of {result['requested']}, {lines} lines"
        )
        right &= type(ended) is error_type and result["deleted"] == lines == 400
    return right


FIGURES = {
    "share": share,
    "outage": outage,
}


def main() -> int:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.figures", description=__doc__)
    parser.add_argument(
        "figures", nargs="*", metavar="FIGURE", help=f"of {', '.join(FIGURES)}; all by default"
    )
    parser.add_argument(
        "--delete", nargs=3, metavar=("ENDPOINT", "MANIFEST", "REPORT"), help=argparse.SUPPRESS
    )
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    if arguments.delete:
        endpoint, manifest, folder = arguments.delete
        print(json.dumps(delete(endpoint, Path(manifest), Path(folder))))
        return 0
    missed = []
    with Emulator("--keep-requests", "100000") as emulator:
        for name in arguments.figures or FIGURES:
            emulator.reset()
            with tempfile.TemporaryDirectory(prefix="ims-figures-") as scratch:
                if not FIGURES[name](emulator, Path(scratch)):
                    missed.append(name)
    print(f"missed: {', '.join(missed) or 'none'}")
    return len(missed)


if __name__ == "__main__":
    sys.exit(main())
