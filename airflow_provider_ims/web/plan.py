"""The plan that a task instance's result names, read for its page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from airflow_provider_ims.files.storage import storage_path
from airflow_provider_ims.retention.page import PlanSummary
from airflow_provider_ims.retention.plan import PLAN_FORMAT
from airflow_provider_ims.web.lines import Fields, Lines

SEARCHED = ("media_id", "title", "input_url", "tags")


class PlanFile:
    """A plan.

    :param result: what its task returned.
    :raises ValueError: it is none of this provider.
    :raises OSError: it can't be read.
    """

    def __init__(self, result: Mapping[str, Any]) -> None:
        path = result.get("manifest")
        if not isinstance(path, str):
            raise ValueError("the task's result names no plan")
        self.path = path
        self.digest = str(result.get("digest") or "")
        self.lines = Lines([storage_path(path)])
        try:
            header: dict[str, Any] = json.loads(self.lines.first())
            if header["plan"] != PLAN_FORMAT or "media_id" in header:
                raise ValueError
            self.summary = PlanSummary(header)
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            raise ValueError(f"{path} is no plan that this release can show") from None

    @staticmethod
    def to_row(fields: Fields) -> Fields | None:
        """Check a line: empty if it is no row of a plan, None for the first, which describes the plan."""
        if "plan" in fields and "media_id" not in fields:
            return None
        return fields if isinstance(fields.get("media_id"), str) else {}
