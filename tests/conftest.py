"""What all tests share: an Airflow home of their own, an emulated IMS, clients and connections to it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Before Airflow is imported, which reads all of this once.
_tests = Path(__file__).parent
_home = tempfile.TemporaryDirectory(prefix="airflow-home-")
os.environ |= {
    "AIRFLOW_HOME": _home.name,
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{_home.name}/airflow.db",
    "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(
        [
            {
                "name": f"{folder.name}_bundle",
                "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
                "kwargs": {"path": str(folder)},
            }
            for folder in (_tests.parent / "example_dags", _tests / "dags")
        ]
    ),
    "ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true",
    "no_proxy": "127.0.0.1,localhost",
}

import pytest  # noqa: E402

from airflow_provider_ims.emulator.server import Emulator  # noqa: E402


@pytest.fixture(scope="session")
def airflow_database() -> None:
    """A migrated metadata database, for the tests that run whole DAGs."""
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture(scope="session")
def running_emulator() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def emulator(running_emulator: Emulator) -> Emulator:
    """A running emulator with an empty library, empty books and no faults."""
    running_emulator.reset()
    running_emulator.drop_faults()
    return running_emulator


@pytest.fixture
def connect(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the Airflow connection ``ims_default`` to the emulator; arguments replace fields and extras."""

    def make(*, conn_id: str = "ims_default", extra: dict[str, Any] | None = None, **fields: Any) -> None:
        connection = {
            "conn_type": "alibaba_ims",
            "login": emulator.access_key_id,
            "password": emulator.access_key_secret,
            "host": emulator.endpoint,
            "extra": {"region": "cn-shanghai", "retry_seconds": 5, **(extra or {})},
            **fields,
        }
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(connection))

    make()
    return make
