"""What it costs to keep manifest and report on a store, and to look whether files are gone.

``python -m tests.files.figures`` prints a line for each figure and fails if one is missed. ``--rounds``, ``--media``
and ``--many`` make it shorter, which says less.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airflow_provider_ims.api.client import IMSClient
from airflow_provider_ims.api.credentials import StaticCredentials
from airflow_provider_ims.api.endpoints import parse_host
from airflow_provider_ims.api.rate_limit import RateLimiter
from airflow_provider_ims.deletion.run import DeletionRun
from airflow_provider_ims.deletion.targets import read_targets
from airflow_provider_ims.deletion.verify import FileVerifier
from airflow_provider_ims.emulator import EmulatedOSS, Emulator
from airflow_provider_ims.files.storage import storage_path, write_whole
from benchmarks.service import peak_megabytes

REGION = "cn-shanghai"
ANSWER_MILLISECONDS, WRITE_SECONDS = 30, 0.08
STORE = "oss://figures@reports"
BUCKET = "media-team"
missed = []


def figure(what: str, value: float, at_most: float, unit: str) -> None:
    """Print a figure, and remember if it is missed."""
    good = value <= at_most
    print(f"{'ok    ' if good else 'MISSED'} {what}: {value:,.2f} {unit} (at most {at_most:,g})", flush=True)
    if not good:
        missed.append(what)


def delete(endpoint: str, report: str, manifest: str | None = None, **given: Any) -> dict[str, Any]:
    """Delete media as a task does; return the result, with the ``memory`` that this process has taken.

    :param given: ``media_ids`` or ``input_urls`` in the place of a manifest, and what a run takes.
    """
    client = IMSClient(
        parse_host(endpoint),
        StaticCredentials(Emulator.access_key_id, Emulator.access_key_secret),
        pace=RateLimiter(),
    )
    targets = read_targets(given.pop("media_ids", None), given.pop("input_urls", None), manifest)
    began = time.monotonic()
    run = DeletionRun(client, targets, region=REGION, report_base=storage_path(report), **given)
    result = run.execute()
    if result["deleted"] != len(targets):
        missed.append(f"all are deleted: {result['deleted']:,} of {len(targets):,}")
    return result | {"took": time.monotonic() - began, "memory": peak_megabytes()}


def medians(rounds: int, ways: dict[str, Callable[[int], float]]) -> dict[str, float]:
    """Take turns, and return the median time of each way; a first round warms up and does not count."""
    times: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way, measure in ways.items():
            times[way].append(measure(number))
    for way, found in times.items():
        print(f"       {way}: {', '.join(f'{seconds:.2f}' for seconds in found[1:])} s", flush=True)
    return {way: statistics.median(found[1:]) for way, found in times.items()}


def report_on_a_store(ims: Emulator, folder: str, media: int, rounds: int) -> None:
    """How long a run takes with its report on a slow store, beside one on this disk."""

    def measure(report: str) -> Callable[[int], float]:
        def once(number: int) -> float:
            ims.reset()
            ids = ims.generate(media)
            ims.add_fault("delay", milliseconds=ANSWER_MILLISECONDS)
            return float(delete(ims.endpoint, f"{report}/{number}", media_ids=ids)["took"])

        return once

    took = medians(rounds, {"this disk": measure(f"{folder}/time"), "store": measure(f"{STORE}/time")})
    figure("time with the report on a store", took["store"] / took["this disk"], 1.15, "of a local one")


def many_from_a_store(ims: Emulator, oss: EmulatedOSS, many: int, few: int = 2_000) -> None:
    """What a long manifest on a store takes of memory, in processes of their own; and how many files are left."""
    took = {}
    for count in (few, many):
        ims.reset()
        write_whole(storage_path(f"{STORE}/{count}.txt"), ["\n".join(ims.generate(count)).encode()])
        arguments = {
            "endpoint": ims.endpoint,
            "report": f"{STORE}/{count}",
            "manifest": f"{STORE}/{count}.txt",
        }
        command = [sys.executable, "-m", "tests.files.figures", "--delete", json.dumps(arguments)]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        took[count] = json.loads(printed.splitlines()[-1])
        print(
            f"       {count:,} ids: {took[count]['took']:.1f} s, {took[count]['memory']:.0f} MB", flush=True
        )
    figure(f"files left by {many:,} ids", len(oss.names("reports", f"{many}/")), 3, "")
    figure(f"memory for {many:,} ids", took[many]["memory"] - took[few]["memory"], 60, f"MB over {few:,} ids")


def files_looked_for(ims: Emulator, folder: str, media: int, rounds: int) -> None:
    """How much longer a run takes that looks whether the files are gone.

    By URL it knows where to look. By id it has to read each medium first, which is one request more for each twenty:
    that is shown and has no limit of its own.
    """
    from airflow_provider_ims.files.oss import get_fs

    verifier = FileVerifier(get_fs("figures_files"), REGION)
    site = f"https://{BUCKET}.oss-{REGION}.aliyuncs.com"
    urls = [f"{site}/{place:05}.mp4" for place in range(media)]

    def measure(kind: str, files: FileVerifier | None) -> Callable[[int], float]:
        def once(number: int) -> float:
            ims.reset()
            ims.oss.make_bucket(BUCKET)
            ims.seed([{"url": url} for url in urls])
            ims.add_fault("delay", milliseconds=ANSWER_MILLISECONDS)
            ims.oss.add_fault("delay", operation="ListObjects", seconds=ANSWER_MILLISECONDS / 1000)
            given = {kind: urls if kind == "input_urls" else ims.media_ids()}
            report = f"{folder}/{kind}/{bool(files)}/{number}"
            result = delete(ims.endpoint, report, delete_physical_files=True, verifier=files, **given)
            if files and (result["files_left"], ims.oss.names(BUCKET)) != (0, []):
                missed.append(f"all files are gone: {result['files_left']} left")
            return float(result["took"])

        return once

    took = medians(
        rounds,
        {
            f"{kind}, {'' if files else 'not '}looking": measure(kind, files)
            for kind in ("input_urls", "media_ids")
            for files in (None, verifier)
        },
    )
    by_url, by_id = (
        took[f"{kind}, looking"] / took[f"{kind}, not looking"] for kind in ("input_urls", "media_ids")
    )
    print(f"       time with verify_files, by id: {by_id:.2f} of the time without", flush=True)
    figure("time with verify_files, by URL", by_url, 1.3, "of the time without")


def main() -> None:
    """Measure all of it, or delete once for a parent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--media", type=int, default=20_000, help="for the time of a run")
    parser.add_argument("--many", type=int, default=200_000, help="for memory and number of files")
    parser.add_argument("--delete", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.delete:
        print(json.dumps(delete(**given.delete)))
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        Emulator("--oss-port", "0", start_timeout=120) as ims,
        Emulator("--oss-port", "0") as store,  # a process of its own, as a store is
    ):
        os.environ["AIRFLOW_HOME"] = str(Path(folder) / "airflow")
        for name, emulator in (("FIGURES", store), ("FIGURES_FILES", ims)):
            os.environ[f"AIRFLOW_CONN_{name}"] = emulator.airflow_connection(
                extra={"region": REGION, "oss_endpoint": emulator.oss.endpoint}
            )
        store.oss.make_bucket("reports")
        for operation in ("PutObject", "UploadPart", "CompleteMultipartUpload", "DeleteObject"):
            store.oss.add_fault("delay", operation=operation, seconds=WRITE_SECONDS)
        report_on_a_store(ims, folder, given.media, given.rounds)
        many_from_a_store(ims, store.oss, given.many)
        files_looked_for(ims, folder, 2_000, given.rounds)
    sys.exit(f"missed: {', '.join(missed)}" if missed else 0)


if __name__ == "__main__":
    main()
