"""Links lead to the pages in Airflow's UI, and nowhere where there are none."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_ims.links import ims
from airflow_provider_ims.links.ims import IMSPlanLink, IMSReportLink
from airflow_provider_ims.operators.ims import IMSDeleteMediaInfosOperator, IMSPlanMediaRetentionOperator


def task_instance(**ids: Any) -> Any:
    return mock.Mock(**{"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": -1, **ids})


def test_each_operator_has_its_link() -> None:
    assert [type(link) for link in IMSPlanMediaRetentionOperator.operator_extra_links] == [IMSPlanLink]
    assert [type(link) for link in IMSDeleteMediaInfosOperator.operator_extra_links] == [IMSReportLink]
    assert (IMSPlanLink().name, IMSReportLink().name) == ("Plan", "Deletion")


@pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="Airflow has no such pages")
@pytest.mark.parametrize(
    ("base_url", "root"),
    [(None, ""), ("https://airflow.example.com", ""), ("https://example.com/team/airflow/", "/team/airflow")],
)
def test_it_is_a_path_on_airflows_own_address(
    monkeypatch: pytest.MonkeyPatch, base_url: str | None, root: str
) -> None:
    monkeypatch.delenv("AIRFLOW__API__BASE_URL", raising=False)
    if base_url:
        monkeypatch.setenv("AIRFLOW__API__BASE_URL", base_url)
    ti = task_instance(run_id="manual__2026-11-25T10:00:00+00:00", map_index=3)
    run = "manual__2026-11-25T10%3A00%3A00%2B00%3A00"
    assert IMSPlanLink().get_link(None, ti_key=ti) == f"{root}/ims/dags/d/runs/{run}/tasks/t/3/plan"
    assert IMSReportLink().get_link(None, ti_key=ti) == f"{root}/ims/dags/d/runs/{run}/tasks/t/3/deletion"


@pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="Airflow has no such pages")
@given(st.text(), st.text(), st.text())
def test_no_name_leads_elsewhere(dag_id: str, run_id: str, task_id: str) -> None:
    names = [name.encode("utf-8", "replace").decode() for name in (dag_id, run_id, task_id)]
    ti = task_instance(dag_id=names[0], run_id=names[1], task_id=names[2])
    link = IMSPlanLink().get_link(None, ti_key=ti)
    assert link.startswith("/ims/dags/")
    assert link.count("/") == 9
    assert not set(link) & set('?#"<>\\ ')


def test_without_the_pages_there_is_no_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ims, "AIRFLOW_V_3_1_PLUS", False)
    for link in (IMSPlanLink(), IMSReportLink()):
        assert link.get_link(None, ti_key=task_instance()) == ""


@pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="Airflow has no such pages")
def test_a_running_deletion_is_linked_where_it_can_be_watched() -> None:
    for context, pushed in (({"task_state_store": object()}, 1), ({"task_state_store": None}, 0), ({}, 0)):
        ti = task_instance()
        IMSReportLink().show({"ti": ti, **context})  # type: ignore[typeddict-item]
        assert ti.xcom_push.call_count == pushed
