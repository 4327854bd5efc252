"""Runs that go well, fail and are refused, each with credentials of another kind; and one that leaks on purpose."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pendulum
from airflow.providers.common.compat.sdk import DAG, BaseOperator

from airflow_provider_ims.hooks.ims import IMSHook
from airflow_provider_ims.operators.ims import IMSDeleteMediaInfosOperator


class Leak(BaseOperator):
    """Hands a secret to a logger, to XCom and to a file."""

    def execute(self, context):
        secret = os.environ["PLANTED"]
        logging.getLogger("airflow_provider_ims.planted").debug("the secret is %s", secret)
        Path(os.environ["REPORTS"], "planted.txt").write_text(secret)
        return secret


class Look(BaseOperator):
    """Presses the Test button, and reads."""

    template_fields = ("media_id",)

    def __init__(self, *, media_id: str, ims_conn_id: str, **kwargs):
        super().__init__(**kwargs)
        self.media_id = media_id
        self.ims_conn_id = ims_conn_id

    def execute(self, context):
        hook = IMSHook(self.ims_conn_id)
        hook.get_media_info(self.media_id)
        return [repr(hook), repr(hook.settings), *hook.test_connection()]


for conn_id in os.environ["CONNECTIONS"].split(","):
    with DAG(conn_id, schedule=None, start_date=pendulum.datetime(2026, 1, 1, tz="UTC")) as dag:
        IMSDeleteMediaInfosOperator(
            task_id="delete",
            ims_conn_id=conn_id,
            media_ids="{{ dag_run.conf['media_ids'] }}",
            report=os.environ["REPORTS"],
        )
        Look(task_id="look", ims_conn_id=conn_id, media_id="{{ dag_run.conf['media_ids'][0] }}")
    globals()[conn_id] = dag

with DAG("leak", schedule=None, start_date=pendulum.datetime(2026, 1, 1, tz="UTC")) as leak:
    Leak(task_id="leak")
