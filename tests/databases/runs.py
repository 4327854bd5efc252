"""Runs that have Airflow's database keep as much as it ever may."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from local_airflow import LocalAirflow

from airflow_provider_ims.emulator import Emulator
from tests.databases.airflow_database import Database
from tests.databases.dags.extremes import LONGEST

MILLION = 1_000_000
# So many of the million are there, and the run is cut when so many are gone.
PRESENT, CUT_AT = 20_000, 15_000
ANSWER_MILLISECONDS = 30
# Of the run with the longest names: of each outcome so many.
EACH = 1_000
LONGEST_RUN_ID = "r" * 250
SAVES_OF_FIRST_TRY = 4
# Some deletions go on to be shown by reads for so long: these are what a task waits for.
LAGGING_SHARE, LAG_MILLISECONDS = 0.1, 30_000
CARRIED, URLS = 500, 120
# A character of four bytes; and NUL, which PostgreSQL refuses in JSON.
FOUR_BYTES = "𠀀"
ODD_NAME = f"\0{FOUR_BYTES}"


@dataclass
class Figures:
    """What one database kept, in bytes, and how long a save took, in milliseconds."""

    state: int = 0
    state_longest: int = 0
    save: float = 0.0
    result: int = 0
    deferred: int = 0
    trigger_ids: int = 0
    trigger_urls: int = 0
    trigger_path: int = 0
    trigger_encrypted: int = 0


FIGURES = pytest.StashKey[dict[str, Figures]]()
"""Where they are kept, by database, until the end of all tests."""


class Runs:
    """All runs on one database, started together, since they mostly wait."""

    def __init__(self, airflow: LocalAirflow, database: Database, emulator: Emulator, folder: Path) -> None:
        self.airflow, self.database, self.emulator, self.folder = airflow, database, emulator, folder
        self.figures = Figures()
        # Without a triggerer what is deferred stays so.
        self.has_triggerer = database.dialect == "postgresql"
        dice = random.Random("databases")
        library = iter(emulator.generate(PRESENT + 2 * EACH + 2 * CARRIED, seed=1))

        def take(count: int) -> list[str]:
            return [next(library) for _ in range(count)]

        present = take(PRESENT)
        self.deleted, self.forbidden, self.carried, self.others = map(take, (EACH, EACH, CARRIED, CARRIED))
        emulator.protect(self.forbidden)
        emulator.add_fault("delay", milliseconds=ANSWER_MILLISECONDS, action="DeleteMediaInfos")
        emulator.add_fault(
            "lagging_reads",
            milliseconds=LAG_MILLISECONDS,
            action="DeleteMediaInfos",
            probability=LAGGING_SHARE,
        )
        # Neighbours with different outcomes are kept each for itself.
        missing = [f"{dice.getrandbits(512):0128x}" for _ in range(EACH)]
        mixed = chain.from_iterable(zip(self.deleted, missing, self.forbidden, strict=True))
        self.longest = self._delete(LONGEST, mixed, run_id=LONGEST_RUN_ID, saves=SAVES_OF_FIRST_TRY)
        absent = (f"{dice.getrandbits(128):032x}" for _ in range(MILLION - PRESENT))
        self.million = self._delete("million", chain(present, absent))
        self.waits = self._wait()

    def _delete(self, dag_id: str, ids: Iterable[str], run_id: str | None = None, **conf: Any) -> str:
        """Start a deletion; the report of one with a run id of its own lies as deep as a path may be long."""
        home = self.folder / f"{len(dag_id)}"
        home.mkdir()
        (home / "ids.txt").write_text("\n".join(ids))
        report = home.joinpath(*["报告" * 40] * 8) if run_id else home
        conf |= {"manifest": str(home / "ids.txt"), "report": str(report), "notes": str(home / "saves")}
        self.airflow.unpause(dag_id)
        body = {"logical_date": None, "conf": conf, **({"dag_run_id": run_id} if run_id else {})}
        return str(self.airflow.request("POST", f"dags/{dag_id}/dagRuns", json=body).json()["dag_run_id"])

    def _wait(self) -> str:
        """Start sensors for what nobody deletes yet."""
        urls = [f"oss://media-team/{FOUR_BYTES * 24}/{number}.mp4" for number in range(URLS)]
        self.at_urls = self.emulator.seed([{"url": url} for url in urls])
        manifest = self.folder / "waited-for.txt"
        manifest.write_text("\n".join([*self.carried, *self.others]))
        output = {"url": f"oss://media-team/{FOUR_BYTES}.mp4", "name": ODD_NAME}
        job = self.emulator.add_job(kind="convert", outputs=[output], polls=1)["JobId"]
        conf = {"media_ids": self.carried, "input_urls": urls, "manifest": str(manifest), "job": job}
        return self.airflow.trigger("waits", conf)

    def saves(self, dag_id: str) -> list[dict[str, float]]:
        """Return the seconds and bytes of each save."""
        notes = self.folder / f"{len(dag_id)}" / "saves"
        return [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []

    def log(self, dag_id: str, run_id: str, task_id: str) -> str:
        """Return all that the tries of a task logged."""
        tries = self.airflow.task(dag_id, run_id, task_id)["try_number"]
        return json.dumps(
            [self.airflow.log(dag_id, run_id, task_id, number) for number in range(1, tries + 1)]
        )
