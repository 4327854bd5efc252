"""Real Airflows for the system tests. Not part of ``make test``: ``make test-system`` runs them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_airflow import LocalAirflow
from media_team import REGION

from airflow_provider_ims.emulator.server import Emulator


@pytest.fixture(scope="session")
def example_dags() -> Path:
    return Path(__file__).parent.parent.parent / "example_dags"


@pytest.fixture(scope="session")
def environment(running_emulator: Emulator) -> dict[str, str]:
    """The connection to the local IMS, for every process of an Airflow."""
    connection = {
        "conn_type": "alibaba_ims",
        "login": running_emulator.access_key_id,
        "password": running_emulator.access_key_secret,
        "host": running_emulator.endpoint,
        "extra": {"region": REGION},
    }
    return {"AIRFLOW_CONN_IMS_DEFAULT": json.dumps(connection)}


@pytest.fixture(scope="session")
def airflow(
    tmp_path_factory: pytest.TempPathFactory, example_dags: Path, environment: dict[str, str]
) -> Iterator[LocalAirflow]:
    """The whole of Airflow: API server, scheduler, DAG processor, triggerer."""
    with LocalAirflow(tmp_path_factory.mktemp("whole") / "home", example_dags, env=environment) as airflow:
        yield airflow
    assert airflow.members() == []
