"""The pages as an API server of Airflow serves them: to whom, about what, and nothing else."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from local_airflow import LocalAirflow

from airflow_provider_ims.emulator.server import Emulator
from tests.web.conftest import Visitor

pytest.importorskip("airflow.api_fastapi.core_api.routes.public.hitl")  # Airflow 3.1


def page(dag: str, run: str, task: str, kind: str, map_index: int = -1) -> str:
    return f"/ims/dags/{dag}/runs/{quote(run, safe='')}/tasks/{task}/{map_index}/{kind}"


@pytest.fixture(scope="module")
def run(
    airflow: LocalAirflow, ims_emulator_session: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """A run that planned and deleted 180 media, of which the service refused 7."""
    ids = ims_emulator_session.generate(200, seed=4, days=400)
    ims_emulator_session.protect(ids[:7])
    run = airflow.trigger("pages", {"folder": str(tmp_path_factory.mktemp("files"))})
    assert airflow.wait("pages", run) == "success"
    return run


def test_a_plan_and_a_deletion_are_shown(reader: Visitor, run: str, airflow: LocalAirflow) -> None:
    plan = airflow.xcom("pages", run, "plan")
    answer = reader.get(page("pages", run, "plan", "plan"))
    assert answer.status_code == 200, answer.text
    assert f"Plan to delete {plan['selected']} of {plan['population']} media" in answer.text
    assert plan["digest"] in answer.text
    answer = reader.get(page("pages", run, "delete", "deletion"))
    assert answer.status_code == 200, answer.text
    assert "forbidden" in answer.text
