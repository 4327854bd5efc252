"""What became of a deletion's targets: the counts of its result, the lines of its report, or how far it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from airflow_provider_ims.deletion.policies import duration_in_words
from airflow_provider_ims.deletion.resolve import Outcome
from airflow_provider_ims.files.report import report_parts
from airflow_provider_ims.web.lines import Fields, Lines
from airflow_provider_ims.web.task_instance import SavedProgress

SEARCHED = ("media_id", "input_url", "title", "tags", "request_id", "reason")

MEANINGS = {
    Outcome.DELETED: "the service took it",
    Outcome.MISSING: "was not there, checked by a read",
    Outcome.FORBIDDEN: "the service refused it",
    Outcome.FAILED: "still there, though the service was asked",
    Outcome.UNKNOWN: "could not be read, so nobody knows",
    Outcome.KEPT: "the plan named it, but it changed since",
}


@dataclass(frozen=True)
class Share:
    """How many targets had an outcome; ``begin`` and ``width`` of its part of the bar, of 100."""

    outcome: Outcome
    count: int
    begin: float
    width: float
    meaning: str


class FinishedDeletion:
    """A deletion that has ended, or whose try has.

    :param result: what its task returned.
    :raises ValueError: it is no result of this provider.
    """

    def __init__(self, result: Mapping[str, Any]) -> None:
        try:
            self.requested = _count(result, "requested")
            self.counts = {outcome: _count(result, outcome) for outcome in Outcome}
            self.inferred = _count(result, "inferred")
            self.preview = bool(result["preview"])
            self.region = result["region"]
            self.files = bool(result["delete_physical_files"])
            self.report: str | None = result["report"]
            self.samples = {
                outcome: [str(value) for value in result["samples"].get(outcome, [])] for outcome in Outcome
            }
            self.request_ids = [str(value) for value in result["request_ids"]]
            self.figures = [
                (f"{_count(result, 'requests'):,}", "requests"),
                (f"{_count(result, 'retries'):,}", "of them retries"),
                (f"{_count(result, 'throttled'):,}", "throttled"),
                (duration_in_words(float(result["seconds"])), "it took"),
                (f"{_count(result, 'duplicates'):,}", "duplicates dropped"),
            ]
            if not (self.report is None or isinstance(self.report, str)):
                raise ValueError
        except (KeyError, TypeError, AttributeError, ValueError):
            raise ValueError("the task's result is not that of a deletion") from None
        self.shares = _shares(self.counts, self.requested)

    def lines(self) -> Lines:
        """Return the report's lines.

        :raises ValueError: if it is none of this provider.
        :raises OSError: if it can't be read.
        """
        assert self.report is not None
        lines = Lines(report_parts(self.report) if self.report else [])
        if not lines.size and self.requested:
            raise ValueError(f"Airflow's API server finds no part files of a report in {self.report!r}")
        try:
            first = json.loads(lines.first() or b"{}")
        except (ValueError, RecursionError):
            first = None
        if not isinstance(first, dict) or (first and not self.to_row(first)):
            raise ValueError(f"{self.report} is no report that this release can show")
        return lines

    @staticmethod
    def to_row(fields: Fields) -> Fields:
        """Check a line: empty if it is not one of a report. One that was lost may have None for its outcome."""
        named = isinstance(fields.get("media_id") or fields.get("input_url"), str)
        return fields if named and fields.get("outcome", "") in [None, *Outcome] else {}


class RunningDeletion:
    """A deletion on its way, as its last checkpoint tells.

    :param progress: that the task has kept.
    """

    def __init__(self, progress: SavedProgress) -> None:
        run = progress.run
        counts = {outcome: run.counts.get(outcome, 0) for outcome in Outcome}
        self.counts = counts
        self.requested = max(run.requested, sum(counts.values()))
        self.done = sum(counts.values())
        self.percent = 100 * self.done // self.requested if self.requested else 0
        self.shares = _shares(counts, self.requested)
        age = max((datetime.now(UTC) - progress.at).total_seconds(), 0.0)
        # Up to now: what has stood still since it was saved is not as fast as it was before.
        rate = self.done / (run.seconds + age) if run.seconds + age else 0.0
        left = (self.requested - self.done) / rate if rate else None
        self.figures = [
            (f"{rate:,.0f}" if rate >= 10 else f"{rate:,.1f}", "a second, on average"),
            ("unknown" if left is None else duration_in_words(left), "left at this rate"),
            (f"{run.requests:,}", "requests"),
            (f"{run.retries:,}", "of them retries"),
            (f"{run.throttled:,}", "throttled"),
        ]
        self.samples = {outcome: run.samples.get(outcome, []) for outcome in Outcome}
        self.rechecks = len(run.open)
        self.age = duration_in_words(age)


def _count(result: Mapping[str, Any], name: str) -> int:
    value = result[name]
    if type(value) is not int or value < 0:
        raise ValueError(name)
    return value


def _shares(counts: Mapping[Outcome, int], requested: int) -> list[Share]:
    shares = []
    begin = 0.0
    for outcome, count in counts.items():
        width = 100 * count / requested if requested else 0.0
        shares.append(Share(outcome, count, begin, width, MEANINGS[outcome]))
        begin += width
    return shares
