"""Tasks that wait in every way there is; the media, the job and the connection come with the run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_ims.operators.ims import IMSDeleteMediaInfosOperator
from airflow_provider_ims.sensors.ims import IMSMediaDeletedSensor
from airflow_provider_ims.triggers.ims import IMSMediaDeletedTrigger


class MisplacedTrigger(IMSMediaDeletedTrigger):
    """A trigger whose class can't be found where it says."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        _, kwargs = super().serialize()
        return "airflow_provider_ims.triggers.no_such_module.IMSMediaDeletedTrigger", kwargs


class MisplacedSensor(IMSMediaDeletedSensor):
    def _defer(self, started: float, deadline: float) -> None:
        trigger = MisplacedTrigger(["some-id"], deadline=deadline)
        self.defer(trigger=trigger, method_name="execute_complete", timeout=timedelta(seconds=60))


def waiting(dag_id: str) -> DAG:
    return DAG(
        dag_id=dag_id,
        schedule=None,
        start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
        catchup=False,
        params={
            "conn": Param("ims_default", type="string"),
            **{name: Param([], type="array") for name in ("media_ids", "here", "deferred")},
        },
    )


def sensor(task_id: str, kind: type[IMSMediaDeletedSensor] = IMSMediaDeletedSensor, **kwargs: Any) -> None:
    kind(
        task_id=task_id,
        media_ids="{{ params.media_ids }}",
        ims_conn_id="{{ params.conn }}",
        **{"poke_interval": 2, "timeout": 120, **kwargs},
    )


def deletions(**kwargs: Any) -> None:
    """Delete and wait in both ways, each its own media."""
    for task_id, deferrable in (("here", False), ("deferred", True)):
        IMSDeleteMediaInfosOperator(
            task_id=task_id,
            media_ids=f"{{{{ params.{task_id} }}}}",
            wait_for_completion=True,
            poll_interval=2,
            deferrable=deferrable,
            retries=1,
            **kwargs,
        )


with waiting("deletions"):
    deletions()

with waiting("deletions_in_vain"):
    deletions(execution_timeout=timedelta(seconds=25))

with waiting("every_mode"):
    sensor("poke", mode="poke")
    # A scheduler (seen with Airflow 3.3) that hears of the end of a look when the next is queued fails the task.
    sensor("reschedule", mode="reschedule", poke_interval=8)
    sensor("deferrable", deferrable=True)

with waiting("deferred"):
    sensor("wait", deferrable=True, retries=1, retry_delay=timedelta(seconds=1))

with waiting("impatient"):
    sensor("fails", deferrable=True, timeout=8, retries=2)
    sensor("is_skipped", deferrable=True, timeout=8, soft_fail=True)

with waiting("with_deadline"):
    sensor("wait", deferrable=True, timeout=45)

with waiting("misplaced"):
    sensor("wait", MisplacedSensor, deferrable=True)
