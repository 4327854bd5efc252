"""Transcode a source with a convert job, and delete it: only if every rendition is there.

Copy this file into your DAG folder, put the ids of your templates into it, create the connection ``ims_default``
(type *Alibaba Cloud IMS*), and trigger the DAG with the source and the folder for its renditions::

    {"source_media_id": "c3d4...", "folder": "oss://my-bucket/web"}

1. ``start_job`` starts a convert job with a rendition for each template. A ``job_id`` in the conf names one that
   was started elsewhere instead.
2. ``wait_for_renditions`` waits until the job *and* each of its outputs have ended well.
3. ``check_renditions`` makes sure that the job read the source, looks at each rendition where it lies, and makes sure
   that none is the source itself. What it finds wrong is final: no retry brings a rendition back.
4. ``delete_source`` deletes the source together with its file, and refuses if that is the file of a rendition.
5. ``wait_until_gone`` waits until reads no longer show it.

If an output fails or is skipped, or a rendition is not as it should be, the run fails and the source stays. Without a
source, as this example is, everything is skipped.

Renditions in a bucket are looked at through ``oss://`` paths, which come with the extra ``oss`` of this provider.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pendulum
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowFailException,
    AirflowSkipException,
    ObjectStoragePath,
    Param,
    get_current_context,
    task,
)

from airflow_provider_ims.api.identifiers import stored_object
from airflow_provider_ims.hooks.ims import IMSHook
from airflow_provider_ims.operators.ims import IMSDeleteMediaInfosOperator
from airflow_provider_ims.sensors.ims import IMSMediaConvertJobSensor, IMSMediaDeletedSensor

TEMPLATES = {"1080p": "id-of-a-template", "480p": "id-of-another"}  # of the IMS console
LOOK_EVERY = timedelta(seconds=30)
TRANSCODED_WITHIN = timedelta(hours=6)
GONE_WITHIN = timedelta(hours=1)


@task(retries=3, retry_delay=timedelta(minutes=1))
def start_job() -> str:
    """Start a convert job, and give its id; skip the run if there is nothing to convert."""
    context = get_current_context()
    source, folder, job = (
        context["params"][name].strip() for name in ("source_media_id", "folder", "job_id")
    )
    if not source and not job:
        raise AirflowSkipException("No source was given, so there is nothing to convert or to delete.")
    if not source or not (folder or job):
        raise AirflowFailException("source_media_id is needed, and folder or job_id.")
    if job:
        return str(job)
    config = {
        "Inputs": [{"InputFile": {"Type": "Media", "Media": source}}],
        "OutputGroups": [
            {
                "Name": "renditions",
                "GroupConfig": {"Type": "File", "OutputFileBase": {"Type": "OSS", "Media": folder}},
                "Outputs": [
                    {"Name": name, "OutputFileName": f"{source}-{name}.mp4", "TemplateId": template}
                    for name, template in TEMPLATES.items()
                ],
            }
        ],
    }
    ti = context["ti"]
    answer = IMSHook().call(
        "SubmitMediaConvertJob",
        Config=json.dumps(config),
        # A retry of this task starts no second job.
        ClientToken=str(uuid5(NAMESPACE_URL, f"{ti.dag_id}/{ti.run_id}")),
    )
    return str(answer["Job"]["JobId"])


def _is_source(given: dict[str, str | None], source: str, hook: IMSHook) -> bool:
    """Whether an input of a job is the source; somebody else's job may have read it by its file's URL."""
    if given["media_id"] or not given["url"]:
        return given["media_id"] == source
    medium = hook.get_media_info(input_url=given["url"])
    return medium is not None and medium.media_id == source


def _path(url: str) -> ObjectStoragePath:
    """Give the path of a file in its bucket, also of one that IMS tells by its web address."""
    bucket, key = stored_object(url) or (url, "")
    return ObjectStoragePath(f"{bucket}/{key}")


@task(multiple_outputs=True, retries=3, retry_delay=timedelta(minutes=1))
def check_renditions(job: dict[str, Any]) -> dict[str, Any]:
    """Look at every rendition where it lies; give the URL of the source, which may then go, and theirs."""
    hook = IMSHook()
    source = hook.get_media_info(get_current_context()["params"]["source_media_id"].strip())
    if source is None or not source.input_url:
        raise AirflowFailException("The source is not registered, or has no URL.")
    if not any(_is_source(given, source.media_id, hook) for given in job["inputs"]):
        raise AirflowFailException(f"The job did not read {source.media_id}, but {job['inputs']}.")
    renditions = []
    for output in job["outputs"]:
        media_id, url = output["media_id"], output["url"]
        if media_id == source.media_id:
            raise AirflowFailException(f"Rendition {output['name']} was written into the source itself.")
        if media_id:
            medium = hook.get_media_info(media_id)
            if medium is None or medium.status != "Normal":
                raise AirflowFailException(
                    f"Rendition {media_id} is {medium.status if medium else 'not registered'}."
                )
        elif not url or not (file := _path(url)).exists() or not file.stat().st_size:
            raise AirflowFailException(f"Rendition {output['name']} is an empty file, or none: {url}.")
        if url:
            renditions.append(url)
    return {"source": source.input_url, "renditions": renditions}


with DAG(
    dag_id="ims_cleanup_after_transcode",
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    params={
        "source_media_id": Param("", type="string", title="Source", description="The media id that goes."),
        "folder": Param("", type="string", title="Folder", description="For the renditions: oss://..."),
        "job_id": Param(
            "", type="string", title="Job", description="A convert job that was started already."
        ),
    },
    tags=["ims", "example"],
    doc_md=__doc__,
):
    wait_for_renditions = IMSMediaConvertJobSensor(
        task_id="wait_for_renditions",
        job_id=start_job(),
        poke_interval=LOOK_EVERY,
        timeout=TRANSCODED_WITHIN,
        deferrable=True,  # waits in the triggerer, and occupies no worker
    )

    checked = check_renditions(wait_for_renditions.output)

    delete_source = IMSDeleteMediaInfosOperator(
        task_id="delete_source",
        input_urls=[checked["source"]],
        protect=checked["renditions"],  # a job can write over its own source
        max_media=1,
        delete_physical_files=True,  # the file in the bucket goes too, for good
    )

    wait_until_gone = IMSMediaDeletedSensor(
        task_id="wait_until_gone",
        input_urls=[checked["source"]],
        poke_interval=LOOK_EVERY,
        timeout=GONE_WITHIN,
        deferrable=True,
    )

    delete_source >> wait_until_gone
