"""Links lead to documented pages, and Airflow knows them."""

from __future__ import annotations

from airflow_provider_ims.links.ims import IMSConsoleLink


def test_the_console_link_is_the_documented_page():
    link = IMSConsoleLink()
    assert link.name == "IMS console"
    assert link.get_link(None, ti_key=None) == "https://ims.console.aliyun.com/summary"
