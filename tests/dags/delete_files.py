"""Deletes media together with their files: named by URL, by a plan, and by id alone."""

from __future__ import annotations

import pendulum
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_ims.operators.ims import IMSDeleteMediaInfosOperator

for name in ("input_urls", "manifest", "media_ids"):
    with DAG(
        f"delete_files_by_{name}", schedule=None, start_date=pendulum.datetime(2026, 1, 1, tz="UTC")
    ) as dag:
        IMSDeleteMediaInfosOperator(
            task_id="it",
            **{name: f"{{{{ dag_run.conf['{name}'] }}}}"},
            delete_physical_files=True,
            wait_for_completion=True,
            poll_interval=0.1,
        )
    globals()[dag.dag_id] = dag
