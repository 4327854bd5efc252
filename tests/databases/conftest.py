"""An Airflow on each database, and what runs on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_provider_ims.emulator import Emulator
from tests.databases.airflow_database import DATABASES, run_airflow
from tests.databases.runs import FIGURES, Runs


@pytest.fixture(scope="session", params=list(DATABASES))
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """What runs on one database; its figures stay for whoever started the tests."""
    with (
        Emulator("--keep-requests", "100") as emulator,
        run_airflow(request.param, emulator) as (airflow, database),
    ):
        runs = Runs(airflow, database, emulator, tmp_path_factory.mktemp("runs"))
        yield runs
        figures = request.config.stash.setdefault(FIGURES, {})
        figures[f"{request.param} {database.version()}"] = runs.figures
