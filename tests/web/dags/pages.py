"""Makes plans and deletions to look at, and results that name anything."""

from __future__ import annotations

from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_ims.operators.ims import IMSDeleteMediaInfosOperator, IMSPlanMediaRetentionOperator

START = pendulum.datetime(2026, 1, 1, tz="UTC")
CONNECTION = "{{ dag_run.conf.get('ims_conn_id', 'ims_default') }}"

with DAG("pages", schedule=None, start_date=START):
    plan = IMSPlanMediaRetentionOperator(
        task_id="plan",
        manifest="{{ dag_run.conf['folder'] }}/plan.jsonl",
        older_than="P90D",
        exclude_tags=["legal-hold"],
        max_media="{{ dag_run.conf.get('max_media', 100_000) }}",
        max_percent=100,
        ims_conn_id=CONNECTION,
    )
    delete = IMSDeleteMediaInfosOperator(
        task_id="delete",
        manifest="{{ ti.xcom_pull(task_ids='plan')['manifest'] }}",
        report="{{ dag_run.conf['folder'] }}/report",
        on_forbidden="warn",
        ims_conn_id=CONNECTION,
    )
    plan >> delete

with DAG("delete_by_id", schedule=None, start_date=START):
    IMSDeleteMediaInfosOperator(task_id="delete", media_ids="{{ dag_run.conf['media_ids'] }}", preview=True)

with DAG("anything", schedule=None, start_date=START):

    @task
    def values(**context: Any) -> Any:
        return context["dag_run"].conf["values"]

    @task
    def returns(value: Any) -> Any:
        return value

    returns.expand(value=values())
