"""The plan that a task instance's result names, read for its page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from airflow_provider_ims.files.storage import storage_path
from airflow_provider_ims.retention.page import make_bars
from airflow_provider_ims.retention.plan import PLAN_FORMAT, file_size
from airflow_provider_ims.retention.policy import describe_exclusion, read_policy
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
            self.header: dict[str, Any] = json.loads(self.lines.first())
            if self.header["plan"] != PLAN_FORMAT or "media_id" in self.header:
                raise ValueError
            self._read_header()
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            raise ValueError(f"{path} is no plan that this release can show") from None

    def _read_header(self) -> None:
        header = self.header
        self.policy = read_policy(header["policy"]).describe()
        self.selected, self.population = int(header["selected"]), int(header["population"])
        self.refused = header["refused"]
        unknown = int(header["size_unknown"])
        self.figures = [
            (f"{self.selected:,}", "media selected"),
            (f"{header['percent']}%", f"of {self.population:,} media"),
            (file_size(int(header["bytes"])), f"and {unknown:,} of unknown size" if unknown else "in files"),
            (str(header["oldest"] or "none")[:10], "the oldest was created"),
            (str(header["newest"] or "none")[:10], "the newest was created"),
            (f"{int(header['undecided']):,}", "undecided, and so kept"),
        ]
        self.kept = [(describe_exclusion(by), by, int(count)) for by, count in header["kept"].items()]
        # A part of a plan, made for one of many tasks, knows neither.
        self.bars, self.period = make_bars(header.get("months") or {})
        self.types = [
            (kind, int(count), int(size)) for kind, (count, size) in (header.get("types") or {}).items()
        ]

    @staticmethod
    def to_row(fields: Fields) -> Fields | None:
        """Check a line: empty if it is no row of a plan, None for the first, which describes the plan."""
        if "plan" in fields and "media_id" not in fields:
            return None
        return fields if isinstance(fields.get("media_id"), str) else {}
