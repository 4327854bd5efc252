"""Delete what is older than 90 days, once a person has looked at the list and approved it.

Copy this file into your DAG folder and create the connection ``ims_default`` (type *Alibaba Cloud IMS*: AccessKey,
secret and region). The policy stands below, in the file, so that nobody can widen it when starting a run.

1. ``plan`` reads the whole library and writes down which media the policy selects, and next to it a page to look at.
   It fails if they are more than the caps allow.
2. ``anything_selected`` ends the run here if there is nothing to decide.
3. ``approve`` waits, in Airflow's *Required Actions*, for a person. No answer within three days means no.
4. ``delete`` deletes the media of the plan that was approved, and of no other: its SHA-256 has to be the same. A
   medium that carries an excluded tag by now, or changed otherwise, is left alone.
5. ``wait_until_gone`` waits until reads no longer show what was deleted.
6. ``tell`` says how it ended; put your own message there.

The plans go to the folder that the run is given. Every worker must see it, and so must whoever approves: take a
path in an object store, such as ``oss://my-bucket/ims-plans``. Needs Airflow 3.1 for the approval.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import DAG, Param, task
from airflow.providers.standard.operators.hitl import ApprovalOperator

from airflow_provider_ims.operators.ims import IMSDeleteMediaInfosOperator, IMSPlanMediaRetentionOperator
from airflow_provider_ims.sensors.ims import IMSMediaDeletedSensor

# True deletes the files in the bucket too, not only what IMS knows of them.
DELETE_PHYSICAL_FILES = False

# How many media, how large, how old, which titles, by which policy: all that the plan itself can tell.
QUESTION = "{{ ti.xcom_pull(task_ids='plan')['question'] }}\n\n" + (
    "**Their files in the bucket are deleted with them.**"
    if DELETE_PHYSICAL_FILES
    else "Their files stay in the bucket."
)


@task.short_circuit
def anything_selected(plan: dict[str, Any]) -> bool:
    """Ask nobody about nothing."""
    return bool(plan["selected"])


@task(trigger_rule="none_failed")
def tell(plan: dict[str, Any], deletion: dict[str, Any] | None = None) -> str:
    """Say how it ended. A run that failed has failed before: see Airflow's ``on_failure_callback``."""
    if not deletion:
        return f"Not approved: the {plan['selected']:,} media of {plan['manifest']} stay."
    return f"Deleted {deletion['deleted']:,} of {plan['selected']:,} media; the report is in {deletion['report']}."


with DAG(
    dag_id="ims_retention",
    schedule=None,  # "@weekly", once you have seen a plan or two
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
        older_than="P90D",
        exclude_tags=["legal-hold", "keep"],
        # More than this is a mistake somewhere: the task fails, and nothing can be deleted from its plan.
        max_media=1000,
        max_percent=20,
    )

    approve = ApprovalOperator(
        task_id="approve",
        subject="Delete {{ ti.xcom_pull(task_ids='plan')['selected'] }} media for good?",
        body=QUESTION,
        defaults=ApprovalOperator.REJECT,
        response_timeout=timedelta(days=3),
    )

    delete = IMSDeleteMediaInfosOperator(
        task_id="delete",
        manifest="{{ ti.xcom_pull(task_ids='plan')['manifest'] }}",
        manifest_digest="{{ ti.xcom_pull(task_ids='plan')['digest'] }}",
        delete_physical_files=DELETE_PHYSICAL_FILES,
        report="{{ params.folder }}/reports",
        # Media that the service refuses to delete don't stop the others; the report names them.
        on_forbidden="warn",
    )

    wait_until_gone = IMSMediaDeletedSensor(
        task_id="wait_until_gone",
        manifest="{{ ti.xcom_pull(task_ids='delete')['report'] }}",  # those that the report calls deleted
        poke_interval=30,
        timeout=3600,
        mode="reschedule",
    )

    anything_selected(plan.output) >> approve >> delete >> wait_until_gone >> tell(plan.output, delete.output)
