"""What waiting costs: 5,000 triggers at one connection, 400 with faults, 4,000 cancellations.

``python tests/triggers/figures.py`` prints a line for each figure and fails if one is missed. The triggers run in
a real event loop, and ask an emulator in another process over HTTP.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import airflow.jobs.triggerer_job_runner  # noqa: F401 - which an idle triggerer has loaded
import psutil

IDLE_BYTES = psutil.Process().memory_info().rss

from airflow_provider_ims.emulator.server import Emulator  # noqa: E402 - an idle triggerer has nothing of this
from airflow_provider_ims.triggers.ims import IMSMediaDeletedTrigger  # noqa: E402
from airflow_provider_ims.triggers.poller import Poller  # noqa: E402

TRIGGERS = 5000
ANSWER_MILLISECONDS = 30
INTERVAL = 15.0
SETTLING = 2.5
FAULTY = 400
FAULTY_INTERVAL = 3.0

missed = []


def figure(what: str, value: float, at_most: float, unit: str) -> None:
    """Print a figure, and remember if it is missed."""
    if value > at_most:
        missed.append(what)
    print(
        f"{'MISSED' if value > at_most else 'ok':6} {what}: {value:,.0f} {unit} (at most {at_most:,.0f})",
        flush=True,
    )


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
    """How late the event loop gives a task its turn."""

    def __init__(self) -> None:
        self.worst = 0.0
        self.by_itself = 0.0
        self.elsewhere = 0.0
        self.collecting = 0.0
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
            self.worst = max(self.worst, late)
            self.by_itself = max(self.by_itself, min(late, time.process_time() - used))

    def _note_collection(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.perf_counter()
        else:
            self.collecting = max(self.collecting, time.perf_counter() - self._began)

    async def stop(self) -> None:
        gc.callbacks.remove(self._note_collection)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self.elsewhere = float(self._idle.communicate()[0])


async def finish(trigger: IMSMediaDeletedTrigger) -> dict[str, Any]:
    """Run a trigger as a triggerer does, up to its event."""
    async for event in trigger.run():
        return dict(event.payload)
    raise AssertionError("a trigger ended without an event")


def start(ids: list[str], interval: float) -> list[asyncio.Task[dict[str, Any]]]:
    deadline = time.time() + 600
    return [
        asyncio.create_task(
            finish(IMSMediaDeletedTrigger([media_id], poll_interval=interval, deadline=deadline)),
            name="trigger",
        )
        for media_id in ids
    ]


def asked(emulator: Emulator) -> int:
    return int(emulator.stats()["by_action"].get("BatchGetMediaInfos", 0))


async def off_loop(function: Callable[..., Any], *args: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, function, *args)


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


async def waiting(emulator: Emulator) -> None:
    """Let 5,000 wait, count a round's requests, delete all, and see how soon everybody knows."""
    ids = await off_loop(lambda: emulator.generate(TRIGGERS))
    emulator.add_fault("delay", action="BatchGetMediaInfos", milliseconds=ANSWER_MILLISECONDS, when="before")
    late = Lateness()
    tasks = start(ids, INTERVAL)
    await asyncio.sleep(2 * INTERVAL)
    counts = []
    for _ in range(2):
        before = await off_loop(asked, emulator)
        await asyncio.sleep(INTERVAL)
        counts.append(await off_loop(asked, emulator) - before)
    grown = psutil.Process().memory_info().rss - IDLE_BYTES
    await off_loop(delete, emulator, ids)
    deleted = time.monotonic()
    events = await asyncio.gather(*tasks)
    seconds = time.monotonic() - deleted
    await late.stop()
    figure(f"{TRIGGERS} triggers: requests a round", max(counts), 260, "requests")
    # Where other processes want the same cores, every loop is late: only what this process did itself counts.
    figure("event loop late by this process's own doing", 1000 * late.by_itself, 100, "ms")
    print(
        f"       by the clock: {1000 * late.worst:.0f} ms; an idle loop: {1000 * late.elsewhere:.0f} ms;",
        end="",
    )
    print(f" the longest garbage collection: {1000 * late.collecting:.0f} ms")
    figure("more memory than an idle triggerer", grown / 2**20, 150, "MiB")
    figure("all finished after the last deletion within", seconds, 2 * INTERVAL, "s")
    figure("triggers that did not succeed", sum(event["status"] != "over" for event in events), 0, "triggers")


async def faults(emulator: Emulator) -> None:
    """Let 400 wait while every fifth answer is no answer."""
    ids = await off_loop(lambda: emulator.generate(FAULTY))
    for number, (kind, options) in enumerate(
        (("throttle", {}), ("reset", {}), ("error", {"status": 502, "body": "html"}))
    ):
        emulator.add_fault(kind, action="BatchGetMediaInfos", probability=0.072, seed=number, **options)
    tasks = start(ids, FAULTY_INTERVAL)
    await asyncio.sleep(4 * FAULTY_INTERVAL)
    figure("triggers that ended early", sum(task.done() for task in tasks), 0, "triggers")
    await off_loop(delete, emulator, ids)
    events = await asyncio.gather(*tasks)
    stats = await off_loop(emulator.stats)
    print("       requests by what came of them:", stats["by_status"], stats["by_code"])
    figure(
        f"of {FAULTY} with faults, did not succeed",
        sum(event["status"] != "over" for event in events),
        0,
        "triggers",
    )


async def cancellations(emulator: Emulator) -> None:
    """Cancel 4,000 of 5,000, then the others: nothing is left behind."""
    ids = await off_loop(lambda: emulator.generate(TRIGGERS))
    tasks = start(ids, 5.0)
    await asyncio.sleep(4)
    for task in tasks[:4000]:
        task.cancel()
    await asyncio.gather(*tasks[:4000], return_exceptions=True)
    await asyncio.sleep(5)
    before = await off_loop(asked, emulator)
    await asyncio.sleep(5)
    figure("requests a round for the 1,000 left", await off_loop(asked, emulator) - before, 55, "requests")
    for task in tasks[4000:]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(1.5)
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("ims-")]
    loop: Any = asyncio.get_running_loop()
    timers = [timer for timer in loop._scheduled if not timer.cancelled()]
    figure("tasks left", len(others), 0, "tasks")
    figure("threads left", len(threads), 0, "threads")
    figure("timers left", len(timers), 0, "timers")
    figure("pollers left", len(Poller._running), 0, "pollers")


def main() -> int:
    os.environ["ALIBABA_CLOUD_ECS_METADATA_DISABLED"] = "true"
    for scenario in (waiting, faults, cancellations):
        if sys.argv[1:] and scenario.__name__ not in sys.argv[1:]:
            continue
        print(f"{scenario.__name__}: {scenario.__doc__}")
        with Emulator("--keep-requests", "100") as emulator:
            connection = {
                "conn_type": "alibaba_ims",
                "login": emulator.access_key_id,
                "password": emulator.access_key_secret,
                "host": emulator.endpoint,
            }
            os.environ["AIRFLOW_CONN_IMS_DEFAULT"] = json.dumps(connection)
            asyncio.run(scenario(emulator))
        gc.collect()
    print("missed: " + ", ".join(missed) if missed else "all figures reached")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
