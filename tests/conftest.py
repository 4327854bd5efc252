"""What all tests share: an Airflow home of their own, and stores for files.

The emulated IMS comes from the package's pytest plugin.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

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

# It sets up logging, and would drop the handlers of the test that is the first to import it.
import airflow  # noqa: E402, F401
import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

from airflow_provider_ims.api.client import IMSClient  # noqa: E402
from airflow_provider_ims.api.credentials import StaticCredentials  # noqa: E402
from airflow_provider_ims.api.endpoints import parse_host  # noqa: E402
from airflow_provider_ims.emulator import Emulator  # noqa: E402
from tests.stores import azure_connection, local_oss, oss_server, s3_endpoint, store  # noqa: E402, F401

# How long an example takes says how busy the machine is.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def airflow_database() -> None:
    """A migrated metadata database, for the tests that run whole DAGs."""
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture
def client(ims_emulator: Emulator) -> IMSClient:
    """Asks the emulator, as a hook's client does it without a pace."""
    return IMSClient(
        parse_host(ims_emulator.endpoint),
        StaticCredentials(ims_emulator.access_key_id, ims_emulator.access_key_secret),
        read_timeout=6,
        retry_seconds=20,
    )


@pytest.fixture(autouse=True)
def _no_store_of_a_test_before() -> None:
    """Airflow keeps a connection's file system for the life of a process, with the address that it had at first."""
    for module in ("airflow.sdk.io.store", "airflow.io.store"):  # the latter in Airflow 2
        if module in sys.modules:
            stores = sys.modules[module]._STORE_CACHE
            for name in [name for name in stores if name.startswith("oss")]:
                del stores[name]
