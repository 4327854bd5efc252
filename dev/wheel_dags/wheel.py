"""DAGs for use_wheel.py, in spellings that Airflow 2.11 and each 3 understand with what they came with."""

from __future__ import annotations

import pendulum

try:
    from airflow.sdk import DAG, ObjectStoragePath, task

    _ = DAG.test
except (ImportError, AttributeError):  # Airflow 2; 3.0.0
    from airflow.decorators import task
    from airflow.io.path import ObjectStoragePath
    from airflow.models.dag import DAG

from airflow_provider_ims.operators.ims import IMSDeleteMediaInfosOperator, IMSPlanMediaRetentionOperator
from airflow_provider_ims.sensors.ims import IMSMediaDeletedSensor, IMSTranscodeJobSensor

PARAMS = {"media_ids": [], "job": "", "folder": ""}
MIB = 2**20


def dag(name: str) -> DAG:
    started = pendulum.datetime(2026, 1, 1, tz="UTC")
    return DAG(dag_id=name, schedule=None, start_date=started, catchup=False, params=PARAMS)


with dag("deletion"):
    IMSDeleteMediaInfosOperator(task_id="delete", media_ids="{{ params.media_ids }}", max_media=100)

with dag("sensors"):
    IMSMediaDeletedSensor(task_id="gone", media_ids="{{ params.media_ids }}", poke_interval=1, timeout=60)
    IMSTranscodeJobSensor(task_id="done", parent_job_id="{{ params.job }}", poke_interval=1, timeout=60)

with dag("plan"):
    plan = IMSPlanMediaRetentionOperator(
        task_id="plan",
        manifest="{{ params.folder }}/plan.jsonl",
        older_than="P30D",
        require_tags=["unwanted"],
        max_media=100,
        max_percent=90,
    )
    delete = IMSDeleteMediaInfosOperator(
        task_id="delete",
        manifest="{{ ti.xcom_pull(task_ids='plan')['manifest'] }}",
        manifest_digest="{{ ti.xcom_pull(task_ids='plan')['digest'] }}",
        report="{{ params.folder }}/reports",
        max_media=100,
    )
    _ = plan >> delete


@task
def use_store(folder: str) -> None:
    """Write 12 MiB in pieces, read them back, and list a folder of more than one page."""
    base = ObjectStoragePath(folder)
    pieces = [bytes([number]) * MIB for number in range(12)]
    with (base / "pieces").open("wb") as file:
        for piece in pieces:
            file.write(piece)
    assert (base / "pieces").read_bytes() == b"".join(pieces)
    assert len(list((base / "many").iterdir())) == 2500


with dag("store"):
    use_store("{{ params.folder }}")
