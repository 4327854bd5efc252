"""The ground that the other system tests stand on."""

from __future__ import annotations

from pathlib import Path

import pytest
from local_airflow import LocalAirflow, LocalAirflowError
from media_team import cleanup

from airflow_provider_ims.emulator import Emulator


def test_says_what_did_not_come_up(tmp_path: Path) -> None:
    nowhere = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/no/such/folder/airflow.db"}
    airflow = LocalAirflow(tmp_path / "home", tmp_path, env=nowhere)
    with (
        pytest.raises(LocalAirflowError, match=r"(?s)^db-migrate ended with 1;.*unable to open database"),
        airflow,
    ):
        pass
    assert airflow.members() == []


def test_worker_processes_without_a_scheduler(
    tmp_path: Path, example_dags: Path, environment: dict[str, str], ims_emulator: Emulator
) -> None:
    """``dag.test(use_executor=True)`` needs an API server and a triggerer only, and is as real."""
    work = cleanup()
    ims_emulator.seed(work.media)
    with LocalAirflow(
        tmp_path / "home", example_dags, scheduler=False, dag_processor=False, env=environment
    ) as airflow:
        run_id, state = airflow.test_dag("ims_delete_media", {**work.conf, "folder": str(tmp_path)})
        assert state == "success"
        result = airflow.xcom("ims_delete_media", run_id, "delete_by_id")
    assert work.by_id.items() <= result.items()
    assert airflow.members() == []
