"""Runs against the emulator, as the hook starts them but without Airflow."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest

from airflow_provider_ims.api.client import IMSClient
from airflow_provider_ims.deletion import run as run_module
from airflow_provider_ims.deletion.run import DeletionRun
from airflow_provider_ims.deletion.targets import Targets, read_targets


class MemoryStore(dict[str, str]):
    """Keeps what Airflow's ``task_state_store`` would: JSON, by key."""

    def get(self, key: str, default: Any = None) -> Any:
        return json.loads(self[key]) if key in self else default

    def set(self, key: str, value: Any) -> None:
        assert json.loads(json.dumps(value)) == value  # Airflow takes nothing that is not plain JSON
        self[key] = json.dumps(value)

    def delete(self, key: str) -> None:
        self.pop(key, None)


@pytest.fixture(scope="session", autouse=True)
def _airflow_sets_up_its_logging_first() -> None:
    """Else the test that happens to load it loses the handler of ``caplog``."""
    import_module("airflow.sdk.io" if find_spec("airflow.sdk") else "airflow.io.path")


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def looks_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shortens the pauses before a target is looked at again, from 30 seconds in all to 3."""
    monkeypatch.setattr(run_module, "LOOK_AGAIN_SECONDS", (0.1, 0.2, 0.4, 0.8, 1.5))


@pytest.fixture
def gives_up_soon(client: IMSClient) -> None:
    """Shortens the retries of a request whose answer is lost again and again."""
    client._min_tries = 3
    client.retry_seconds = 0.2


Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(client: IMSClient) -> Run:
    """Deletes media ids, or what ``read_targets`` gives; and gives the result."""

    def start(targets: Any = None, **options: Any) -> dict[str, Any]:
        if not isinstance(targets, Targets):
            targets = read_targets(media_ids=targets)
        return DeletionRun(options.pop("client", client), targets, **options).execute()

    return start


def counts(result: dict[str, Any]) -> dict[str, int]:
    """Give the outcomes that occurred, once their sum is checked."""
    outcomes = {
        name: result[name] for name in ("deleted", "missing", "forbidden", "failed", "unknown", "kept")
    }
    assert sum(outcomes.values()) == result["requested"]
    return {name: count for name, count in outcomes.items() if count}
