"""The example DAG in the whole of Airflow, every part a process of its own, against a local IMS."""

from __future__ import annotations

from pathlib import Path

import books
from local_airflow import LocalAirflow
from media_team import cleanup

from airflow_provider_ims.emulator import Emulator

DAG_ID = "ims_delete_media"


def test_example_deletes_exactly_what_it_was_given(
    airflow: LocalAirflow, ims_emulator: Emulator, tmp_path: Path
) -> None:
    work = cleanup()
    ims_emulator.seed(work.media)
    before = books.read(ims_emulator)

    run_id = airflow.trigger(DAG_ID, {**work.conf, "folder": str(tmp_path)})

    assert airflow.wait(DAG_ID, run_id) == "success", airflow.task_states(DAG_ID, run_id)
    assert set(airflow.task_states(DAG_ID, run_id).values()) == {"success"}
    results = {task: airflow.xcom(DAG_ID, run_id, task) for task in ("delete_by_id", "delete_by_url")}
    wrong = [
        says for says, true in books.compare(work, before, books.read(ims_emulator), results) if not true
    ]
    assert wrong == []


def test_cleared_task_finds_everything_gone(
    airflow: LocalAirflow, ims_emulator: Emulator, tmp_path: Path
) -> None:
    work = cleanup()
    ims_emulator.seed(work.media)
    run_id = airflow.trigger(DAG_ID, {"media_ids": work.groups["uploads"], "folder": str(tmp_path)})
    assert airflow.wait(DAG_ID, run_id) == "success"
    assert airflow.xcom(DAG_ID, run_id, "delete_by_id")["deleted"] == 14

    airflow.clear(DAG_ID, run_id, "delete_by_id")
    assert airflow.wait_for_try(DAG_ID, run_id, "delete_by_id", 2) == "success"

    result = airflow.xcom(DAG_ID, run_id, "delete_by_id")
    assert (result["requested"], result["deleted"], result["missing"]) == (14, 0, 14)
    assert len(ims_emulator.deleted()) == 14


def test_no_secret_in_any_log(airflow: LocalAirflow, ims_emulator: Emulator, tmp_path: Path) -> None:
    run_id = airflow.trigger(DAG_ID, {"media_ids": ims_emulator.generate(1), "folder": str(tmp_path)})
    assert airflow.wait(DAG_ID, run_id) == "success"
    logs = [path for path in airflow.home.rglob("*.log") if path.is_file()]
    assert any("delete_by_id" in str(path) for path in logs)
    assert [
        str(path) for path in logs if ims_emulator.access_key_secret in path.read_text(errors="replace")
    ] == []
