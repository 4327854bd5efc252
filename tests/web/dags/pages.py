"""Makes plans and deletions to look at."""

from __future__ import annotations

from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_ims.operators.ims import IMSDeleteMediaInfosOperator, IMSPlanMediaRetentionOperator

with DAG("pages", schedule=None, start_date=pendulum.datetime(2026, 1, 1, tz="UTC")):
    plan = IMSPlanMediaRetentionOperator(
        task_id="plan",
        manifest="{{ dag_run.conf['folder'] }}/plan.jsonl",
        older_than="P90D",
        exclude_tags=["legal-hold"],
        max_media=100_000,
        max_percent=100,
    )
    delete = IMSDeleteMediaInfosOperator(
        task_id="delete",
        manifest="{{ ti.xcom_pull(task_ids='plan')['manifest'] }}",
        report="{{ dag_run.conf['folder'] }}/report",
        on_forbidden="warn",
    )
    plan >> delete


with DAG("anything", schedule=None, start_date=pendulum.datetime(2026, 1, 1, tz="UTC")):

    @task
    def returns(value: Any) -> Any:
        return value

    @task
    def fails() -> None:
        raise ValueError

    @task
    def values(**context: Any) -> Any:
        return context["dag_run"].conf["values"]

    returns.expand(value=values())
    fails()
