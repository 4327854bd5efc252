"""The plugin through which Airflow's API server gets the pages.

Every process of Airflow loads it: nothing of the pages is imported before the first of them is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_ims.compat import AIRFLOW_V_3_1_PLUS, AirflowPlugin
from airflow_provider_ims.links.ims import URL_PREFIX

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send


async def pages(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request below :data:`URL_PREFIX` (an ASGI application)."""
    from airflow_provider_ims.web.app import app

    await app(scope, receive, send)


class IMSPlugin(AirflowPlugin):
    """The pages, where Airflow can have them: nothing before Airflow 3.1."""

    name = "airflow_provider_ims"
    fastapi_apps: list[Any] = (
        [{"name": "Alibaba Cloud IMS", "app": pages, "url_prefix": URL_PREFIX}] if AIRFLOW_V_3_1_PLUS else []
    )
