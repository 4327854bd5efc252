"""Real Airflows for the system tests. Not part of ``make test``: ``make test-system`` runs them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from local_airflow import LocalAirflow
from media_team import REGION

from airflow_provider_ims.emulator import Emulator
from tests.test_docs import blocks

EVENT_RECIPE = "on_an_event.py"

LESS_PATIENCE = {
    "LOOK_EVERY = timedelta(seconds=30)": "LOOK_EVERY = timedelta(seconds=2)",
    "TRANSCODED_WITHIN = timedelta(hours=6)": "TRANSCODED_WITHIN = timedelta(seconds=60)",
}


@pytest.fixture(scope="session")
def example_dags() -> Path:
    return Path(__file__).parent.parent.parent / "example_dags"


@pytest.fixture(scope="session")
def environment(ims_emulator_session: Emulator) -> dict[str, str]:
    """The connection to the local IMS, for every process of an Airflow."""
    return {"AIRFLOW_CONN_IMS_DEFAULT": ims_emulator_session.airflow_connection(extra={"region": REGION})}


@pytest.fixture(scope="session")
def dags(tmp_path_factory: pytest.TempPathFactory, example_dags: Path) -> Path:
    """The examples, one of them with less patience, and the DAGs of these tests."""
    folder = tmp_path_factory.mktemp("dags")
    for source in (*example_dags.glob("*.py"), *(Path(__file__).parent / "waiting_dags").glob("*.py")):
        text = source.read_text(encoding="utf-8")
        if source.name == "ims_cleanup_after_transcode.py":
            for patient, impatient in LESS_PATIENCE.items():
                assert patient in text
                text = text.replace(patient, impatient)
        (folder / source.name).write_text(text, encoding="utf-8")
    for block in blocks(Path(__file__).parent.parent.parent / "docs/recipes.md"):
        if block.about == EVENT_RECIPE:
            (folder / EVENT_RECIPE).write_text(block.text, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def airflow(
    tmp_path_factory: pytest.TempPathFactory, dags: Path, environment: dict[str, str]
) -> Iterator[LocalAirflow]:
    """The whole of Airflow: API server, scheduler, DAG processor, triggerer. One for all tests: it takes long."""
    env = environment | {
        # Most tasks of these tests sleep.
        "AIRFLOW__CORE__PARALLELISM": "6",
        # How soon a triggerer that was killed counts as dead.
        "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "6",
    }
    with LocalAirflow(tmp_path_factory.mktemp("whole") / "home", dags, env=env) as airflow:
        yield airflow
    assert airflow.members() == []
