"""Delete media in Alibaba Cloud IMS: some by id, some by URL together with their files.

Copy this file into your DAG folder, create the connection ``ims_default`` (type *Alibaba Cloud IMS*: AccessKey,
secret and region), and trigger the DAG with the media that are to go, in the form or as JSON::

    {"media_ids": ["a1b2...", "c3d4..."], "input_urls": ["oss://my-bucket/raw/take-1.mp4"]}

Both lists are empty by default, and an empty list means *nothing to delete*: running the example as it is
deletes nothing. What became of each medium stands in a report, JSON lines in a folder of each task's own: name a
place that every worker sees, such as ``oss://my-bucket/ims`` (needs the extra ``oss``).
"""

from __future__ import annotations

import pendulum
from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_ims.operators.ims import IMSDeleteMediaInfosOperator
from airflow_provider_ims.sensors.ims import IMSMediaDeletedSensor

with DAG(
    dag_id="ims_delete_media",
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    params={
        "media_ids": Param(
            [],
            type="array",
            items={"type": "string"},
            title="Media ids",
            description="These leave the media library. Their files stay in the bucket.",
        ),
        "input_urls": Param(
            [],
            type="array",
            items={"type": "string"},
            title="URLs",
            description="These leave the media library, and their files are deleted from the bucket.",
        ),
        "folder": Param(
            "/tmp/ims-reports",
            type="string",
            minLength=1,
            title="Folder",
            description="Where reports go; any object storage path that every worker sees.",
        ),
    },
    tags=["ims", "example"],
    doc_md=__doc__,
):
    delete_by_id = IMSDeleteMediaInfosOperator(
        task_id="delete_by_id",
        media_ids="{{ params.media_ids }}",
        # A list longer than this is a mistake somewhere upstream: the task fails before the first deletion.
        max_media=500,
        # Media that the service refuses to delete (a bucket's owner may protect them) fail the task by default.
        # Here they are expected, and the rest shall go on: the report names each of them.
        on_forbidden="warn",
        report="{{ params.folder }}",
    )

    # Reads may show a medium for a while after its deletion. What was refused stays, so don't wait for that.
    wait_until_gone = IMSMediaDeletedSensor(
        task_id="wait_until_gone",
        manifest="{{ ti.xcom_pull(task_ids='delete_by_id')['report'] }}",  # those that the report calls deleted
        poke_interval=10,
        timeout=600,
        deferrable=True,  # waits in the triggerer, and occupies no worker
    )

    # No bin to fetch a file back from: with `delete_physical_files` the file is gone for good.
    delete_by_url = IMSDeleteMediaInfosOperator(
        task_id="delete_by_url",
        input_urls="{{ params.input_urls }}",
        delete_physical_files=True,
        max_media=100,
        on_forbidden="warn",
        report="{{ params.folder }}",
    )

    delete_by_id >> wait_until_gone
