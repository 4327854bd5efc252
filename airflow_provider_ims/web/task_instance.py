"""What Airflow knows of a task instance: its state, its result, and how far it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from airflow.models.hitl import HITLDetail
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XCOM_RETURN_KEY, XComModel
from airflow.utils.session import create_session
from sqlalchemy import select
from sqlalchemy.orm import Session

from airflow_provider_ims.deletion.checkpoint import KEY, Checkpoint

try:
    from airflow.models.task_state_store import TaskStateStoreModel
except ImportError:  # before Airflow 3.3
    TaskStateStoreModel = None  # type: ignore[assignment, misc]

MAX_TARGETS = 10**7
"""Of a run whose progress is shown: reading what it saved takes the longer, the more they are."""
ENDED = ("success", "failed", "skipped", "upstream_failed", "removed")


class SavedProgress(NamedTuple):
    """What a running deletion has kept, and when."""

    run: Checkpoint
    at: datetime


class TaskInstanceInfo(NamedTuple):
    """A task instance.

    :param state: as Airflow names it; None before it is scheduled.
    :param result: what it returned; empty if it has not, or if that is not in Airflow's own database.
    :param progress: of a deletion that has not ended.
    """

    state: str | None
    result: Mapping[str, Any]
    progress: SavedProgress | None

    @property
    def ended(self) -> bool:
        """Whether it will not run any more by itself."""
        return self.state in ENDED


def read_task_instance(dag_id: str, run_id: str, task_id: str, map_index: int) -> TaskInstanceInfo | None:
    """Return what Airflow's database has, None if there is no such task instance."""
    ids = {"dag_id": dag_id, "run_id": run_id, "task_id": task_id, "map_index": map_index}
    with create_session() as session:
        found = session.execute(_select(TaskInstance, ids, TaskInstance.state)).first()
        if found is None:
            return None
        xcom = session.scalar(_select(XComModel, ids, XComModel).where(XComModel.key == XCOM_RETURN_KEY))
        state = str(found[0]) if found[0] else None
        return TaskInstanceInfo(state, _result(xcom.value if xcom else None), _progress(session, ids))


def open_question(dag_id: str, run_id: str) -> str | None:
    """Return the id of a task of a run that waits for a person's answer, None if there is none."""
    answered: Any = HITLDetail.response_received
    question = select(TaskInstance.task_id).join(HITLDetail, HITLDetail.ti_id == TaskInstance.id)
    waiting = question.where(
        TaskInstance.dag_id == dag_id,
        TaskInstance.run_id == run_id,
        TaskInstance.map_index == -1,
        TaskInstance.state.not_in(ENDED),
        answered.is_(False),
    )
    with create_session() as session:
        return session.scalar(waiting.limit(1))


def _result(value: Any) -> Mapping[str, Any]:
    """Read a result of plain JSON, as Airflow's own API does: an XCom backend's classes are the workers' business."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    return value if isinstance(value, dict) else {}


def _progress(session: Session, ids: Mapping[str, Any]) -> SavedProgress | None:
    if TaskStateStoreModel is None:
        return None
    model = TaskStateStoreModel
    kept = session.execute(_select(model, ids, model.value, model.updated_at).where(model.key == KEY)).first()
    if not kept:
        return None
    try:
        return SavedProgress(Checkpoint.from_json(json.loads(kept[0]), MAX_TARGETS), kept[1])
    # Of another release, or kept elsewhere by a backend.
    except (ValueError, TypeError, KeyError, IndexError, RecursionError):
        return None


def _select(model: Any, ids: Mapping[str, Any], *what: Any) -> Any:
    return select(*what).where(*(getattr(model, name) == value for name, value in ids.items()))
