"""A deferral on Airflow 2.11, with a scheduler and a triggerer of its own. ``make test-airflow2`` runs it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_airflow2 import LocalAirflow2

from airflow_provider_ims.emulator import Emulator
from airflow_provider_ims.hooks.ims import IMSHook

DAGS = Path(__file__).parent.parent / "waiting_dags"


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Iterator[LocalAirflow2]:
    home = tmp_path_factory.mktemp("airflow2") / "home"
    with LocalAirflow2(home, DAGS, env=environment) as airflow:
        yield airflow
    assert airflow.members() == []


def said(airflow: LocalAirflow2, *task: str) -> str:
    return json.dumps(airflow.log(*task))


def test_sensor_waits_in_the_triggerer(
    airflow: LocalAirflow2,
    ims_emulator: Emulator,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    media_ids = ims_emulator.generate(3)
    run_id = airflow.trigger("deferred", {"media_ids": media_ids})
    airflow.wait_for_task("deferred", run_id, "wait", "deferred", timeout=120)
    assert airflow.task("deferred", run_id, "wait")["trigger_id"]
    looks = len(ims_emulator.requests("BatchGetMediaInfos"))
    time.sleep(6)
    assert len(ims_emulator.requests("BatchGetMediaInfos")) > looks
    assert airflow.task_state("deferred", run_id, "wait") == "deferred"
    monkeypatch.setenv("AIRFLOW_CONN_IMS_DEFAULT", environment["AIRFLOW_CONN_IMS_DEFAULT"])
    IMSHook().delete_media_infos(media_ids=media_ids)
    assert airflow.wait("deferred", run_id, timeout=240) == "success", said(
        airflow, "deferred", run_id, "wait"
    )
    assert airflow.xcom("deferred", run_id, "wait")["media"] == 3
    assert airflow.task("deferred", run_id, "wait")["try_number"] == 1


def test_operator_waits_in_the_triggerer(airflow: LocalAirflow2, ims_emulator: Emulator) -> None:
    media_ids = ims_emulator.generate(3)
    ims_emulator.add_fault("lagging_reads", action="DeleteMediaInfos", milliseconds=15_000)
    run_id = airflow.trigger("deletions", {"deferred": media_ids})
    airflow.wait_for_task("deletions", run_id, "deferred", "deferred", timeout=120)
    assert airflow.wait("deletions", run_id, timeout=240) == "success", said(
        airflow, "deletions", run_id, "deferred"
    )
    result = airflow.xcom("deletions", run_id, "deferred")
    assert (result["requested"], result["deleted"], result["samples"]["deleted"]) == (3, 3, media_ids)
    # The other task was given nothing to delete.
    assert airflow.xcom("deletions", run_id, "here")["requested"] == 0


def test_a_trigger_that_is_not_found(airflow: LocalAirflow2, ims_emulator: Emulator) -> None:
    """So it is the triggerer that waits in the other tests."""
    run_id = airflow.trigger("misplaced", {"media_ids": ims_emulator.generate(1)})
    assert airflow.wait("misplaced", run_id, timeout=240) == "failed"
    assert "no_such_module" in said(airflow, "misplaced", run_id, "wait")
