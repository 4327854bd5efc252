"""The lines of a report: what they say of a target, and which of them there must be."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from airflow_provider_ims.api.times import write_time
from airflow_provider_ims.deletion.checkpoint import Checkpoint, Row, RunConfig
from airflow_provider_ims.deletion.resolve import TargetResult
from airflow_provider_ims.deletion.result import known_outcomes
from airflow_provider_ims.deletion.targets import Target, Targets, batches
from airflow_provider_ims.files.report import Spool
from airflow_provider_ims.files.storage import to_line

LINE_LOST = "its line was lost with what an earlier try had written"


class _End(NamedTuple):
    """What lines say of an outcome: their end, and the names of the fields in it."""

    spelled: bytes
    names: frozenset[str]


class Lines:
    """The lines of one run.

    :param targets: of the run.
    :param config: of the run.
    """

    def __init__(self, targets: Targets, config: RunConfig) -> None:
        self._targets = targets
        self._config = config
        self._begin = f'{{"{targets.kind}": '.encode()

    def about(self, alike: Sequence[TargetResult], at: int) -> Iterator[tuple[int, bytes]]:
        """Make the lines about results that differ in their targets alone, with the ordinals of these.

        :param at: when the outcome was known, in seconds since the epoch.
        """
        _, outcome, inferred, request_id, reason, _, file = alike[0]
        end = self._end(outcome.value, inferred, request_id, at, reason, file)
        for result in alike:
            yield result.target.ordinal, self._line(result.target, end)

    def of_rows(self, rows: Iterable[Row]) -> Iterator[tuple[int, bytes]]:
        """Make the lines again that a checkpoint holds as rows, with the ordinals of their targets."""
        by_ordinal = {ordinal: row for row in rows for ordinal in row.ordinals}
        if not by_ordinal:
            return
        for target in self._targets:
            if row := by_ordinal.get(target.ordinal):
                result = TargetResult(
                    target, row.outcome, row.inferred, row.request_id, row.reason, file=row.file
                )
                yield from self.about([result], row.at)

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
                yield from (line for _, line in self.about([found], int(time.time())))
            elif line := spool.get(target.ordinal):
                yield line
            elif target.ordinal in lost:
                outcome = known.get(target.value, others)
                yield self._line(target, self._end(outcome, reason=LINE_LOST))

    def _end(
        self,
        outcome: str | None,
        inferred: bool | None = None,
        request_id: str | None = None,
        at: int | None = None,
        reason: str | None = None,
        file: str | None = None,
    ) -> _End:
        fields: dict[str, Any] = {
            "outcome": outcome,
            "inferred": inferred,
            "request_id": request_id,
            "at": None if at is None else write_time(datetime.fromtimestamp(at, UTC)),
        }
        if file:
            fields["file"] = file
        if reason:
            fields["reason"] = reason
        if self._config.preview:
            fields["preview"] = True
        return _End(to_line(fields)[1:], frozenset(fields))

    def _line(self, target: Target, end: _End) -> bytes:
        if not target.columns:
            return self._begin + to_line(target.value)[:-1] + b", " + end.spelled
        # Why a plan chose it; the report's own reason is why it is not deleted.
        renamed = {
            "planned_because" if name == "reason" else name: value for name, value in target.columns.items()
        }
        about = {name: value for name, value in renamed.items() if name not in end.names}
        return to_line(about)[:-2] + b", " + end.spelled
