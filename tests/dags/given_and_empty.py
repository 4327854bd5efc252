"""Every argument that can guard, filter or point somewhere, rendered to nothing in every way that Airflow has.

Each task names a medium of the library and one argument that is nothing; ``left_out_*`` are the ones that may run.
"""

from __future__ import annotations

from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import DAG, AirflowSkipException, task

from airflow_provider_ims.operators.ims import IMSDeleteMediaInfosOperator, IMSPlanMediaRetentionOperator
from airflow_provider_ims.sensors.ims import IMSMediaDeletedSensor, IMSTranscodeJobSensor

MEDIA = "{{ dag_run.conf['media_ids'] }}"
PLAN = "{{ dag_run.conf['folder'] }}/plan.jsonl"
IMPATIENT = {"timeout": 1, "poke_interval": 0.2}
OPERATORS: dict[str, tuple[type, dict[str, Any], tuple[str, ...]]] = {
    "delete": (
        IMSDeleteMediaInfosOperator,
        {"media_ids": MEDIA},
        (
            "manifest_digest",
            "delete_physical_files",
            "max_media",
            "protect",
            "on_forbidden",
            "on_missing",
            "preview",
            "report",
            "ims_conn_id",
            "region",
        ),
    ),
    "plan": (
        IMSPlanMediaRetentionOperator,
        {"manifest": PLAN, "older_than": "P1D"},
        (
            "manifest",
            "older_than",
            "media_type",
            "source",
            "business_type",
            "status",
            "require_tags",
            "exclude_tags",
            "title_pattern",
            "keep_latest",
            "max_media",
            "max_percent",
            "ims_conn_id",
            "region",
        ),
    ),
    "gone": (IMSMediaDeletedSensor, {"media_ids": MEDIA, **IMPATIENT}, ("ims_conn_id", "region")),
    "job": (
        IMSTranscodeJobSensor,
        {"parent_job_id": "a", **IMPATIENT},
        ("parent_job_id", "ims_conn_id", "region"),
    ),
}
START = pendulum.datetime(2026, 1, 1, tz="UTC")


@task
def nothing() -> None:
    """Return nothing, as a function does that forgot to."""


@task
def skipped() -> list[str]:
    """Say that there is nothing to do."""
    raise AirflowSkipException


@task
def several_nothings() -> list[None]:
    """Return a list to map over, of nothing."""
    return [None]


@task
def arguments_of_nothing(name: str) -> list[dict[str, None]]:
    """Return arguments to map over, of nothing."""
    return [{name: None}]


def every_argument(way: str, value: Any) -> None:
    """Make a task for each argument, with the same value for it."""
    for kind, (operator, others, names) in OPERATORS.items():
        for name in names:
            operator(task_id=f"{kind}_{way}_{name}", trigger_rule="all_done", **{**others, name: value})


with DAG("given_and_empty", schedule=None, start_date=START) as dag:
    every_argument("xcom", nothing())
    every_argument("skipped", skipped())
    every_argument("text", "{{ none }}")

with DAG(
    "given_and_empty_natively", schedule=None, start_date=START, render_template_as_native_obj=True
) as native:
    every_argument("native", "{{ none }}")
    every_argument("blank", "{{ '' }}")

with DAG("given_and_empty_mapped", schedule=None, start_date=START) as mapped:
    for kind, (operator, others, names) in OPERATORS.items():
        for name in names:
            rest = {other: value for other, value in others.items() if other != name}
            partial = operator.partial(task_id=f"{kind}_expand_{name}", trigger_rule="all_done", **rest)
            partial.expand(**{name: several_nothings()})
    for kind, name in (("delete", "max_media"), ("plan", "exclude_tags"), ("gone", "region")):
        operator, others, _ = OPERATORS[kind]
        partial = operator.partial(task_id=f"{kind}_expand_kwargs_{name}", trigger_rule="all_done", **others)
        partial.expand_kwargs(arguments_of_nothing(name))
        replaced = operator.partial(
            task_id=f"{kind}_replaced_{name}", trigger_rule="all_done", **others, **{name: "5"}
        )
        replaced.expand_kwargs(arguments_of_nothing(name))

with DAG(
    "given_and_empty_by_default",
    schedule=None,
    start_date=START,
    default_args={"region": "{{ none }}", "max_media": "{{ none }}", "poke_interval": 1},
) as by_default:
    for kind, (operator, others, _) in OPERATORS.items():
        operator(task_id=f"{kind}_default", **others)

with DAG(
    "left_out", schedule=None, start_date=START, default_args={"protect": None, "region": None}
) as left_out:
    preview = {"media_ids": MEDIA, "preview": True}
    IMSDeleteMediaInfosOperator(task_id="left_out", **preview, max_media=None, report=None, ims_conn_id=None)
    IMSDeleteMediaInfosOperator.partial(task_id="partial", max_media=None, preview=True).expand(
        media_ids=[MEDIA]
    )
    IMSDeleteMediaInfosOperator.partial(task_id="listed", **preview).expand(max_media=[None, 5])
    IMSDeleteMediaInfosOperator.partial(task_id="tabled", **preview).expand_kwargs([{"max_media": None}])
    IMSDeleteMediaInfosOperator(task_id="no_media", media_ids=nothing())
