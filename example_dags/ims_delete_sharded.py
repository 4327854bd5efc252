"""Delete a manifest that is long enough to be worth several workers: one shard for each task.

Copy this file into your DAG folder, create the connection ``ims_default`` (type *Alibaba Cloud IMS*: AccessKey,
secret and region), and trigger the DAG with a text file of one media id a line, or with a plan::

    {"manifest": "oss://my-bucket/to-delete.txt", "shards": 8}

1. ``split`` reads the manifest once and writes its shards next to each other. The same id always goes to the same
   shard. If ``manifest_digest`` is given, any other file than the one with this SHA-256 is refused before that.
2. ``delete`` is mapped over the shards, on as many workers as there are. Each of its tasks has a report of its own
   and, from Airflow 3.3 on, resumes after a kill. Only paths, digests and counts travel between tasks.
3. ``merge`` adds the results up, and fails if they don't account for every line of the manifest.

The request limit is the account's, and the tasks share it without knowing of each other: shards make a run faster
only while one task alone does not reach the limit. When one task is enough is told in ``docs/scale.md``.

Without a manifest, as this example is, nothing is deleted. The folder must be one that every worker sees: take a path
in an object store.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import DAG, Param, get_current_context, task

from airflow_provider_ims.operators.ims import IMSDeleteMediaInfosOperator
from airflow_provider_ims.sharding import merge_results, split_manifest


@task(retries=3, show_return_value_in_logs=False)
def split() -> list[dict[str, Any]]:
    """Write the shards; give each one's arguments for the operator."""
    context = get_current_context()
    params = context["params"]
    return split_manifest(
        params["manifest"],
        f"{params['folder']}/{context['ti'].dag_id}/{context['ti'].run_id}/shards",
        params["shards"],
        manifest_digest=params["manifest_digest"] or None,
    )


# Also after a shard failed: what became of its media stands in its result.
@task(trigger_rule="all_done")
def merge(shards: list[dict[str, Any]] | None, results: Any) -> dict[str, Any]:
    """Make one result of those of all shards."""
    return merge_results(shards, results)


with DAG(
    dag_id="ims_delete_sharded",
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    params={
        "manifest": Param(
            "",
            type="string",
            title="Manifest",
            description="Path of a plan, or of a text file with one media id a line.",
        ),
        "manifest_digest": Param(
            "",
            type="string",
            title="SHA-256",
            description="Of the manifest as it was approved. Empty: any manifest is taken.",
        ),
        "shards": Param(8, type="integer", minimum=1, maximum=128, title="Shards"),
        "folder": Param(
            "/tmp/ims-shards",
            type="string",
            minLength=1,
            title="Folder",
            description="Where shards and reports go; any object storage path that every worker sees.",
        ),
    },
    tags=["ims", "example"],
    doc_md=__doc__,
):
    shards = split()

    delete = IMSDeleteMediaInfosOperator.partial(
        task_id="delete",
        report="{{ params.folder }}/reports",
        retries=3,  # for a worker that dies; what the service refuses is not tried again
        retry_delay=timedelta(seconds=10),
    ).expand_kwargs(shards)

    merge(shards, delete.output)
