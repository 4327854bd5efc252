"""Links from a task to Alibaba Cloud."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_ims.compat import BaseOperatorLink

if TYPE_CHECKING:
    from airflow_provider_ims.compat import BaseOperator, TaskInstanceKey


class IMSConsoleLink(BaseOperatorLink):
    """To the console's overview of IMS.

    No deeper: the addresses of a region, of the media library and of a single medium are not documented.
    Source: the address that the official SDK's documentation (``alibabacloud-ice20201109``) names.
    """

    name = "IMS console"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Give the address; the same for every task."""
        return "https://ims.console.aliyun.com/summary"
