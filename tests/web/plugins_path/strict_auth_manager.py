"""An auth manager that knows more than roles, as those of big installations do."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager


class StrictAuthManager(SimpleAuthManager):
    """``stranger`` may see all but the DAG of these tests, ``clerk`` may see all of it but its XComs."""

    def is_authorized_dag(
        self, *, method: Any, user: Any, access_entity: Any = None, details: Any = None
    ) -> bool:
        name = user.get_name()
        if name == "stranger" and (details is None or details.id in (None, "pages")):
            return False
        if name == "clerk" and access_entity == DagAccessEntity.XCOM:
            return False
        return super().is_authorized_dag(
            method=method, user=user, access_entity=access_entity, details=details
        )
