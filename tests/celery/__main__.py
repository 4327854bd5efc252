"""``python -m tests.celery``: shards of one manifest on two Celery workers, one of which is killed.

Redis, PostgreSQL, a scheduler, a DAG processor, an API server and two workers run on this machine, with
``example_dags/ims_delete_sharded.py`` as it is, against a local IMS with one request limit for all. What the reports
say is checked against the local IMS's books.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "dev"))

from airflow_provider_ims.emulator import Emulator
from tests.celery.celery_airflow import CeleryAirflow
from tests.celery.work import Traffic, check, measure, seed
from tests.long_run import run_in_folder, say
from tests.servers import run_postgresql, run_redis

EXAMPLES = Path(__file__).parents[2] / "example_dags"
DAG_ID = "ims_delete_sharded"
LIMIT = 50
BURST = 5  # a tenth of a second
ANSWER_MILLISECONDS = 30
WORKERS = 2
KILL_AT = 0.4
PATIENCE = 600
# What must be reached.
USED = 0.85
THROTTLED = 0.05
SLOWEST = 1.5


def settings() -> dict[str, str]:
    """How soon Airflow notices that a worker is gone: within some 15 s, by default it takes 5 minutes."""
    return {
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "2",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "10",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
        "ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true",
    }


class Run:
    """One run of the DAG."""

    def __init__(self, airflow: CeleryAirflow, emulator: Emulator, conf: dict[str, Any]) -> None:
        self.airflow = airflow
        self.emulator = emulator
        self.shards = conf["shards"]
        self.run_id = airflow.trigger(DAG_ID, conf)

    def wait_until_deleted(self, count: int) -> None:
        """Wait until so many media are gone."""
        until = time.monotonic() + PATIENCE
        while self.emulator.stats()["deleted"] < count:
            state = self.airflow.request("GET", f"dags/{DAG_ID}/dagRuns/{self.run_id}").json()["state"]
            if state in ("success", "failed") or time.monotonic() > until:
                raise RuntimeError(f"the run is {state}: {self.airflow.task_states(DAG_ID, self.run_id)}")
            time.sleep(0.5)

    def tries(self) -> dict[int, dict[str, Any]]:
        """What Airflow says of each shard's task."""
        return {
            number: self.airflow.task(DAG_ID, self.run_id, "delete", number) for number in range(self.shards)
        }

    def where(self) -> dict[str, list[int]]:
        """Which shards' tasks run in which worker."""
        pids = {number: task["pid"] for number, task in self.tries().items() if task["state"] == "running"}
        return {
            worker: [number for number, pid in pids.items() if pid in self.airflow.processes_of(worker)]
            for worker in self.airflow.workers
        }

    def kill_a_worker(self) -> list[int]:
        """Kill one of the workers that have tasks, and all that runs in it; give the shards that it had."""
        where = self.where()
        say(f"shards in {', '.join(f'{worker}: {numbers}' for worker, numbers in where.items())}")
        worker, numbers = min((item for item in where.items() if item[1]), key=lambda item: len(item[1]))
        if len(numbers) == self.shards:
            raise RuntimeError(f"all shards ran in {worker}, so that no other can be seen to go on")
        tasks = [self.airflow.task(DAG_ID, self.run_id, "delete", number)["pid"] for number in numbers]
        pid, all_pids = self.airflow.pid(worker), self.airflow.processes_of(worker)
        done = self.emulator.stats()["deleted"]
        self.airflow.kill(worker)
        self.killed_at = time.time()
        while left := self.airflow.processes_of(worker):  # SIGKILL takes a moment
            if time.time() > self.killed_at + 5:
                raise RuntimeError(f"of {worker} are left: {left}")
            time.sleep(0.05)
        say(
            f"killed {worker} (SIGKILL): pid {pid}, the processes of its tasks {tasks}, {len(all_pids)} processes in "
            f"all, when {done:,} of the media were deleted"
        )
        return numbers


def show(traffic: Traffic, killed: list[int], killed_at: float) -> list[tuple[str, bool]]:
    """Print what the service saw; give what had to be reached."""
    print("\n  shard   finished at   against the median")
    median = statistics.median(traffic.finished.values())
    for number, at in sorted(traffic.finished.items()):
        print(
            f"  {number:5}   {at:9.1f} s   {at / median:8.2f}{'   its worker was killed' if number in killed else ''}"
        )
    first_end, *_, last_but_one, _ = sorted(traffic.finished.values())
    death = killed_at - traffic.began
    periods = [
        ("until the worker's death", 0.0, death),
        ("20 s before it", max(death - 20, 0.0), death),
        ("20 s after it", death, death + 20),
        ("then until the first shard ended", death + 20, first_end),
        ("from then on", first_end, last_but_one),
        ("the last shard alone", last_but_one, traffic.seconds),
    ]
    print("\n  requests a second that got through:                     all   of each shard")
    for name, start, end in periods:
        if end > start:
            each = "  ".join(f"{rate:4.1f}" for rate in traffic.each(start, end).values())
            print(f"  {name:34} {start:5.0f} to {end:4.0f} s  {traffic.total(start, end):5.1f}   {each}")
    print()
    return [
        (
            f"{traffic.used:.1%} of the limit used over {traffic.seconds:.0f} s (at least {USED:.0%})",
            traffic.used >= USED,
        ),
        (
            f"{traffic.throttled:.1%} of {traffic.requests:,} requests throttled (at most {THROTTLED:.0%})",
            traffic.throttled <= THROTTLED,
        ),
        (
            f"the slowest shard ended at {traffic.slowest:.2f} of the median (at most {SLOWEST})",
            traffic.slowest <= SLOWEST,
        ),
    ]


def run(home: Path, media: int, shards: int, number: int) -> bool:
    """Do it all once; tell whether all is as it must be."""
    home.chmod(0o711)  # PostgreSQL is another user
    with (
        Emulator("--keep-requests", "1000000") as emulator,
        run_redis(home / "redis") as broker,
        run_postgresql(home / "postgresql") as database,
    ):
        work = seed(emulator, media, number)
        manifest = home / "ids.txt"
        manifest.write_text("\n".join(work.lines))
        say(
            f"local IMS with {media - len(work.missing) + len(work.others):,} media, Redis and PostgreSQL are up"
        )
        with CeleryAirflow(
            home / "airflow",
            EXAMPLES,
            database=database,
            broker=broker,
            workers=WORKERS,
            slots=shards,  # so that what the killed worker had finds room in the other
            env=settings(),
        ) as airflow:
            airflow.create_connection(
                "ims_default",
                conn_type="alibaba_ims",
                login=emulator.access_key_id,
                password=emulator.access_key_secret,
                host=emulator.endpoint,
                extra=json.dumps({"region": "cn-shanghai"}),
            )
            airflow.wait_for_dag(DAG_ID)
            say(f"Airflow is up with {WORKERS} Celery workers; deleting {media:,} media in {shards} shards")
            emulator.add_fault("limit", rate=LIMIT, burst=BURST)
            emulator.add_fault("delay", milliseconds=ANSWER_MILLISECONDS)
            done = Run(
                airflow, emulator, {"manifest": str(manifest), "shards": shards, "folder": str(home / "out")}
            )
            done.wait_until_deleted(int(KILL_AT * media))
            killed = done.kill_a_worker()
            state = airflow.wait(DAG_ID, done.run_id, timeout=PATIENCE)
            say(f"the run ended: {state}")
            tasks = done.tries()
            results = [airflow.xcom(DAG_ID, done.run_id, "delete", map_index=n) for n in range(shards)]
            merged = airflow.xcom(DAG_ID, done.run_id, "merge")
            split = airflow.xcom(DAG_ID, done.run_id, "split")
        say("Airflow has ended")
        checks = show(measure(emulator, split, LIMIT), killed, done.killed_at)
        tried = {number: task["try_number"] for number, task in tasks.items()}
        checks += [
            (f"the run succeeded: {state}", state == "success"),
            (
                f"the killed shards {killed} succeeded in a second try, the others in their first",
                all(tried[n] == (2 if n in killed else 1) for n in tried),
            ),
            *check(emulator, work, results, merged),
        ]
    for sentence, true in checks:
        print(f"  {'ok   ' if true else 'WRONG'}  {sentence}", flush=True)
    return all(true for _, true in checks)


def main() -> int:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.celery", description=__doc__.splitlines()[0])
    parser.add_argument("--media", type=int, default=100_000)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="leave logs and reports where they are")
    arguments = parser.parse_args()
    return run_in_folder(
        "ims-celery-",
        lambda home: run(home, arguments.media, arguments.shards, arguments.seed),
        keep=arguments.keep,
    )


if __name__ == "__main__":
    sys.exit(main())
