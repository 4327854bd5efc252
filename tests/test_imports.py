"""What a DAG file of this provider costs to parse, and which way the imports point."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("requests", "aiohttp", "alibabacloud_credentials", "starlette", "tenacity", "urllib3.connectionpool")
MODULES = (
    "airflow_provider_ims.operators.ims",
    "airflow_provider_ims.sensors.ims",
    "airflow_provider_ims.hooks.ims",
)


@pytest.mark.parametrize("module", MODULES)
def test_nothing_heavy_is_loaded_beyond_what_airflow_loads_itself(module: str) -> None:
    names = "BaseOperator, sdk.BaseHook, sdk.AirflowFailException"
    base = f"import airflow.providers.common.compat.sdk as sdk; sdk.{names}"
    script = (
        f"import sys; {base}; before = set(sys.modules); import {module}; print(*(set(sys.modules) - before))"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    new = loaded.splitlines()[-1].split()
    assert module in new
    assert [name for name in new if name.partition(".")[0] in HEAVY or name in HEAVY] == []


def test_what_only_running_tasks_need_is_not_loaded() -> None:
    lazy = [
        f"airflow_provider_ims.{name}" for name in ("api.client", "api.jobs", "triggers.ims", "deletion.run")
    ]
    script = f"import sys, {', '.join(MODULES)}; print(*(m for m in {lazy!r} if m in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == ""


def test_the_operators_load_neither_requests_nor_the_credentials_library() -> None:
    script = f"import sys, {MODULES[0]}; print(*(m for m in {HEAVY[:3]!r} if m in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == ""
