"""How far a deletion is, from what it saved last."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from airflow_provider_ims.deletion.checkpoint import Checkpoint

if not AIRFLOW_V_3_1_PLUS:
    pytest.skip("Airflow has no such pages", allow_module_level=True)

from airflow_provider_ims.web.deletion import RunningDeletion
from airflow_provider_ims.web.task_instance import SavedProgress


def test_a_run_that_stands_still_gets_slower() -> None:
    """The service took 100 in a second and throttled since then: 100 more are not a second away."""
    run = Checkpoint("input", requested=200, counts={"deleted": 100}, seconds=1.0)
    figures = {name: figure for figure, name in shown(run, age=99).figures}
    assert figures["a second, on average"] == "1.0"
    assert figures["left at this rate"] in ("1:39", "1:40")


def test_a_run_without_an_outcome_has_no_rate() -> None:
    figures = {name: figure for figure, name in shown(Checkpoint("input", requested=5), age=0).figures}
    assert figures["left at this rate"] == "unknown"


def shown(run: Checkpoint, age: float) -> RunningDeletion:
    return RunningDeletion(SavedProgress(run, datetime.now(UTC) - timedelta(seconds=age)))
