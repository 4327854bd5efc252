"""Delete temporary media that are older than 30 days, without asking anybody, within tight caps.

Copy this file into your DAG folder and create the connection ``ims_default`` (type *Alibaba Cloud IMS*: AccessKey,
secret and region). Nobody looks before something is deleted, so everything that can be narrow is: only media with
the tag ``temporary`` and a title that begins with ``tmp-``; never one with the tag ``keep`` or ``legal-hold``; the
newest 50 stay however old they are; and a plan of more than 200 media, or of more than 2% of the library, fails the
run before the first deletion. Let Airflow tell you when it does (``on_failure_callback``).

What a person should approve first is in the example ``ims_retention``.

The plans go to the folder that the run is given. Every worker must see it: take a path in an object store.
"""

from __future__ import annotations

import pendulum
from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_ims.operators.ims import IMSDeleteMediaInfosOperator, IMSPlanMediaRetentionOperator

MOST = 200

with DAG(
    dag_id="ims_retention_unattended",
    schedule=None,  # "@daily", once you have seen a plan or two
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    params={
        "folder": Param(
            "/tmp/ims-plans",
            type="string",
            minLength=1,
            title="Folder",
            description="Where plans and reports go; any object storage path that every worker sees.",
        ),
    },
    tags=["ims", "example"],
    doc_md=__doc__,
):
    plan = IMSPlanMediaRetentionOperator(
        task_id="plan",
        manifest="{{ params.folder }}/{{ dag.dag_id }}/{{ run_id }}/plan.jsonl",
        older_than="P30D",
        require_tags=["temporary"],
        exclude_tags=["legal-hold", "keep"],
        title_pattern="tmp-*",
        keep_latest=50,
        max_media=MOST,
        max_percent=2,
    )

    # A plan that names nothing deletes nothing, and that is a success.
    delete = IMSDeleteMediaInfosOperator(
        task_id="delete",
        manifest="{{ ti.xcom_pull(task_ids='plan')['manifest'] }}",
        manifest_digest="{{ ti.xcom_pull(task_ids='plan')['digest'] }}",
        report="{{ params.folder }}/reports",
        max_media=MOST,
    )

    plan >> delete
