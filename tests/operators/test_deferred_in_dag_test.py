"""Deferral in ``dag.test()``, which up to Airflow 3.3.2 drops what a task hands to the method that goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_ims.compat import AIRFLOW_V_3_1_PLUS
from airflow_provider_ims.emulator import Emulator
from airflow_provider_ims.triggers import ims as triggers
from tests.test_example_dags import load, run, states

pytestmark = pytest.mark.usefixtures("airflow_database", "ims_connection")

DAG_FILE = Path(__file__).parent.parent / "dags" / "deferred.py"


def test_operator_and_sensor_give_their_results(
    ims_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(triggers, "MIN_SECONDS", 0)
    library = ims_emulator.generate(10)
    ims_emulator.add_fault("lagging_reads", milliseconds=2500)
    finished = run(load(DAG_FILE)["deferred"], {"first": library[:5], "second": library[5:]})
    assert states(finished) == {"delete_and_wait": "success", "delete": "success", "gone": "success"}
    task = finished.get_task_instance("delete")
    result = task.xcom_pull(task_ids="delete_and_wait")
    assert {name: result[name] for name in ("requested", "deleted", "missing")} == {
        "requested": 5,
        "deleted": 5,
        "missing": 0,
    }
    waited = task.xcom_pull(task_ids="gone")
    assert waited["media"] == 5
    assert 0 <= waited["seconds"] < 30
    if AIRFLOW_V_3_1_PLUS:  # where it is logged
        assert "running trigger in line" in caplog.text
