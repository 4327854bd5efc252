"""DAGs that have Airflow's database keep as much as it ever may: under the longest names, of the most targets."""

from __future__ import annotations

import json
import os
import signal
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG

from airflow_provider_ims.deletion.checkpoint import StateStore
from airflow_provider_ims.operators.ims import IMSDeleteMediaInfosOperator
from airflow_provider_ims.sensors.ims import IMSMediaConvertJobSensor, IMSMediaDeletedSensor

# As long as Airflow takes a name, of characters that take three bytes; it takes none with four on MySQL.
LONGEST = "媒" * 250


class TimedStore:
    """Passes everything on to Airflow's store, notes each save, and has the worker killed after so many."""

    def __init__(self, store: StateStore, notes: Path, saves: int | None) -> None:
        self._store = store
        self._notes = notes
        self._saves_left = saves

    def get(self, key: str, default: Any = None) -> Any:
        return self._store.get(key, default)

    def set(self, key: str, value: Any) -> None:
        began = time.perf_counter()
        self._store.set(key, value)
        note = {"seconds": time.perf_counter() - began, "bytes": len(json.dumps(value))}
        with self._notes.open("a") as notes:
            notes.write(json.dumps(note) + "\n")
        if self._saves_left is not None:
            self._saves_left -= 1
            if self._saves_left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def delete(self, key: str) -> None:
        self._store.delete(key)


class TimedDelete(IMSDeleteMediaInfosOperator):
    """Reads from the run's conf where to note its saves (``notes``) and how many its first try lives (``saves``)."""

    def _state_store(self, context: Any) -> StateStore:
        conf = context["dag_run"].conf
        saves = conf.get("saves") if context["ti"].try_number == 1 else None
        return TimedStore(context["task_state_store"], Path(conf["notes"]), saves)


def delete(task_id: str, **options: Any) -> TimedDelete:
    return TimedDelete(
        task_id=task_id,
        manifest="{{ dag_run.conf['manifest'] }}",
        report="{{ dag_run.conf['report'] }}",
        on_forbidden="warn",
        **options,
    )


with DAG("million", schedule=None, catchup=False):
    delete("delete", ims_conn_id="ims_million")

with DAG(LONGEST, schedule=None, catchup=False):
    delete(
        LONGEST,
        retries=3,
        retry_delay=timedelta(0),
        wait_for_completion=True,
        poll_interval=1,
        deferrable=True,
    )

with DAG("waits", schedule=None, catchup=False, render_template_as_native_obj=True):
    for name in ("media_ids", "input_urls", "manifest"):
        argument: dict[str, Any] = {name: f"{{{{ dag_run.conf['{name}'] }}}}"}
        IMSMediaDeletedSensor(task_id=name, deferrable=True, poke_interval=2, **argument)
    IMSMediaConvertJobSensor(task_id="job", job_id="{{ dag_run.conf['job'] }}")
