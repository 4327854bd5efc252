"""A DAG of somebody who uses nothing of this provider but its ``oss://`` paths."""

from __future__ import annotations

import pendulum
from airflow.providers.common.compat.sdk import DAG, ObjectStoragePath, task

with DAG("plain_paths", schedule=None, start_date=pendulum.datetime(2026, 1, 1, tz="UTC")) as dag:

    @task
    def write() -> ObjectStoragePath:
        path = ObjectStoragePath("oss://media-team/plain.txt")
        path.write_text("from a task")
        return path

    @task
    def read(path: ObjectStoragePath) -> str:
        return path.read_text()

    read(write())
