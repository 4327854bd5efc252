"""An Airflow 2.11 on this machine: scheduler and triggerer as processes of their own, on SQLite, without a port.

Airflow 2 allows SQLite for the ``SequentialExecutor`` only, which runs one task at a time: enough for tasks that
wait in the triggerer. There is no web server, so runs are started with the command line, and what became of them is
read from the database and the log files.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from local_airflow import LocalAirflow, LocalAirflowError

JOBS = {"SchedulerJob": "scheduler", "TriggererJob": "triggerer"}


class LocalAirflow2(LocalAirflow):
    """A running Airflow 2.11, started with the interpreter that it is installed for.

    What needs the REST API (:meth:`request`, :meth:`create_connection`, :meth:`clear`) is not there.

    :param home: an empty folder, as for :class:`LocalAirflow`.
    :param dags: the folder with the DAG files.
    :param env: further environment variables for every process.
    """

    def __init__(self, home: Path, dags: Path, *, env: Mapping[str, str] | None = None) -> None:
        super().__init__(home, dags, dag_processor=False, env=env)
        del self._processes["api-server"]

    def _environment(self) -> dict[str, str]:
        settings = {
            "CORE__EXECUTOR": "SequentialExecutor",
            # Nobody is there to unpause a DAG.
            "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
        }
        # The executor looks for the command ``airflow``.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return (
            super()._environment()
            | {f"AIRFLOW__{name}": value for name, value in settings.items()}
            | {"PATH": path}
        )

    def _up(self) -> set[str]:
        return {
            JOBS[kind]
            for kind, heartbeat in self._rows(
                "select job_type, latest_heartbeat from job where state = 'running'"
            )
            if kind in JOBS and _timestamp(heartbeat) > self._processes[JOBS[kind]].started
        }

    def _rows(self, query: str, *values: str) -> list[Any]:
        with closing(
            sqlite3.connect(f"file:{self.home}/airflow.db?mode=ro", uri=True, timeout=30)
        ) as database:
            return database.execute(query, values).fetchall()

    def request(self, method: str, path: str, **_: Any) -> NoReturn:
        """There is no web server.

        :raises LocalAirflowError: always.
        """
        raise LocalAirflowError(f"{method} {path}: this Airflow 2.11 runs without a web server")

    def wait_for_dag(self, dag_id: str, timeout: float = 60) -> None:
        """Wait until the scheduler has read a DAG."""

        def describe() -> str:
            errors = self._rows("select filename, stacktrace from import_error")
            return f"DAG {dag_id} was not read" + "".join(f"\n{name}: {trace}" for name, trace in errors)

        query = "select dag_id from serialized_dag where dag_id = ?"
        self._poll(lambda: self._rows(query, dag_id), timeout, describe)

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Start a run by hand and return its id."""
        self.wait_for_dag(dag_id)
        run_id = f"manual__{datetime.now(UTC).isoformat()}"
        options = ("--conf", json.dumps(conf or {}), "--run-id", run_id)
        self._run("dags-trigger", "-m", "airflow", "dags", "trigger", *options, dag_id)
        return run_id

    def run_state(self, dag_id: str, run_id: str) -> str:
        """The state of a run."""
        ((state,),) = self._rows("select state from dag_run where dag_id = ? and run_id = ?", dag_id, run_id)
        return str(state)

    def task_states(self, dag_id: str, run_id: str) -> dict[str, str | None]:
        """The state of every task of a run."""
        query = "select task_id, map_index, state from task_instance where dag_id = ? and run_id = ?"
        return {
            task_id + ("" if map_index < 0 else f"[{map_index}]"): state
            for task_id, map_index, state in self._rows(query, dag_id, run_id)
        }

    def task(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, Any]:
        """The state of a task instance, which try it is, and the trigger that it waits for."""
        names = ("state", "try_number", "trigger_id")
        query = (
            f"select {', '.join(names)} from task_instance"
            " where dag_id = ? and run_id = ? and task_id = ? and map_index = ?"
        )
        for row in self._rows(query, dag_id, run_id, task_id, str(map_index)):
            return dict(zip(names, row, strict=True))
        return dict.fromkeys(names)  # a run has no tasks before the scheduler has looked at it

    def xcom(
        self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1
    ) -> Any:
        """A value that a task handed on."""
        query = "select value from xcom where dag_id = ? and run_id = ? and task_id = ? and key = ? and map_index = ?"
        ((value,),) = self._rows(query, dag_id, run_id, task_id, key, str(map_index))
        return json.loads(value)

    def log(
        self, dag_id: str, run_id: str, task_id: str, try_number: int | None = None, map_index: int = -1
    ) -> list[dict[str, Any]]:
        """The lines that a task and its trigger logged.

        :param try_number: which try; the last one by default.
        """
        number = try_number or self.task(dag_id, run_id, task_id, map_index)["try_number"]
        folder = self.home / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={task_id}"
        if map_index >= 0:
            folder /= f"map_index={map_index}"
        texts = [path.read_text(errors="replace") for path in sorted(folder.glob(f"attempt={number}.log*"))]
        return [{"event": line} for text in texts for line in text.splitlines()]


def _timestamp(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
