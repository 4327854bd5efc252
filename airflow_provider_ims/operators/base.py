"""The base of all operators."""

from __future__ import annotations

from typing import Any

from airflow_provider_ims.base import IMSTask
from airflow_provider_ims.compat import BaseOperator
from airflow_provider_ims.hooks.ims import IMSHook


class IMSBaseOperator(IMSTask, BaseOperator):
    """An operator with a connection. Its ``execute`` begins with :meth:`IMSTask.check_given`.

    :param ims_conn_id: the connection. (templated)
    :param region: overrides the connection's. (templated)
    """

    def __init__(
        self, *, ims_conn_id: str | None = IMSHook.default_conn_name, region: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.ims_conn_id = ims_conn_id
        self.region = region
