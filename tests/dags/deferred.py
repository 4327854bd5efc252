"""A deferrable operator and deferrable sensors, to be run by ``dag.test()``."""

from __future__ import annotations

import pendulum
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_ims.operators.ims import IMSDeleteMediaInfosOperator
from airflow_provider_ims.sensors.ims import IMSMediaDeletedSensor

with DAG("deferred", schedule=None, start_date=pendulum.datetime(2026, 1, 1, tz="UTC")) as dag:
    IMSDeleteMediaInfosOperator(
        task_id="delete_and_wait",
        media_ids="{{ dag_run.conf['first'] }}",
        wait_for_completion=True,
        deferrable=True,
        poll_interval=1,
    )
    # ``dag.test()`` runs one task after the other, in any order that is allowed: who waits must come last.
    delete = IMSDeleteMediaInfosOperator(task_id="delete", media_ids="{{ dag_run.conf['second'] }}")
    gone = IMSMediaDeletedSensor(
        task_id="gone", media_ids="{{ dag_run.conf['second'] }}", deferrable=True, poke_interval=1
    )
    delete >> gone
