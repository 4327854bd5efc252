from __future__ import annotations

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_ims.pytest_plugin import MakeConnection
from airflow_provider_ims.triggers import ims as triggers
from tests.sensors.modes import TaskInstance


@pytest.fixture(autouse=True)
def connection(
    ims_connection: str, make_ims_connection: MakeConnection, monkeypatch: pytest.MonkeyPatch
) -> MakeConnection:
    monkeypatch.setattr(triggers, "MIN_SECONDS", 0)
    monkeypatch.setattr(TaskInstance, "first_poke", None)
    if not AIRFLOW_V_3_0_PLUS:
        monkeypatch.setattr("airflow.sensors.base._orig_start_date", lambda **_: TaskInstance.first_poke)
    return make_ims_connection
