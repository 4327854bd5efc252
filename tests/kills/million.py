"""``python -m tests.kills.million``: one real task deletes a million media, is killed twice on the way, and ends.

The second time the worker around the task is killed too, as when a machine is lost. What the report says is checked
against the local IMS's books.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[2] / "dev"))
from books import report_lines
from local_airflow import LocalAirflow

from airflow_provider_ims.emulator import Emulator
from tests.kills.__main__ import BATCH, CONCURRENCY, PATIENCE, has_ended, kill, settings, wait_for
from tests.long_run import run_in_folder, say

DAG_ID = "kills"
OTHERS = 1_000
KILL_AT = (1 / 3, 2 / 3)
RATIO = 1.25
"""What the time may be of the requests' own, divided by the concurrency."""


@dataclass
class Exclusion:
    """The task's state in Airflow's database: the most bytes that were seen, and its rows."""

    bytes: int = 0
    rows: int = 0

    def look(self, database: Path) -> None:
        """Look at it now."""
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as connection:
            rows, size = connection.execute(
                "SELECT count(*), sum(length(value)) FROM task_state_store"
            ).fetchone()
        self.rows, self.bytes = max(self.rows, rows), max(self.bytes, size or 0)


@dataclass
class Usage:
    """What the task's processes took, of each what was seen last.

    :param peak: megabytes of memory, of the largest.
    :param processor: seconds, by process.
    """

    peak: float = 0.0
    processor: dict[int, float] = field(default_factory=dict)

    def look(self, pid: int) -> None:
        """Look at one now, unless it is gone."""
        with suppress(psutil.NoSuchProcess, OSError, IndexError):
            times = psutil.Process(pid).cpu_times()
            status = Path(f"/proc/{pid}/status").read_text()
            self.peak = max(self.peak, int(status.partition("VmHWM:")[2].split()[0]) / 1024)
            self.processor[pid] = times.user + times.system


def worked_seconds(requests: list[dict[str, Any]], kills: list[float]) -> float:
    """For how long requests came: from the first to the last, without the time after each kill until the next."""
    starts = [request["at"] for request in requests]
    idle = 0.0
    for killed in kills:
        idle += next(at for at in starts if at > killed + 1) - max(at for at in starts if at <= killed + 1)
    return max(request["at"] + request["seconds"] for request in requests) - starts[0] - idle


def check(
    emulator: Emulator, named: list[str], others: set[str], result: dict[str, Any]
) -> Iterator[tuple[str, bool]]:
    """Say what must be true, and whether it is."""
    books = [deletion["media_id"] for deletion in emulator.deleted()]
    told: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    inferred = 0
    for line in report_lines(Path(result["report"])):
        told[line["media_id"]] += 1
        outcomes[line["outcome"]] += 1
        inferred += line["inferred"]
    yield f"each of {len(named):,} ids has one line in the report", told == dict.fromkeys(named, 1)
    yield f"each of them was deleted once, and nothing else: {len(books):,}", sorted(books) == sorted(named)
    yield f"the {len(others):,} that were not named are there", set(emulator.media_ids()) == others
    yield (
        f"the report says {outcomes['deleted']:,} deleted, {inferred} of them inferred, and so does the result",
        (outcomes["deleted"], inferred) == (result["deleted"], result["inferred"]) and len(outcomes) == 1,
    )
    yield (
        f"the result: {result['requested']:,} requested, {result['requests']:,} requests, "
        f"resumed: {result['resumed']}; {len(json.dumps(result)):,} bytes in XCom",
        result["requested"] == len(named) and result["resumed"],
    )
    again = emulator.stats()["asked_again"]
    yield (
        f"{again} ids were asked about again after they were gone (at most {2 * CONCURRENCY * BATCH} a kill)",
        again <= len(KILL_AT) * 2 * CONCURRENCY * BATCH,
    )


def run(home: Path, media: int, milliseconds: float) -> bool:
    """Do it all once; tell whether all is as it must be."""
    with Emulator("--keep-requests", str(media), "--oss-port", "0", start_timeout=120) as emulator:
        library = emulator.generate(media + OTHERS, seed=1)
        others, named = set(library[:OTHERS]), library[OTHERS:]
        (home / "ids.txt").write_text("\n".join(named))
        (home / "pids").mkdir()
        emulator.add_fault("delay", milliseconds=milliseconds)
        say(f"local IMS with {len(library):,} media is up; {milliseconds:g} ms an answer")
        with LocalAirflow(
            home / "airflow", Path(__file__).parent / "dags", triggerer=False, env=settings(emulator)
        ) as airflow:
            began = time.monotonic()
            files = {"manifest": "ids.txt", "report": "report", "pids": "pids"}
            run_id = airflow.trigger(DAG_ID, {name: str(home / file) for name, file in files.items()})
            say(f"Airflow is up; the task begins to delete {media:,} media")
            kept = Exclusion()
            kills = []
            usage = Usage()
            for number, share in enumerate((*KILL_AT, 1), start=1):
                told = home / "pids" / f"try-{number}"
                if not wait_for(told, lambda: has_ended(airflow, run_id)):
                    break
                pids = json.loads(told.read_text())
                while (done := emulator.stats()["deleted"]) < share * media and not has_ended(
                    airflow, run_id
                ):
                    kept.look(home / "airflow" / "airflow.db")
                    usage.look(pids["task"])
                    time.sleep(0.5)
                if number > len(KILL_AT):
                    break
                kill(pids, worker_too=number == len(KILL_AT))
                kills.append(time.time())
                say(
                    f"killed try {number} (SIGKILL): pid {pids['task']}"
                    + (f" and its worker, pid {pids['supervisor']}," if number == len(KILL_AT) else "")
                    + f" when {done:,} were deleted"
                )
            state = airflow.wait(DAG_ID, run_id, timeout=PATIENCE)
            took = time.monotonic() - began
            say(f"the run ended: {state}")
            result = airflow.xcom(DAG_ID, run_id, "delete")
            tries = airflow.task(DAG_ID, run_id, "delete")["try_number"]
            logs = {number: airflow.log(DAG_ID, run_id, "delete", number) for number in range(1, tries + 1)}
        requests = emulator.requests()
        worked = worked_seconds(requests, kills)
        starts = [(home / "pids" / f"try-{number}").stat().st_mtime for number in range(1, tries + 1)]
        silent = [next(entry["at"] for entry in requests if entry["at"] > start) - start for start in starts]
        floor = sum(request["seconds"] for request in requests) / CONCURRENCY
        print(
            f"\n  {took:.0f} s from the trigger to the end, {worked:.0f} s of them with requests on the way"
        )
        answer = 1000 * floor * CONCURRENCY / len(requests)
        processor = 1000 * sum(usage.processor.values()) / len(requests)
        print(
            f"  {len(requests):,} requests; the task took {processor:.2f} ms of a processor for each, its start and "
            f"its manifest included, and {usage.peak:.0f} MB of memory at most"
        )
        print(
            f"  seconds from a try's start to its first request: {', '.join(f'{time:.1f}' for time in silent)}"
        )
        print(f"  state kept in Airflow's database: {kept.bytes:,} bytes at most, in {kept.rows} row")
        for number, lines in logs.items():
            own = [line["event"] for line in lines if "airflow_provider_ims" in (line.get("logger") or "")]
            print(f"\n  try {number} logged {len(lines)} lines, {len(own)} of them the provider's:")
            for line in own if len(own) < 8 else [*own[:4], "...", *own[-3:]]:
                print(f"    {line}")
        print()
        checks = [
            (f"the run succeeded in try {tries}", state == "success" and tries == len(KILL_AT) + 1),
            *check(emulator, named, others, result),
            (
                f"{worked:.0f} s is {worked / floor:.2f} of what {len(requests):,} requests of {answer:.1f} ms "
                f"take, {CONCURRENCY} at a time: {floor:.0f} s (at most {RATIO})",
                worked <= RATIO * floor,
            ),
        ]
    for sentence, true in checks:
        print(f"  {'ok   ' if true else 'WRONG'}  {sentence}", flush=True)
    return all(true for _, true in checks)


def main() -> int:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills.million", description=__doc__)
    parser.add_argument("--media", type=int, default=1_000_000)
    parser.add_argument("--milliseconds", type=float, default=30, help="that the service takes for an answer")
    parser.add_argument("--keep", action="store_true", help="leave report and logs where they are")
    arguments = parser.parse_args()
    return run_in_folder(
        "ims-million-",
        lambda home: run(home, arguments.media, arguments.milliseconds),
        keep=arguments.keep,
    )


if __name__ == "__main__":
    sys.exit(main())
