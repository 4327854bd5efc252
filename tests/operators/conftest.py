"""One operator, run by Airflow itself in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.test_example_dags import load, run

DAG_FILE = Path(__file__).parent.parent / "dags" / "delete_by_conf.py"


@dataclass
class Ran:
    """How a task ended."""

    state: str
    xcom: Any


@pytest.fixture
def run_dag(airflow_database: None) -> Callable[..., Ran]:
    """Runs a DAG of ``tests/dags`` with its one task ``it``."""

    def start(dag_id: str, conf: dict[str, Any]) -> Ran:
        finished = run(load(DAG_FILE)[dag_id], conf)
        task = finished.get_task_instance("it")
        value = task.xcom_pull(task_ids="it")
        json.dumps(value)
        return Ran(str(task.state), value)

    return start
