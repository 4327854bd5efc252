"""The retention example in the whole of Airflow: planned, decided by a person through Airflow's API, carried out."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from local_airflow import LocalAirflow

from airflow_provider_ims.emulator import Emulator

DAG_ID = "ims_retention"
WAITING = ("awaiting_input", "deferred")  # since Airflow 3.3, and before
HOSTILE = "<script>alert(1)</script> \u202egpj.exe | ` **bold**"


def medium(number: int, age: int, **fields: Any) -> dict[str, Any]:
    created = datetime.now(UTC) - timedelta(days=age)
    return {
        "media_id": f"{number:032x}",
        "url": f"https://media-team.oss-cn-shanghai.aliyuncs.com/{number}.mp4",
        "created": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "size": 10**9,
        **fields,
    }


SECONDS_TO_THINK = 8.0

OLD = [medium(number, 100 + number, title=HOSTILE) for number in range(1, 61)]
HELD = [medium(100 + number, 200, tags="legal-hold") for number in range(10)]
YOUNG = [medium(1000 + number, number % 80 + 1) for number in range(400)]


def ids(media: list[dict[str, Any]]) -> set[str]:
    return {one["media_id"] for one in media}


class Run:
    """A run of the example that waits for its approval."""

    def __init__(self, airflow: LocalAirflow, folder: Path) -> None:
        self.airflow = airflow
        self.run_id = airflow.trigger(DAG_ID, {"folder": str(folder)})
        airflow.wait_for_task(DAG_ID, self.run_id, "approve", *WAITING, timeout=120)
        self._asked = time.monotonic()
        self.plan = airflow.xcom(DAG_ID, self.run_id, "plan")

    @property
    def _question(self) -> str:
        return f"dags/{DAG_ID}/dagRuns/{quote(self.run_id)}/taskInstances/approve/-1/hitlDetails"

    def question(self) -> dict[str, Any]:
        return dict(self.airflow.request("GET", self._question).json())

    def answer(self, option: str) -> None:
        # Airflow 3.3's scheduler fails a task that comes back before it has noted the task's deferral. No person
        # answers that soon.
        time.sleep(max(0.0, self._asked + SECONDS_TO_THINK - time.monotonic()))
        self.airflow.request("PATCH", self._question, json={"chosen_options": [option]})

    def pause(self, paused: bool) -> None:
        self.airflow.request("PATCH", f"dags/{DAG_ID}", json={"is_paused": paused})

    def end(self) -> tuple[str, dict[str, str | None]]:
        state = self.airflow.wait(DAG_ID, self.run_id, timeout=180)
        return state, self.airflow.task_states(DAG_ID, self.run_id)

    def log(self, task_id: str) -> str:
        return "\n".join(str(line) for line in self.airflow.log(DAG_ID, self.run_id, task_id))


@pytest.fixture
def run(airflow: LocalAirflow, ims_emulator: Emulator, tmp_path: Path) -> Iterator[Run]:
    ims_emulator.seed(OLD + HELD + YOUNG)
    started = Run(airflow, tmp_path)
    assert started.plan["selected"] == 60
    yield started
    started.pause(False)


def test_approved(run: Run, ims_emulator: Emulator) -> None:
    question = run.question()
    assert question["subject"] == "Delete 60 media for good?"
    for shown in (
        run.plan["digest"],
        run.plan["manifest"],
        run.plan["page"],
        "60 of 470",
        "12.77%",
        "60.0 GB",
    ):
        assert shown in question["body"]
    assert ims_emulator.deleted() == []

    run.answer("Approve")

    state, tasks = run.end()
    assert state == "success", tasks
    assert {one["media_id"] for one in ims_emulator.deleted()} == ids(OLD)
    result = run.airflow.xcom(DAG_ID, run.run_id, "delete")
    assert (result["requested"], result["deleted"]) == (60, 60)
    assert result["requests"] <= 1 + 2.3 * 60 / 20
    assert "Deleted 60 of 60 media" in run.airflow.xcom(DAG_ID, run.run_id, "tell")


def test_rejected(run: Run, ims_emulator: Emulator) -> None:
    run.answer("Reject")
    state, tasks = run.end()
    assert state == "success", tasks
    assert (tasks["delete"], tasks["tell"]) == ("skipped", "success")
    assert "Not approved: the 60 media" in run.airflow.xcom(DAG_ID, run.run_id, "tell")
    assert ims_emulator.deleted() == []


def test_changed_after_the_approval(run: Run, ims_emulator: Emulator) -> None:
    run.pause(True)  # so that the approval is given, and nothing follows yet
    run.answer("Approve")
    assert run.question()["response_received"]
    path = Path(run.plan["manifest"])
    *lines, last = path.read_text(encoding="utf-8").splitlines(keepends=True)
    row = json.loads(last) | {"media_id": HELD[0]["media_id"]}
    path.write_text("".join([*lines, json.dumps(row) + "\n"]), encoding="utf-8")
    run.pause(False)

    state, tasks = run.end()
    assert state == "failed", tasks
    assert tasks["delete"] == "failed"
    assert "IMSGuardError" in run.log("delete")
    assert ims_emulator.deleted() == []


def test_changed_media_are_spared(run: Run, ims_emulator: Emulator) -> None:
    """The approval may take days; what is put on hold meanwhile stays."""
    tagged, _, replaced, *rest = OLD
    ims_emulator.reset()
    ims_emulator.seed(
        [tagged | {"tags": "Legal-Hold"}, replaced | {"created": YOUNG[0]["created"]}, *rest, *HELD, *YOUNG]
    )
    run.answer("Approve")
    state, tasks = run.end()
    assert state == "success", tasks
    result = run.airflow.xcom(DAG_ID, run.run_id, "delete")
    assert (result["deleted"], result["kept"], result["missing"]) == (57, 2, 1)
    assert {one["media_id"] for one in ims_emulator.deleted()} == ids(rest)
