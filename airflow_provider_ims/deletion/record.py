"""What became of each target so far: counted, put into the report, and saved for the next try.

Knows nothing of requests and threads: one thread tells it what came of a batch, and asks it what is still open. The
checkpoint is the only truth about a run; the report's lines follow it (:mod:`airflow_provider_ims.files.report`).
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_ims.api.client import RequestStats
from airflow_provider_ims.api.times import write_time
from airflow_provider_ims.deletion.checkpoint import Checkpoint, CheckpointStore, Row, StateStore
from airflow_provider_ims.deletion.policies import FILES_LEFT, outcomes_in_words
from airflow_provider_ims.deletion.resolve import Outcome, TargetResult
from airflow_provider_ims.deletion.targets import Batch, Target, Targets, batches, read_report
from airflow_provider_ims.deletion.verify import FileState
from airflow_provider_ims.files.report import (
    ReportWriter,
    attempt_folder,
    free_attempt,
    is_written,
    remove_journal,
)
from airflow_provider_ims.files.storage import to_line

if TYPE_CHECKING:
    from airflow_provider_ims.compat import ObjectStoragePath

# Outcomes after which reads may go on to show a target.
LEFT_ALONE = (Outcome.FORBIDDEN, Outcome.FAILED, Outcome.UNKNOWN, Outcome.KEPT)
# More open targets than this, and no new batch starts until some are settled: they stand in the checkpoint.
MAX_OPEN = 1000
# The same for results that the journal may not have yet, and how many bytes the reason of one may take, and the id of
# its request: answers that are under way when it is reached come on top, up to 1,280 at 64 requests of 20 targets.
MAX_UNWRITTEN = 180
MAX_REASON = 200
MAX_REQUEST_ID = 100
MAX_SAMPLES = 100
MAX_SAMPLE_BYTES = 5000
# A checkpoint is saved at least so often, in seconds, while something happens.
SAVE_SECONDS = 1.0
LINE_LOST = "its line was lost with what an earlier try had written"

log = logging.getLogger(__name__)


class RunConfig(NamedTuple):
    """How the targets of a run are deleted, and where. What was saved of a run with another is no use."""

    url: str
    region: str | None
    delete_physical_files: bool
    preview: bool
    verify_files: bool = False


class RunRecord:
    """Keeps record of one run. :meth:`open` comes first, :meth:`close` last.

    :param targets: of the run.
    :param config: of the run.
    :param report_base: folder under which the report's ``attempt=<n>`` is made; None for no report.
    :param attempt: number of this try.
    :param store: holds what the next try needs; None to start over each time.
    :param retry_seconds: how long a file of the report is tried again before its error is final.
    :param stop: once set, nothing is tried again.
    """

    def __init__(
        self,
        targets: Targets,
        *,
        config: RunConfig,
        report_base: ObjectStoragePath | None,
        attempt: int,
        store: StateStore | None,
        retry_seconds: float,
        stop: threading.Event,
    ) -> None:
        self._targets = targets
        self._config = config
        self._report_base = report_base
        self._attempt = attempt
        self._store = CheckpointStore(store)
        self._retry_seconds = retry_seconds
        self._stop = stop
        self._report: ReportWriter[Row] | None = None
        self._unread: dict[int, TargetResult] = {}
        self._left_alone: set[str] = set()
        self._left_alone_is_known = True
        # Batches that are done, and not called so by a saved checkpoint.
        self._unsaved = self._being_saved = 0
        self._saved_at = time.monotonic()
        self.resumed = False
        self.reason_failed: str | None = None
        """Why the first target failed that did so in this try; None if none has."""

    # Beginning, and end

    def open(self, window: int) -> None:
        """Take up an earlier try's work, or begin anew; find out whether report and checkpoint can be written.

        :param window: requests that may be in flight at first.
        :raises GuardError: when the report can't be written.
        """
        parts = (self._targets.digest, *self._config, self._report_base)
        # Its digest: the path alone may be longer than any text in a checkpoint.
        identity = hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()
        if found := self._store.load(identity, len(self._targets)):
            self._checkpoint = found
            self.resumed = True
        else:
            self._checkpoint = Checkpoint(input=identity, requested=len(self._targets))
        checkpoint = self._checkpoint
        if self._report_base is not None and not checkpoint.attempt:
            checkpoint.attempt = free_attempt(self._report_base, self._attempt)
        if self.resumed:
            log.info("Resuming an earlier try: %s so far.", self.summary())
            self._learn_what_was_left_alone()
        # Of the batches that are not done, the first that an earlier try may have sent.
        self._unconfirmed = checkpoint.unconfirmed
        if self._unconfirmed:  # it was killed, and any of these may have been sent once more
            checkpoint.open = dict.fromkeys(checkpoint.open, True)
        self._earlier = (
            RequestStats(checkpoint.requests, checkpoint.retries, checkpoint.throttled),
            checkpoint.seconds,
        )
        if self._report_base is not None:
            folder = attempt_folder(self._report_base, checkpoint.attempt)
            # It may lie on another machine's disk.
            checkpoint.reported = checkpoint.reported and is_written(folder, len(self._targets))
            if checkpoint.reported:
                remove_journal(folder, checkpoint.journal)
            else:
                self._open_report(folder)
        self._bound = 0
        self._save(in_flight=0, window=window)
        self._wait_until_saved()

    def finish(self, stats: RequestStats, seconds: float) -> None:
        """Leave checkpoint and report as the end of this try has them: what is open was recorded, all of it.

        :param stats: of this try's requests; ``seconds`` it has taken.
        """
        self._take_in_effort(stats, seconds)
        report, is_over = self._report, not self.left
        try:
            if (
                report and not is_over
            ):  # else the parts are written at once, and the journal is not needed any more
                report.flush()
        finally:
            self._save(in_flight=0, window=0)
            self._wait_until_saved()
        if not report:
            return
        report.write_parts(self._report_lines)
        if is_over or not self._store.saves:
            self._checkpoint.reported = is_over
            self._save(in_flight=0, window=0)
            self._wait_until_saved()
            remove_journal(report.folder, self._checkpoint.journal)

    def close(self) -> None:
        """Give back threads and files."""
        self._store.close()
        if self._report:
            self._report.close()

    # What is open

    @property
    def judged(self) -> int:
        """How many targets have an outcome."""
        return sum(self._checkpoint.counts.values())

    @property
    def left(self) -> int:
        """How many have none, or could not be read."""
        return len(self._targets) - self.judged

    @property
    def unread(self) -> Mapping[int, TargetResult]:
        """Those that could not be read, by ordinal: they are open for the next try."""
        return self._unread

    def new_batches(self) -> Iterator[tuple[Batch, bool]]:
        """Make the batches that are not done, one when it is asked for; tell whether it may have been sent before."""
        for batch in batches(self._targets):
            if batch.number not in self._checkpoint.done:
                unconfirmed = self._unconfirmed > 0
                self._unconfirmed -= unconfirmed
                yield batch, unconfirmed

    def open_targets(self) -> Iterator[tuple[tuple[Target, ...], bool]]:
        """Find what an earlier try left open, and whether an answer about it was lost."""
        if not self._checkpoint.open:
            return
        found: dict[bool, list[Target]] = {False: [], True: []}
        for target in self._targets:
            if (lost := self._checkpoint.open.get(target.ordinal)) is not None:
                found[lost].append(target)
        for unconfirmed, targets in found.items():
            for batch in batches(targets):
                yield batch.targets, unconfirmed

    def may_start(self, in_flight: int) -> bool:
        """Whether another batch may start, or checkpoint or journal must catch up first.

        :param in_flight: batches that are being asked about for the first time.
        """
        if len(self._checkpoint.open) - len(self._unread) >= MAX_OPEN:
            return False
        if self._report and len(self._report.unwritten) >= MAX_UNWRITTEN:
            return False
        return not self._store.saves or in_flight + self._unsaved + self._being_saved < self._bound

    @property
    def goes_on(self) -> bool:
        """Whether the next try goes on from here."""
        return self._store.saves

    # What came

    def record(
        self, batch: Batch | None, results: Sequence[TargetResult], still_open: Mapping[Target, bool]
    ) -> None:
        """Count and report results, and take note of what has none yet.

        :param batch: that was asked about for the first time; None for targets that were open before.
        :param still_open: target -> whether an answer about it was lost.
        """
        checkpoint, now = self._checkpoint, int(time.time())
        known = [result for result in results if result.outcome is not Outcome.UNKNOWN]
        for result in results:
            if result.outcome is Outcome.UNKNOWN:
                self._unread[result.target.ordinal] = result
        for target, lost in still_open.items():
            checkpoint.open[target.ordinal] = lost
        # In doubt until its line is kept: the disk may be full.
        checkpoint.open |= {result.target.ordinal: True for result in known}
        if batch:
            checkpoint.done.add(batch.number)
            self._unsaved += 1
        if self._report:
            lines = ((result.target.ordinal, self._line(result, now)) for result in known)
            self._report.add(lines, _rows(known, now))
        for result in known:
            del checkpoint.open[result.target.ordinal]
            self._count(result)

    @property
    def busy(self) -> set[Future[None]]:
        """What is being saved or written."""
        saving = self._store.busy
        writing = self._report.busy if self._report else ()
        return {*writing, *([saving] if saving else [])}

    def catch_up(self, stats: RequestStats, seconds: float, *, in_flight: int, window: int) -> None:
        """Save and write what is due, without waiting for it.

        :param stats: of this try's requests; ``seconds`` it has taken so far.
        :param in_flight: batches that are being asked about for the first time; ``window``: how many may be.
        :raises Exception: of the store, or of the report.
        """
        if self._report:
            self._report.catch_up()
        now = time.monotonic()
        if not self._store.busy:
            self._wait_until_saved()
            is_blocked = in_flight + self._unsaved >= self._bound
            is_late = now - self._saved_at >= SAVE_SECONDS
            if self._unsaved >= max(window // 2, 1) or is_blocked or (self._unsaved and is_late):
                self._take_in_effort(stats, seconds)
                self._save(in_flight=in_flight, window=window)

    # What it says

    def summary(self) -> str:
        """Describe the outcomes so far."""
        counts = self._checkpoint.counts | ({"unknown": len(self._unread)} if self._unread else {})
        return outcomes_in_words(counts, self._checkpoint.inferred, preview=self._config.preview)

    def result(self, stats: RequestStats, seconds: float) -> dict[str, Any]:
        """Sum up all tries; small whatever the size of the run.

        :param stats: of this try's requests; ``seconds`` it has taken.
        """
        self._take_in_effort(stats, seconds)
        checkpoint = self._checkpoint
        counts = {outcome.value: checkpoint.counts.get(outcome, 0) for outcome in Outcome}
        counts["unknown"] = self.left
        samples = dict(checkpoint.samples)
        if self._unread:
            samples["unknown"] = []
            for unread in self._unread.values():
                add_sample(samples["unknown"], unread.target.value)
        return {
            "requested": len(self._targets),
            "duplicates": self._targets.duplicates,
            **counts,
            "inferred": checkpoint.inferred,
            FILES_LEFT: checkpoint.files_left if self._config.verify_files else None,
            "requests": checkpoint.requests,
            "retries": checkpoint.retries,
            "throttled": checkpoint.throttled,
            "preview": self._config.preview,
            "region": self._config.region,
            "delete_physical_files": self._config.delete_physical_files,
            "report": self.report,
            "resumed": self.resumed,
            "seconds": round(checkpoint.seconds, 3),
            "samples": samples,
            "request_ids": checkpoint.request_ids,
        }

    @property
    def report(self) -> str | None:
        """The report's folder, None without a report."""
        if self._report_base is None:
            return None
        return str(attempt_folder(self._report_base, self._checkpoint.attempt))

    def gone(self) -> Iterable[str] | None:
        """Return the targets that reads must stop showing, in all tries: those deleted, and those that were missing.

        None when that is not known: an earlier try left more alone than a checkpoint names, and there is no report,
        or it does not tell what became of all.

        :raises StorageError: if the report can't be read, or is not as it was written.
        """
        if self._report_base is not None:
            folder = attempt_folder(self._report_base, self._checkpoint.attempt)
            deleted = read_report(folder, lines=len(self._targets))
            if len(deleted) == self._checkpoint.counts.get(Outcome.DELETED, 0):
                return (target.value for target in deleted)
            deleted.close()
        if not self._left_alone_is_known:
            return None
        return (target.value for target in self._targets if target.value not in self._left_alone)

    # Inside

    def _count(self, result: TargetResult) -> None:
        checkpoint, outcome, value = self._checkpoint, result.outcome, result.target.value
        if outcome is Outcome.FAILED:
            self.reason_failed = self.reason_failed or result.reason
        if outcome in LEFT_ALONE:
            self._left_alone.add(value)
        checkpoint.counts[outcome] = checkpoint.counts.get(outcome, 0) + 1
        checkpoint.inferred += result.inferred
        if result.file == FileState.LEFT:
            checkpoint.files_left += 1
            add_sample(checkpoint.samples.setdefault(FILES_LEFT, []), result.url or value)
        add_sample(checkpoint.samples.setdefault(outcome.value, []), value)
        ids = checkpoint.request_ids
        request_id = _cut(result.request_id, MAX_REQUEST_ID)
        if request_id and len(ids) < MAX_SAMPLES and request_id not in ids[-8:]:
            ids.append(request_id)

    def _learn_what_was_left_alone(self) -> None:
        checkpoint = self._checkpoint
        named = [value for outcome in LEFT_ALONE for value in checkpoint.samples.get(outcome, [])]
        self._left_alone.update(named)
        self._left_alone_is_known = len(named) == sum(
            checkpoint.counts.get(outcome, 0) for outcome in LEFT_ALONE
        )

    def _open_report(self, folder: ObjectStoragePath) -> None:
        report: ReportWriter[Row] = ReportWriter(
            folder, len(self._targets), retry_seconds=self._retry_seconds, stop=self._stop
        )
        self._report = report
        files_lost = report.open(self._checkpoint.journal)
        if unwritten := self._checkpoint.unwritten:
            rows = {ordinal: row for row in unwritten for ordinal in range(row.first, row.end)}
            results = (
                (
                    row.at,
                    TargetResult(
                        target, row.outcome, row.inferred, row.request_id, row.reason, file=row.file
                    ),
                )
                for target in self._targets
                if (row := rows.get(target.ordinal))
            )
            lines = ((result.target.ordinal, self._line(result, at)) for at, result in results)
            report.add(lines, unwritten)
        if files_lost and (lines_lost := sum(1 for _ in self._targets_without_line())):
            log.warning(
                "%s lines that an earlier try wrote under %s are not there any more; was it another machine's disk? "
                "Their targets are done and counted, and get lines without a request id.",
                f"{lines_lost:,}",
                folder,
            )

    def _targets_without_line(self) -> Iterator[Target]:
        """Find those that are done, and whose line is lost."""
        assert self._report is not None
        for batch in batches(self._targets):
            if batch.number in self._checkpoint.done:
                for target in batch.targets:
                    if (
                        target.ordinal not in self._report.spool
                        and target.ordinal not in self._checkpoint.open
                    ):
                        yield target

    def _line(self, result: TargetResult, at: int | None) -> dict[str, Any]:
        line: dict[str, Any] = dict(result.target.columns or {self._targets.kind: result.target.value})
        if "reason" in line:  # why the plan chose it; the report's own reason is why it is not deleted
            line["planned_because"] = line.pop("reason")
        line |= {
            "outcome": result.outcome.value,
            "inferred": result.inferred,
            "request_id": result.request_id,
            "at": None if at is None else write_time(datetime.fromtimestamp(at, UTC)),
        }
        if result.file:
            line["file"] = result.file
        if result.reason:
            line["reason"] = result.reason
        if self._config.preview:
            line["preview"] = True
        return line

    def _report_lines(self) -> Iterator[bytes]:
        """Go through the lines of all targets that have an outcome or could not be read, in order."""
        assert self._report is not None
        spool = self._report.spool
        if not self._unread and spool.lines == len(self._targets):
            for ordinal in range(spool.lines):
                yield spool.get(ordinal) or b""
            return
        known, others = self._known_outcomes()
        lost = {target.ordinal for target in self._targets_without_line()}
        for target in self._targets:
            if unread := self._unread.get(target.ordinal):
                yield to_line(self._line(unread, int(time.time())))
            elif line := spool.get(target.ordinal):
                yield line
            elif target.ordinal in lost:
                outcome = known.get(target.value, others)
                about = self._line(TargetResult(target, Outcome.DELETED, reason=LINE_LOST), None)
                yield to_line(about | {"outcome": outcome, "inferred": None})

    def _known_outcomes(self) -> tuple[dict[str, Outcome], Outcome | None]:
        """Return the outcomes of the targets that samples name; and that of all others, None if it is not certain."""
        samples, counts = self._checkpoint.samples, self._checkpoint.counts
        known = {value: outcome for outcome in Outcome for value in samples.get(outcome, [])}
        all_are_named = all(
            len(samples.get(outcome, [])) == count
            for outcome, count in counts.items()
            if outcome != Outcome.DELETED
        )
        return known, Outcome.DELETED if all_are_named else None

    def _save(self, *, in_flight: int, window: int) -> None:
        checkpoint = self._checkpoint
        # Those of an earlier try that are not handed out yet come next.
        checkpoint.unconfirmed = in_flight + max(self._unconfirmed, window)
        if self._report:
            checkpoint.unwritten, checkpoint.journal = self._report.unwritten, self._report.journal
        self._store.save(checkpoint)
        self._being_saved, self._unsaved = self._unsaved, 0
        self._bound_being_saved = checkpoint.unconfirmed
        self._saved_at = time.monotonic()

    def _wait_until_saved(self) -> None:
        self._store.wait()
        self._being_saved, self._bound = 0, self._bound_being_saved

    def _take_in_effort(self, stats: RequestStats, seconds: float) -> None:
        earlier, earlier_seconds = self._earlier
        self._checkpoint.requests = earlier.requests + stats.requests
        self._checkpoint.retries = earlier.retries + stats.retries
        self._checkpoint.throttled = earlier.throttled + stats.throttled
        self._checkpoint.seconds = earlier_seconds + seconds


def _rows(results: Sequence[TargetResult], at: int) -> Iterator[Row]:
    """Spell results of one batch as few rows."""
    ordered = sorted(results, key=lambda result: result.target.ordinal)
    # What follows one another has the same distance from its place in the list.
    places = {result.target.ordinal: place for place, result in enumerate(ordered)}

    def alike(result: TargetResult) -> tuple[Any, ...]:
        distance = result.target.ordinal - places[result.target.ordinal]
        request_id, reason = _cut(result.request_id, MAX_REQUEST_ID), _cut(result.reason, MAX_REASON)
        return distance, result.outcome, result.inferred, request_id, reason, result.file

    for (_, outcome, inferred, request_id, reason, file), group in groupby(ordered, alike):
        ordinals = [result.target.ordinal for result in group]
        yield Row(ordinals[0], ordinals[-1] + 1, outcome, inferred, request_id, at, reason, file)


def _cut(text: str | None, most: int) -> str | None:
    """Return as much of a text as takes ``most`` bytes in JSON: six for a character beyond ASCII, twelve for some."""
    if text is None or (text.isascii() and len(text) <= most):
        return text
    kept = text[:most]
    while len(json.dumps(kept)) > most + 2:
        kept = kept[:-1]
    return kept


def add_sample(samples: list[str], value: str) -> None:
    """Add one if there is room for it, as XCom spells it: six bytes for a character beyond ASCII."""
    # The first two are quick to tell.
    if (
        len(samples) < MAX_SAMPLES
        and sum(map(len, samples)) + len(value) <= MAX_SAMPLE_BYTES
        and len(json.dumps([*samples, value])) <= MAX_SAMPLE_BYTES
    ):
        samples.append(value)
