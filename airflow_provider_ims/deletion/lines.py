"""The lines of a report: what they say of a target, and which of them there must be."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

from airflow_provider_ims.api.times import write_time
from airflow_provider_ims.deletion.checkpoint import Checkpoint, Row, RunConfig
from airflow_provider_ims.deletion.resolve import TargetResult
from airflow_provider_ims.deletion.result import known_outcomes
from airflow_provider_ims.deletion.targets import Target, Targets, batches
from airflow_provider_ims.files.report import Spool
from airflow_provider_ims.files.storage import to_line

LINE_LOST = "its line was lost with what an earlier try had written"


class _Said(NamedTuple):
    """What a line says of an outcome; most targets of a batch share it."""

    outcome: str | None
    inferred: bool | None = None
    request_id: str | None = None
    at: int | None = None
    reason: str | None = None
    file: str | None = None
    preview: bool = False


@lru_cache(maxsize=64)
def _spell(said: _Said) -> tuple[bytes, frozenset[str]]:
    """Return the end of a line, and the names of the fields in it."""
    fields: dict[str, Any] = {
        "outcome": said.outcome,
        "inferred": said.inferred,
        "request_id": said.request_id,
        "at": None if said.at is None else write_time(datetime.fromtimestamp(said.at, UTC)),
    }
    if said.file:
        fields["file"] = said.file
    if said.reason:
        fields["reason"] = said.reason
    if said.preview:
        fields["preview"] = True
    return to_line(fields)[1:], frozenset(fields)


class Lines:
    """The lines of one run.

    :param targets: of the run.
    :param config: of the run.
    """

    def __init__(self, targets: Targets, config: RunConfig) -> None:
        self._targets = targets
        self._config = config
        self._begin = f'{{"{targets.kind}": '.encode()

    def line_of(self, result: TargetResult, at: int | None) -> bytes:
        """Return the line about a target.

        :param at: when its outcome was known, in seconds since the epoch.
        """
        said = _Said(
            result.outcome.value,
            result.inferred,
            result.request_id,
            at,
            result.reason,
            result.file,
            self._config.preview,
        )
        return self._about(result.target, said)

    def of_rows(self, rows: Iterable[Row]) -> Iterator[tuple[int, bytes]]:
        """Make the lines again that a checkpoint holds as rows, with the ordinals of their targets."""
        by_ordinal = {ordinal: row for row in rows for ordinal in range(row.first, row.end)}
        if not by_ordinal:
            return
        for target in self._targets:
            if row := by_ordinal.get(target.ordinal):
                result = TargetResult(
                    target, row.outcome, row.inferred, row.request_id, row.reason, file=row.file
                )
                yield target.ordinal, self.line_of(result, row.at)

    def lost(self, checkpoint: Checkpoint, spool: Spool) -> Iterator[Target]:
        """Find those that are done, and whose line is lost."""
        for batch in batches(self._targets):
            if batch.number in checkpoint.done:
                for target in batch.targets:
                    if target.ordinal not in spool and target.ordinal not in checkpoint.open:
                        yield target

    def in_order(
        self, checkpoint: Checkpoint, spool: Spool, unread: Mapping[int, TargetResult]
    ) -> Iterator[bytes]:
        """Go through the lines of all targets that have an outcome or could not be read, in order."""
        if not unread and spool.lines == len(self._targets):
            for ordinal in range(spool.lines):
                yield spool.get(ordinal) or b""
            return
        known, others = known_outcomes(checkpoint)
        lost = {target.ordinal for target in self.lost(checkpoint, spool)}
        for target in self._targets:
            if found := unread.get(target.ordinal):
                yield self.line_of(found, int(time.time()))
            elif line := spool.get(target.ordinal):
                yield line
            elif target.ordinal in lost:
                outcome = known.get(target.value, others)
                yield self._about(target, _Said(outcome, reason=LINE_LOST, preview=self._config.preview))

    def _about(self, target: Target, said: _Said) -> bytes:
        end, names = _spell(said)
        if not target.columns:
            return self._begin + to_line(target.value)[:-1] + b", " + end
        # Why a plan chose it; the report's own reason is why it is not deleted.
        renamed = {
            "planned_because" if name == "reason" else name: value for name, value in target.columns.items()
        }
        about = {name: value for name, value in renamed.items() if name not in names}
        return to_line(about)[:-2] + b", " + end
