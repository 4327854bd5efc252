"""A deferrable operator and deferrable sensors, to be run by ``dag.test()``."""

from __future__ import annotations

import pendulum
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_ims.operators.ims import IMSDeleteMediaInfosOperator
from airflow_provider_ims.sensors.ims import IMSMediaDeletedSensor

with DAG("deferred", schedule=None, start_date=pendulum.datetime(2026, 1, 1, tz="UTC")) as dag:
    delete = IMSDeleteMediaInfosOperator(
        task_id="delete",
        media_ids="{{ dag_run.conf['media_ids'] }}",
        wait_for_completion=True,
        deferrable=True,
        poll_interval=1,
    )
    gone = IMSMediaDeletedSensor(
        task_id="gone", media_ids="{{ dag_run.conf['media_ids'] }}", deferrable=True, poke_interval=1
    )
