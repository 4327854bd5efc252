"""Delete a source after it was transcoded: only if every rendition is there.

Copy this file into your DAG folder, create the connection ``ims_default`` (type *Alibaba Cloud IMS*), and trigger
the DAG with the job that ``SubmitTranscodeJob`` returned and the source that it was made from::

    {"parent_job_id": "5d0a...", "source_media_id": "c3d4..."}

1. ``wait_for_renditions`` waits until *every* sub-job succeeded. A job calls itself a success when only one did.
2. ``check_renditions`` reads the renditions: each must be registered with status ``Normal``, and not be the source.
3. ``delete_source`` deletes the source together with its file.
4. ``wait_until_gone`` waits until reads no longer show it.

If a sub-job fails, or a rendition is not as it should be, the run fails and the source stays. Without a job, as this
example is, everything is skipped.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import DAG, AirflowSkipException, Param, get_current_context, task

from airflow_provider_ims.hooks.ims import IMSHook
from airflow_provider_ims.operators.ims import IMSDeleteMediaInfosOperator
from airflow_provider_ims.sensors.ims import IMSMediaDeletedSensor, IMSTranscodeJobSensor

LOOK_EVERY = timedelta(seconds=30)
TRANSCODED_WITHIN = timedelta(hours=6)
GONE_WITHIN = timedelta(hours=1)


@task
def find_job() -> str:
    """Skip the run if it has no job; refuse half of what is needed before anything is waited for."""
    params = get_current_context()["params"]
    job, source = params["parent_job_id"].strip(), params["source_media_id"].strip()
    if not job and not source:
        raise AirflowSkipException("No job was given, so there is no source to delete.")
    if not job or not source:
        raise ValueError("Both parent_job_id and source_media_id are needed.")
    return str(job)


@task(retries=3, retry_delay=timedelta(minutes=1))
def check_renditions(job: dict[str, Any]) -> str:
    """Make sure that every rendition is registered and usable; give the source, which may then go."""
    source = get_current_context()["params"]["source_media_id"].strip()
    hook = IMSHook()
    for output in job["outputs"]:
        media_id, url = output["media_id"], output["url"]
        medium = hook.get_media_info(media_id) if media_id else hook.get_media_info(input_url=url)
        if medium is None or medium.status != "Normal":
            raise RuntimeError(
                f"Rendition {media_id or url} is {medium.status if medium else 'not registered'}."
            )
        if medium.media_id == source:
            raise RuntimeError(f"Rendition {source} is the source itself.")
    return str(source)


with DAG(
    dag_id="ims_cleanup_after_transcode",
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    params={
        "parent_job_id": Param("", type="string", title="Transcoding job", description="Its parent job id."),
        "source_media_id": Param("", type="string", title="Source", description="The media id that goes."),
    },
    tags=["ims", "example"],
    doc_md=__doc__,
):
    wait_for_renditions = IMSTranscodeJobSensor(
        task_id="wait_for_renditions",
        parent_job_id=find_job(),
        poke_interval=LOOK_EVERY,
        timeout=TRANSCODED_WITHIN,
        deferrable=True,  # waits in the triggerer, and occupies no worker
    )

    source = check_renditions(wait_for_renditions.output)

    delete_source = IMSDeleteMediaInfosOperator(
        task_id="delete_source",
        media_ids=[source],
        max_media=1,
        delete_physical_files=True,  # the file in the bucket goes too, for good
    )

    wait_until_gone = IMSMediaDeletedSensor(
        task_id="wait_until_gone",
        media_ids=[source],
        poke_interval=LOOK_EVERY,
        timeout=GONE_WITHIN,
        deferrable=True,
    )

    delete_source >> wait_until_gone
