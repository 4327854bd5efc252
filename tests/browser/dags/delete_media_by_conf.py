"""Deletes the media that a run is told, with the connection that the browser test makes in the UI."""

from __future__ import annotations

import pendulum
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_ims.operators.ims import IMSDeleteMediaInfosOperator

with DAG("delete_media_by_conf", schedule=None, start_date=pendulum.datetime(2026, 1, 1, tz="UTC")):
    IMSDeleteMediaInfosOperator(
        task_id="delete_media", ims_conn_id="ims_team", media_ids="{{ dag_run.conf['media_ids'] }}"
    )
