"""One operator a DAG, for tests that let Airflow render templates, push XCom and judge failures."""

from __future__ import annotations

import pendulum
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_ims.operators.ims import IMSDeleteMediaInfosOperator

for dag_id, policies in (
    ("delete_by_conf", {}),
    ("delete_by_conf_and_warn", {"on_forbidden": "warn"}),
):
    with DAG(dag_id, schedule=None, start_date=pendulum.datetime(2026, 1, 1, tz="UTC")) as dag:
        IMSDeleteMediaInfosOperator(
            task_id="it", media_ids="{{ dag_run.conf['media_ids'] }}", retries=3, **policies
        )
    globals()[dag_id] = dag
