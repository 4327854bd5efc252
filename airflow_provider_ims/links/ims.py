"""Links from a task to the page about it in Airflow's UI, which :mod:`airflow_provider_ims.web` serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote, urlsplit

from airflow_provider_ims.compat import AIRFLOW_V_3_1_PLUS, BaseOperatorLink, conf

if TYPE_CHECKING:
    from airflow_provider_ims.compat import BaseOperator, Context, TaskInstanceKey

URL_PREFIX = "/ims"
"""Where Airflow's API server has the pages."""


class _PageLink(BaseOperatorLink):
    """To a page of this provider. Empty, so that Airflow shows no button, where Airflow can't have such pages."""

    page: ClassVar[str]

    def get_link(self, operator: BaseOperator | None, *, ti_key: TaskInstanceKey) -> str:
        """Return the page's path on Airflow's own address; ``""`` before Airflow 3.1.

        :param ti_key: anything with the ids of a task instance, such as ``ti`` of a task's context.
        """
        if not AIRFLOW_V_3_1_PLUS:
            return ""
        # The path alone: whoever follows the link has found Airflow already, perhaps by another name.
        base = urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")
        dag, run, task = (quote(name, safe="") for name in (ti_key.dag_id, ti_key.run_id, ti_key.task_id))
        return f"{base}{URL_PREFIX}/dags/{dag}/runs/{run}/tasks/{task}/{ti_key.map_index}/{self.page}"


class IMSPlanLink(_PageLink):
    """To what a plan would delete, and why."""

    name = "Plan"
    page = "plan"


class IMSReportLink(_PageLink):
    """To what became of each target of a deletion; while it runs, how far it is."""

    name = "Deletion"
    page = "deletion"

    def show(self, context: Context) -> None:
        """Show the link while the task runs; Airflow itself does when a task ends."""
        if context.get("task_state_store") is not None:  # without it the page has nothing to show yet
            ti: Any = context["ti"]
            ti.xcom_push(key=self.xcom_key, value=self.get_link(None, ti_key=ti))
