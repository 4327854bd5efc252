"""The same deletion with and without a kept state."""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_ims.operators.ims import IMSDeleteMediaInfosOperator

for durable in (True, False):
    with DAG(f"durable_{durable}", schedule=None, catchup=False) as dag:
        IMSDeleteMediaInfosOperator(
            task_id="delete",
            manifest="{{ dag_run.conf['manifest'] }}",
            report="{{ dag_run.conf['report'] }}",
            durable=durable,
        )
    globals()[dag.dag_id] = dag
