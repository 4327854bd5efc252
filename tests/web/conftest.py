"""A real Airflow with users who may see different things."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests
from local_airflow import LocalAirflow
from media_team import REGION

from airflow_provider_ims.emulator import Emulator

HERE = Path(__file__).parent
USERS = {"admin": "admin", "reader": "viewer", "stranger": "viewer", "clerk": "viewer"}


@pytest.fixture(scope="session")
def airflow(
    tmp_path_factory: pytest.TempPathFactory, ims_emulator_session: Emulator
) -> Iterator[LocalAirflow]:
    ims_emulator_session.reset()  # what tests of other files left behind
    with_oss = {"region": REGION, "oss_endpoint": ims_emulator_session.oss.endpoint}
    env = {
        "AIRFLOW_CONN_IMS_DEFAULT": ims_emulator_session.airflow_connection(extra={"region": REGION}),
        "AIRFLOW_CONN_IMS_TEAM": ims_emulator_session.airflow_connection(extra=with_oss),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(
            f"{name}:{role}" for name, role in USERS.items()
        ),
        "AIRFLOW__CORE__AUTH_MANAGER": "strict_auth_manager.StrictAuthManager",
        "PYTHONPATH": os.pathsep.join(
            [str(HERE / "plugins_path"), *filter(None, [os.environ.get("PYTHONPATH")])]
        ),
    }
    home = tmp_path_factory.mktemp("web") / "home"
    with LocalAirflow(home, HERE / "dags", triggerer=False, env=env) as airflow:
        yield airflow


class Visitor(NamedTuple):
    """Somebody with a browser: logged in, if ``name`` is one of the users."""

    http: requests.Session
    url: str

    def get(self, path: str, /, **params: Any) -> requests.Response:
        return self.http.get(self.url + path, params=params, timeout=30, allow_redirects=False)


@pytest.fixture(scope="session")
def visit(airflow: LocalAirflow) -> Callable[[str | None], Visitor]:
    passwords = json.loads((airflow.home / "passwords.json").read_text())

    def visit(name: str | None) -> Visitor:
        http = requests.Session()
        http.trust_env = False
        if name:
            login = {"username": name, "password": passwords[name]}
            answer = http.post(f"{airflow.url}/auth/token", json=login, timeout=30)
            answer.raise_for_status()
            # As a browser holds it.
            http.cookies.set("_token", answer.json()["access_token"])
        return Visitor(http, airflow.url)

    return visit


@pytest.fixture(scope="session")
def reader(visit: Callable[[str | None], Visitor]) -> Visitor:
    return visit("reader")
