"""A delete task that tells its process ids, and can be made to die at a chosen point of each try."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG

from airflow_provider_ims.operators.ims import IMSDeleteMediaInfosOperator


class MortalDelete(IMSDeleteMediaInfosOperator):
    """Reads from the run's conf where to write its ids (``pids``) and where to die (``points``, one a try)."""

    def execute(self, context: Any) -> dict[str, Any]:
        conf = context["dag_run"].conf
        number = context["ti"].try_number
        points = conf.get("points", [])
        if number <= len(points):
            point, passes = points[number - 1]
            die_at(point, passes)
        told = Path(conf["pids"]) / f"try-{number}"
        told.with_suffix(".part").write_text(json.dumps({"task": os.getpid(), "supervisor": os.getppid()}))
        told.with_suffix(".part").rename(told)
        return super().execute(context)


def die_at(point: str, passes: int) -> None:
    """Kill this process when it passes a point of :mod:`airflow_provider_ims.deletion` once too often."""
    from airflow_provider_ims.deletion.checkpoint import CheckpointStore
    from airflow_provider_ims.deletion.run import DeletionRun
    from airflow_provider_ims.files.report import ReportWriter

    class_, name, after = {
        "answer came": (DeletionRun, "_settle", False),
        "line not written": (ReportWriter, "add", False),
        "line written": (ReportWriter, "catch_up", True),
        "state not kept": (CheckpointStore, "save", False),
        "state kept": (CheckpointStore, "wait", True),
        "parts not written": (ReportWriter, "write_parts", False),
        "parts written": (ReportWriter, "write_parts", True),
    }[point]
    method: Callable[..., Any] = getattr(class_, name)
    left = passes

    def deadly(*args: Any, **kwargs: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0 and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = method(*args, **kwargs)
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(class_, name, deadly)


with DAG("kills", schedule=None, catchup=False):
    MortalDelete(
        task_id="delete",
        manifest="{{ dag_run.conf['manifest'] }}",
        report="{{ dag_run.conf['report'] }}",
        on_forbidden="warn",
        max_concurrency=8,
        retries=12,
        retry_delay=timedelta(0),
    )
