"""``python -m tests.kills``: real workers of a real Airflow, killed in the middle of deletions."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_ims.deletion.lines import LINE_LOST
from airflow_provider_ims.emulator import Emulator

sys.path.insert(0, str(Path(__file__).parents[2] / "dev"))
from books import report_lines
from local_airflow import LocalAirflow

CONCURRENCY = 8
BATCH = 20
# Each with how often it may be passed before: of five kills, none may come after the end of 200 batches, but for the
# last at one of the last points.
POINTS = {"answer came": 25, "line not written": 25, "line written": 25, "state not kept": 3, "state kept": 3}
LAST_POINTS = {**POINTS, "parts not written": 0, "parts written": 0}
# In every fourth run, what a try has written is not there for the next, as on another machine's disk.
VANISHING = 4
# What goes wrong in OSS: the first that strikes counts, so that all others are slow. Lists may be late.
OSS_FAULTS: list[dict[str, Any]] = [
    {"kind": "error", "operation": "PutObject", "status": 503},
    {"kind": "reset_after", "operation": "PutObject"},
    {"kind": "error", "operation": "GetObject", "status": 503},
    {"kind": "reset_after", "operation": "DeleteObject"},
]
SLOW_PUT = {"kind": "delay", "operation": "PutObject", "seconds": 0.08}
LATE_LISTING = {"kind": "late_listing", "seconds": 3}
BUCKET = "reports"
# The same for kills at random moments, after so many more requests at most.
MOST_REQUESTS = 30
PATIENCE = 300


@dataclass
class Work:
    """What a run deletes. ``missing`` were never there, ``protected`` must stay, ``others`` are not named."""

    named: list[str]
    missing: set[str]
    protected: set[str]
    others: set[str]


def seed(emulator: Emulator, count: int, number: int) -> Work:
    """Fill the library."""
    dice = random.Random(f"kills {number}")  # not the seed of the ids that the emulator makes up
    emulator.reset()
    library = emulator.generate(count, seed=number)
    dice.shuffle(library)
    missing = {f"{dice.getrandbits(128):032x}" for _ in range(count // 50)}
    others, present = set(library[: count // 50]), library[count // 50 :]
    protected = set(present[: count // 100])
    emulator.protect(protected)
    named = present + list(missing)
    dice.shuffle(named)
    emulator.add_fault("delay", milliseconds=30)
    emulator.oss.make_bucket(BUCKET)
    for fault in OSS_FAULTS:
        emulator.oss.add_fault(**fault, every=dice.randint(3, 9))
    emulator.oss.add_fault(**SLOW_PUT)
    emulator.oss.add_fault(**LATE_LISTING)
    return Work(named, missing, protected, others)


@dataclass
class Run:
    """One run in Airflow, and what is found in the emulator's books after it."""

    result: dict[str, Any]
    kills: list[float]
    lost_machines: int
    seconds: float
    vanished: bool = False
    requests: int = 0
    asked_again: int = 0
    missing_called_deleted: int = 0
    never_sent: int = 0

    def check(self, emulator: Emulator, work: Work) -> list[str]:
        """Say what is wrong."""
        wrong = []
        books = {deletion["media_id"] for deletion in emulator.deleted()}
        asked = emulator.requests("DeleteMediaInfos")
        self.requests = emulator.stats()["requests"]
        if books - set(work.named):
            wrong.append(f"deleted, but never named: {sorted(books - set(work.named))[:3]}")
        lines = list(report_lines(self.result["report"], emulator.oss))
        told = Counter(line["media_id"] for line in lines)
        if told != Counter(work.named):
            more = [media_id for media_id, count in told.items() if count > 1]
            wrong.append(
                f"{len(more)} have more than one line, {len(set(work.named) - told.keys())} have none"
            )
        outcomes = Counter(line["outcome"] for line in lines)
        lost = [line for line in lines if line.get("reason") == LINE_LOST]
        if lost and not self.vanished:
            wrong.append(f"{len(lost)} lines were lost")
        untold = outcomes.pop(None, 0)
        if (
            outcomes - Counter({name: self.result[name] for name in outcomes})
            or outcomes.total() + untold != self.result["requested"]
        ):
            wrong.append(f"the result says {self.result}, the report {outcomes}")
        last_start = self.kills[-1] if self.kills else 0.0
        early = {media_id for entry in asked if entry["at"] <= last_start for media_id in entry["targets"]}
        for line in lines:
            media_id, outcome = line["media_id"], line["outcome"]
            if outcome is None:
                continue
            if media_id in books:
                truth = {"deleted"}
            elif media_id in work.protected:
                truth = {"forbidden"}
            else:
                truth = {"missing"}
                if outcome == "deleted" and line["inferred"] is not False and self.kills:
                    self.missing_called_deleted += 1
                    self.never_sent += media_id not in early
                    continue
            if outcome not in truth:
                wrong.append(f"{line}: had to be {truth}")
        if len(books) != len(work.named) - len(work.missing) - len(work.protected):
            wrong.append(f"{len(books)} were deleted")
        heard: dict[str, int] = {}
        again = set()
        for entry in asked:
            for media_id in entry["targets"]:
                if media_id in heard:
                    again.add(media_id)
                elif entry["answered"] and entry["outcomes"].get(media_id) == "deleted":
                    heard[media_id] = entry["number"]
        self.asked_again = len(again)
        if self.asked_again > len(self.kills) * 2 * CONCURRENCY * BATCH:
            wrong.append(f"{self.asked_again} were asked about again although their answer had come")
        return wrong


def run(
    airflow: LocalAirflow,
    emulator: Emulator,
    work: Work,
    folder: Path,
    kills: int,
    points: list[tuple[str, int]],
    dice: random.Random,
    *,
    report: str,
    vanishing: bool = False,
) -> Run:
    """Start the task, kill it again and again, and wait for its end.

    :param report: where the task is to report.
    :param vanishing: what a try has written is gone before the next begins.
    """
    folder.mkdir(parents=True)
    (folder / "pids").mkdir()
    (folder / "ids.txt").write_text("\n".join(work.named))
    conf = {
        "manifest": str(folder / "ids.txt"),
        "report": report,
        "pids": str(folder / "pids"),
        "points": points,
    }
    began = time.monotonic()
    run_id = airflow.trigger("kills", conf)
    killed: list[float] = []
    lost_machines = 0
    for number in range(1, kills + 1):
        told = folder / "pids" / f"try-{number}"
        if not wait_for(told, lambda: has_ended(airflow, run_id)):
            break
        pids = json.loads(told.read_text())
        if number <= len(points):
            _wait_for_end(pids["task"])
        else:
            _wait_for_requests(emulator, dice.randrange(MOST_REQUESTS))
            lose_machine = dice.random() < 0.2
            kill(pids, worker_too=lose_machine)
            lost_machines += lose_machine
        if vanishing:
            shutil.rmtree(report, ignore_errors=True)
        killed.append(time.time())
    state = airflow.wait("kills", run_id, timeout=PATIENCE)
    assert state == "success", airflow.task_states("kills", run_id)
    result = airflow.xcom("kills", run_id, "delete")
    return Run(result, killed, lost_machines, time.monotonic() - began, vanishing)


def has_ended(airflow: LocalAirflow, run_id: str) -> bool:
    """Whether the run is over."""
    return airflow.request("GET", f"dags/kills/dagRuns/{run_id}").json()["state"] in ("success", "failed")


def wait_for(path: Path, given_up: Callable[[], bool]) -> bool:
    """Wait until a file is there; tell whether it came."""
    until = time.monotonic() + PATIENCE
    looked = time.monotonic()
    while not path.exists():
        if time.monotonic() > until:
            raise TimeoutError(f"{path} did not appear")
        if time.monotonic() - looked > 2:
            looked = time.monotonic()
            if given_up():
                return False
        time.sleep(0.05)
    return True


def _wait_for_requests(emulator: Emulator, more: int) -> None:
    """Wait until the service has seen so many more requests."""
    seen = emulator.stats()["requests"]
    until = time.monotonic() + PATIENCE
    while emulator.stats()["requests"] < seen + more and time.monotonic() < until:
        time.sleep(0.002)


def _wait_for_end(pid: int) -> None:
    until = time.monotonic() + PATIENCE
    with suppress(ProcessLookupError):
        while time.monotonic() < until:
            os.kill(pid, 0)
            time.sleep(0.05)


def kill(pids: dict[str, int], *, worker_too: bool) -> None:
    """Send a task's process SIGKILL; and the worker around it, as when a machine is lost.

    :raises ProcessLookupError: if one of them has ended already.
    """
    os.kill(pids["task"], signal.SIGSTOP)  # or it might end when its worker does
    if worker_too:
        os.kill(pids["supervisor"], signal.SIGKILL)
    os.kill(pids["task"], signal.SIGKILL)


def settings(emulator: Emulator) -> dict[str, str]:
    """Connect to the emulator and its OSS, and have Airflow notice within some 15 s that a worker is gone."""
    return {
        "AIRFLOW_CONN_IMS_DEFAULT": emulator.airflow_connection(
            extra={"region": "cn-shanghai", "oss_endpoint": emulator.oss.endpoint}
        ),
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "2",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "10",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
        "ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true",
    }


def main() -> int:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--kills", type=int, default=5, help="in each run")
    parser.add_argument("--media", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--store", choices=("local", "oss"), default="local", help="where reports are written"
    )
    parser.add_argument("--seconds", type=float, help="begin no further run after this time")
    arguments = parser.parse_args()
    began = time.monotonic()
    failed = False
    totals: Counter[str] = Counter()
    with (
        tempfile.TemporaryDirectory(prefix="ims-kills-") as scratch,
        Emulator("--keep-requests", "100000", "--oss-port", "0") as emulator,
    ):
        dags = Path(__file__).parent / "dags"
        home = Path(scratch)
        with LocalAirflow(home / "airflow", dags, triggerer=False, env=settings(emulator)) as airflow:
            airflow.wait_for_dag("kills")
            undisturbed = 0
            for number in range(arguments.runs + 1):
                if number > 1 and arguments.seconds and time.monotonic() - began > arguments.seconds:
                    break
                dice = random.Random(arguments.seed * 1000 + number)
                work = seed(emulator, arguments.media, arguments.seed * 1000 + number)
                # The first run is left alone; of the others, each second one dies at chosen points.
                kills = arguments.kills if number else 0
                names = [*dice.choices([*POINTS], k=kills - 1), dice.choice([*LAST_POINTS])] if kills else []
                chosen = [
                    (point, dice.randint(min(1, LAST_POINTS[point]), LAST_POINTS[point])) for point in names
                ]
                chosen = chosen if number % 2 == 0 else []
                vanishing = number % VANISHING == VANISHING - 1 and arguments.store == "local"
                folder = home / f"run-{number}"
                done = run(
                    airflow,
                    emulator,
                    work,
                    folder,
                    kills,
                    chosen,
                    dice,
                    report=f"oss://{BUCKET}/run-{number}"
                    if arguments.store == "oss"
                    else str(folder / "report"),
                    vanishing=vanishing,
                )
                wrong = done.check(emulator, work)
                undisturbed = undisturbed or done.requests
                if len(done.kills) < kills:
                    wrong.append(f"it was killed {len(done.kills)} times only")
                if done.requests > 1.5 * undisturbed:
                    wrong.append(f"{done.requests} requests, {undisturbed} in an undisturbed run")
                print(
                    f"run {number}: {len(done.kills)} kills ({done.lost_machines} with the worker)"
                    + (f" at {', '.join(point for point, _ in chosen)}" if chosen else "")
                    + f", {done.seconds:.0f} s, {done.requests} requests "
                    f"({done.requests / undisturbed:.2f} of undisturbed), {done.asked_again} asked about again, "
                    f"{done.missing_called_deleted} missing called deleted ({done.never_sent} of them never sent "
                    f"before), {'WRONG' if wrong else 'right'}",
                    flush=True,
                )
                for sentence in wrong[:5]:
                    print(f"  {sentence}", flush=True)
                failed |= bool(wrong)
                totals.update(
                    runs=1, kills=len(done.kills), targets=len(work.named), wrong=len(wrong), again=done.asked_again,
                    called=done.missing_called_deleted, never=done.never_sent,
                )  # fmt: skip
    print(
        f"{totals['runs']} runs, {totals['targets']:,} targets, {totals['kills']} kills "
        f"in {time.monotonic() - began:.0f} s: {totals['wrong']} wrong; "
        f"{totals['again']} asked about again although their answer had come; "
        f"{totals['called']} missing ones called deleted (inferred), {totals['never']} of them never sent before"
    )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
