"""What waiting costs: 5,000 triggers, 1,000 for jobs, one for a long report, a withdrawn key, faults, cancellations.

``python tests/triggers/figures.py`` prints a line for each figure and fails if one is missed; scenarios can be named,
and ``--json FILE`` writes ``{scenario: {figure: value}}``. The triggers run in Airflow's own runner, and ask an
emulator in another process over HTTP.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar

import psutil
import structlog
from cryptography.fernet import Fernet

os.environ.setdefault("AIRFLOW__CORE__FERNET_KEY", Fernet.generate_key().decode())

from airflow.executors.workloads import RunTrigger
from airflow.jobs.triggerer_job_runner import TriggerRunner
from airflow.models.trigger import Trigger
from airflow.triggers.base import BaseTrigger, TriggerEvent

IDLE_BYTES = psutil.Process().memory_info().rss

from airflow_provider_ims.emulator import Emulator  # noqa: E402 - an idle triggerer has nothing of this
from airflow_provider_ims.triggers.ims import IMSMediaConvertJobTrigger, IMSMediaDeletedTrigger  # noqa: E402
from airflow_provider_ims.triggers.poller import Poller  # noqa: E402

NOWHERE = Path(os.devnull).open("w")  # noqa: SIM115 - until the end
TRIGGERS = 5000
ANSWER_MILLISECONDS = 30
INTERVAL = 15.0
SETTLING = 2.5
# Milliseconds beyond what the loop of a triggerer is late in which as many triggers only sleep.
LATE_AT_MOST = 100
JOBS = 1000
# A job is over at this look; there is no request that reads many.
LOOKS = 4
# A report's lines, and how many of its media are still shown at first.
LINES, SHOWN = 200_000, 1_000
FAULTY = 400
FAULTY_INTERVAL = 3.0
# Three kinds, each of which would strike so often; where two would strike one request, one does.
FAULT_PROBABILITY = 0.09


class Figures:
    """The figures of one scenario: printed as they come, kept for the end."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}
        self.missed: list[str] = []

    def add(
        self, what: str, value: float, *, at_most: float | None = None, at_least: float | None = None
    ) -> None:
        """Print and keep a figure; one without a limit is there to compare with."""
        self.values[what] = round(value, 3)
        limits = []
        if at_least is not None:
            limits.append(f"at least {at_least:,.0f}")
        if at_most is not None:
            limits.append(f"at most {at_most:,.0f}")
        missed = not (at_least or value) <= value <= (value if at_most is None else at_most)
        if missed:
            self.missed.append(what)
        verdict = "MISSED" if missed else "ok" if limits else ""
        print(f"{verdict:6} {what}: {value:,.0f}" + (f" ({', '.join(limits)})" if limits else ""), flush=True)


IDLE_LOOP = """
import asyncio, sys
async def main():
    loop, worst = asyncio.get_running_loop(), 0.0
    reader = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    while not reader.done():
        due = loop.time() + 0.01
        await asyncio.sleep(0.01)
        worst = max(worst, loop.time() - due)
    print(worst)
asyncio.run(main())
"""


class Lateness:
    """How late the event loop gives a task its turn, once what has just begun has settled.

    :cvar of_sleepers: milliseconds that it is late when all triggers only sleep.
    """

    of_sleepers: ClassVar[float] = 0.0

    def __init__(self) -> None:
        self._worst = 0.0
        self._by_itself = 0.0
        self._collecting = 0.0
        self._began = 0.0
        self._task = asyncio.create_task(self._measure())

    async def _measure(self) -> None:
        await asyncio.sleep(SETTLING)
        # What this machine does to a loop that has nothing to do, at the same time.
        self._idle = subprocess.Popen(
            [sys.executable, "-c", IDLE_LOOP], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        gc.callbacks.append(self._note_collection)
        loop = asyncio.get_running_loop()
        while True:
            due, used = loop.time() + 0.01, time.process_time()
            await asyncio.sleep(0.01)
            late = loop.time() - due
            self._worst = max(self._worst, late)
            self._by_itself = max(self._by_itself, min(late, time.process_time() - used))

    def _note_collection(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.perf_counter()
        else:
            self._collecting = max(self._collecting, time.perf_counter() - self._began)

    async def stop(self, figures: Figures, beyond: float | None = None) -> float:
        """Note the figures; return for how many milliseconds the loop was late by its own doing.

        :param beyond: what it may be late anyway.
        """
        gc.callbacks.remove(self._note_collection)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        idle = float(self._idle.communicate()[0])
        # Where other processes want the same cores, every loop is late: only what this process did itself counts.
        figures.add(
            "milliseconds that the loop was late by its own doing",
            1000 * self._by_itself,
            at_most=None if beyond is None else beyond + LATE_AT_MOST,
        )
        figures.add("milliseconds that it was late by the clock", 1000 * self._worst)
        figures.add("milliseconds that an idle process's loop was late", 1000 * idle)
        figures.add("milliseconds of the longest garbage collection", 1000 * self._collecting)
        return 1000 * self._by_itself


class Triggerer:
    """Airflow's own runner of triggers, in this event loop: it makes them of what is stored, and runs them."""

    def __init__(self) -> None:
        self._runner = TriggerRunner()
        # Written as for the supervisor, which is not there to read it.
        self._runner.log = structlog.wrap_logger(
            structlog.WriteLogger(NOWHERE),
            processors=[structlog.processors.JSONRenderer()],
            wrapper_class=structlog.make_filtering_bound_logger("INFO"),
        )

    async def start(self, triggers: Iterable[BaseTrigger]) -> list[asyncio.Task[Any]]:
        """Start triggers as they come from the database."""
        for number, trigger in enumerate(triggers, 1):
            path, kwargs = trigger.serialize()
            stored = Trigger.encrypt_kwargs(kwargs)
            self._runner.to_create.append(
                RunTrigger(id=number, ti=None, classpath=path, encrypted_kwargs=stored)
            )
        await self._runner.create_triggers()
        return [details["task"] for details in self._runner.triggers.values()]

    async def cancel(self, tasks: list[asyncio.Task[Any]]) -> None:
        """Cancel as when a user clears tasks."""
        self._runner.to_cancel.extend(
            number for number, details in self._runner.triggers.items() if details["task"] in tasks
        )
        await self._runner.cancel_triggers()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def events(self, tasks: list[asyncio.Task[Any]]) -> list[dict[str, Any]]:
        """Wait for the end of all; give what they said."""
        await asyncio.gather(*tasks)
        return [entry.event.payload for entry in self._runner.events]


class SleepingTrigger(BaseTrigger):
    """Does nothing."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{__name__}.SleepingTrigger", {}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        await asyncio.sleep(600)
        yield TriggerEvent({})


def triggers(ids: list[str], interval: float) -> list[IMSMediaDeletedTrigger]:
    deadline = time.time() + 600
    return [IMSMediaDeletedTrigger([media_id], poll_interval=interval, deadline=deadline) for media_id in ids]


def asked(emulator: Emulator, action: str = "BatchGetMediaInfos") -> int:
    return int(emulator.stats()["by_action"].get(action, 0))


async def off_loop(function: Callable[..., Any], *args: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, function, *args)


async def collect() -> None:
    """Have the longest pause that a loop knows, a full garbage collection, which otherwise comes when it comes."""
    await off_loop(gc.collect)
    await asyncio.sleep(0.1)  # until the loop's lateness is noted


DELETE = """
import sys
from airflow_provider_ims.api import operations
from airflow_provider_ims.api.client import IMSClient
from airflow_provider_ims.api.credentials import StaticCredentials
from airflow_provider_ims.api.endpoints import parse_host
host, key, secret = sys.argv[1:]
client, ids = IMSClient(parse_host(host), StaticCredentials(key, secret)), sys.stdin.read().split()
for at in range(0, len(ids), 20):
    operations.delete_media_infos(client, media_ids=ids[at : at + 20], delete_physical_files=False)
"""


def delete(emulator: Emulator, ids: list[str]) -> None:
    """Delete in another process, so that it does not disturb what is measured."""
    arguments = [emulator.endpoint, emulator.access_key_id, emulator.access_key_secret]
    subprocess.run([sys.executable, "-c", DELETE, *arguments], input="\n".join(ids).encode(), check=True)


async def waiting(emulator: Emulator, figures: Figures) -> None:
    """Let 5,000 wait, count a round's requests, delete all, and see how soon everybody knows."""
    ids = await off_loop(lambda: emulator.generate(TRIGGERS))
    emulator.add_fault("delay", action="BatchGetMediaInfos", milliseconds=ANSWER_MILLISECONDS, when="before")
    late = Lateness()
    triggerer = Triggerer()
    tasks = await triggerer.start(triggers(ids, INTERVAL))
    await asyncio.sleep(2 * INTERVAL)
    counts = []
    for _ in range(2):
        before = await off_loop(asked, emulator)
        await asyncio.sleep(INTERVAL)
        counts.append(await off_loop(asked, emulator) - before)
    grown = psutil.Process().memory_info().rss - IDLE_BYTES
    await collect()
    await off_loop(delete, emulator, ids)
    deleted = time.monotonic()
    events = await triggerer.events(tasks)
    seconds = time.monotonic() - deleted
    await late.stop(figures, Lateness.of_sleepers)
    figures.add("requests a round", max(counts), at_most=260)
    figures.add("MiB more than an idle triggerer", grown / 2**20, at_most=150)
    figures.add("seconds from the last deletion until all have finished", seconds, at_most=2 * INTERVAL)
    figures.add(
        "triggers that did not succeed", sum(event["status"] != "over" for event in events), at_most=0
    )


async def jobs(emulator: Emulator, figures: Figures) -> None:
    """Let 1,000 wait for a job each: a request for each and round, and none once it is over."""

    def start() -> list[str]:
        return [str(emulator.add_job(kind="convert", polls=LOOKS)["JobId"]) for _ in range(JOBS)]

    job_ids = await off_loop(start)
    emulator.add_fault("delay", action="GetMediaConvertJob", milliseconds=ANSWER_MILLISECONDS, when="before")
    late = Lateness()
    triggerer = Triggerer()
    began = time.monotonic()
    deadline = time.time() + 600
    tasks = await triggerer.start(
        IMSMediaConvertJobTrigger(job_id, poll_interval=INTERVAL, deadline=deadline) for job_id in job_ids
    )
    await asyncio.sleep(1.5 * INTERVAL)
    await collect()
    events = await triggerer.events(tasks)
    seconds = time.monotonic() - began
    await late.stop(figures, Lateness.of_sleepers)
    requests = await off_loop(asked, emulator, "GetMediaConvertJob")
    figures.add("requests", requests, at_least=LOOKS * JOBS, at_most=LOOKS * JOBS)
    figures.add("seconds until all were over", seconds, at_most=(LOOKS + 1) * INTERVAL)
    figures.add(
        "triggers that did not succeed", sum(event["status"] != "over" for event in events), at_most=0
    )


async def report(emulator: Emulator, figures: Figures) -> None:
    """Let one trigger wait for the 200,000 media of a report, some of which are still shown at its first look."""
    shown = await off_loop(lambda: emulator.generate(SHOWN))
    emulator.add_fault("delay", action="BatchGetMediaInfos", milliseconds=ANSWER_MILLISECONDS, when="before")
    with tempfile.TemporaryDirectory() as folder:
        with (Path(folder) / "part-00001.jsonl").open("w") as lines:
            for media_id in (*(f"{number:032x}" for number in range(LINES - SHOWN)), *shown):
                lines.write(json.dumps({"media_id": media_id, "outcome": "deleted"}) + "\n")
        triggerer = Triggerer()
        late = Lateness()
        began, before = time.monotonic(), psutil.Process().memory_info().rss
        (task,) = await triggerer.start(
            [IMSMediaDeletedTrigger(manifest=folder, poll_interval=INTERVAL, deadline=time.time() + 600)]
        )
        most = 0
        while await off_loop(asked, emulator) < LINES // 20:
            most = max(most, psutil.Process().memory_info().rss)
            await asyncio.sleep(0.5)
        figures.add("seconds of the first look", time.monotonic() - began)
        figures.add("MiB more than before it", (most - before) / 2**20, at_most=100)
        await off_loop(delete, emulator, shown)
        events = await triggerer.events([task])
    await late.stop(figures, Lateness.of_sleepers)
    # A look at all, and one or two at what was left.
    requests, left = LINES // 20, SHOWN // 20
    asked_in_all = await off_loop(asked, emulator)
    figures.add("requests", asked_in_all, at_least=requests + left, at_most=requests + 2 * left)
    figures.add(
        "triggers that did not succeed", sum(event["status"] != "over" for event in events), at_most=0
    )


async def sleeping(_: Emulator, figures: Figures) -> None:
    """Let 5,000 sleep and nothing else, for comparison: how late the loop of any triggerer is."""
    late = Lateness()
    triggerer = Triggerer()
    tasks = await triggerer.start(SleepingTrigger() for _ in range(TRIGGERS))
    await asyncio.sleep(SETTLING + 5)
    await collect()
    Lateness.of_sleepers = await late.stop(figures)
    await triggerer.cancel(tasks)


async def withdrawn(emulator: Emulator, figures: Figures) -> None:
    """Let 5,000 wait with a key that is withdrawn: one refusal tells all of them, and nobody asks again."""
    key = {"key_id": "withdrawn", "secret": "its-secret", "actions": ["ice:*"]}
    ids = await off_loop(lambda: emulator.generate(TRIGGERS))
    await off_loop(lambda: emulator.add_key(**key))
    connect(emulator, key["key_id"], key["secret"])
    late = Lateness()
    triggerer = Triggerer()
    tasks = await triggerer.start(triggers(ids, INTERVAL))
    await asyncio.sleep(1.5 * INTERVAL)
    await collect()
    figures.add("triggers that ended early", sum(task.done() for task in tasks), at_most=0)
    await off_loop(lambda: emulator.add_key(**key, status="inactive"))
    began = time.monotonic()
    events = await triggerer.events(tasks)
    figures.add("seconds until all knew", time.monotonic() - began, at_most=INTERVAL)
    await late.stop(figures, Lateness.of_sleepers)
    await asyncio.sleep(INTERVAL)
    codes = Counter(event.get("error", {}).get("code") for event in events)
    others = len(events) - codes["InvalidAccessKeyId.Inactive"]
    figures.add("triggers without the typed error", others, at_most=0)
    refused = (await off_loop(emulator.stats))["by_code"].get("InvalidAccessKeyId.Inactive", 0)
    figures.add("requests that were refused", refused, at_least=1, at_most=2)


async def faults(emulator: Emulator, figures: Figures) -> None:
    """Let 400 wait while every fifth answer is no answer."""
    ids = await off_loop(lambda: emulator.generate(FAULTY))
    for number, (kind, options) in enumerate(
        (("throttle", {}), ("reset", {}), ("error", {"status": 502, "body": "html"}))
    ):
        emulator.add_fault(
            kind, action="BatchGetMediaInfos", probability=FAULT_PROBABILITY, seed=number, **options
        )
    triggerer = Triggerer()
    tasks = await triggerer.start(triggers(ids, FAULTY_INTERVAL))
    await asyncio.sleep(8 * FAULTY_INTERVAL)
    figures.add("triggers that ended early", sum(task.done() for task in tasks), at_most=0)
    await off_loop(delete, emulator, ids)
    events = await triggerer.events(tasks)
    requests = await off_loop(emulator.requests, "BatchGetMediaInfos")
    kinds = Counter(fault for request in requests for fault in request["faults"])
    for kind in ("throttle", "reset_before", "error_before"):
        figures.add(f"requests struck by {kind}", kinds[kind], at_least=1)
    figures.add("requests", len(requests))
    figures.add("percent of them without an answer", 100 * kinds.total() / len(requests), at_least=20)
    figures.add(
        "triggers that did not succeed", sum(event["status"] != "over" for event in events), at_most=0
    )


async def cancellations(emulator: Emulator, figures: Figures) -> None:
    """Cancel 4,000 of 5,000, then the others: nothing is left behind."""
    ids = await off_loop(lambda: emulator.generate(TRIGGERS))
    triggerer = Triggerer()
    tasks = await triggerer.start(triggers(ids, 5.0))
    await asyncio.sleep(4)
    await triggerer.cancel(tasks[:4000])
    await asyncio.sleep(5)
    before = await off_loop(asked, emulator)
    await asyncio.sleep(5)
    figures.add("requests a round for the 1,000 left", await off_loop(asked, emulator) - before, at_most=55)
    await triggerer.cancel(tasks[4000:])
    await asyncio.sleep(1.5)
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("ims-")]
    loop: Any = asyncio.get_running_loop()
    timers = [timer for timer in loop._scheduled if not timer.cancelled()]
    figures.add("tasks left", len(others), at_most=0)
    figures.add("threads left", len(threads), at_most=0)
    figures.add("timers left", len(timers), at_most=0)
    figures.add("pollers left", len(Poller._running), at_most=0)


def connect(emulator: Emulator, key_id: str, secret: str) -> None:
    connection = {"conn_type": "alibaba_ims", "login": key_id, "password": secret, "host": emulator.endpoint}
    os.environ["AIRFLOW_CONN_IMS_DEFAULT"] = json.dumps(connection)


SCENARIOS = {
    scenario.__name__: scenario
    for scenario in (sleeping, waiting, jobs, report, withdrawn, faults, cancellations)
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    arguments = parser.parse_args()
    if unknown := set(arguments.scenarios) - set(SCENARIOS):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    os.environ["ALIBABA_CLOUD_ECS_METADATA_DISABLED"] = "true"
    done: dict[str, Figures] = {}
    # First those that sleep, which the others are compared with.
    chosen = [name for name in SCENARIOS if name in (arguments.scenarios or SCENARIOS) or name == "sleeping"]
    for name in chosen:
        print(f"{name}: {SCENARIOS[name].__doc__}")
        done[name] = Figures()
        with Emulator("--keep-requests", "1000") as emulator:
            connect(emulator, emulator.access_key_id, emulator.access_key_secret)
            asyncio.run(SCENARIOS[name](emulator, done[name]))
        gc.collect()
    if arguments.json:
        values = {name: figures.values for name, figures in done.items()}
        arguments.json.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    missed = [f"{name}: {what}" for name, figures in done.items() for what in figures.missed]
    print("missed: " + "; ".join(missed) if missed else "all figures reached")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
