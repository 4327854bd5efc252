"""What became of each target so far: counted, put into the report, and saved for the next try.

Knows nothing of requests and threads: one thread tells it what came of a batch, and asks it what is still open. The
checkpoint is the only truth about a run; the report's lines follow it (:mod:`airflow_provider_ims.files.report`).
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_ims.api.client import RequestStats
from airflow_provider_ims.deletion.checkpoint import (
    Checkpoint,
    CheckpointStore,
    Row,
    RunConfig,
    StateStore,
    rows,
)
from airflow_provider_ims.deletion.lines import Lines
from airflow_provider_ims.deletion.policies import outcomes_in_words
from airflow_provider_ims.deletion.resolve import Outcome, TargetResult
from airflow_provider_ims.deletion.result import count, sum_up
from airflow_provider_ims.deletion.targets import Batch, Target, Targets, batches, read_report
from airflow_provider_ims.files.report import (
    ReportWriter,
    attempt_folder,
    free_attempt,
    is_written,
    remove_journal,
)

if TYPE_CHECKING:
    from airflow_provider_ims.compat import ObjectStoragePath

# Outcomes after which reads may go on to show a target.
LEFT_ALONE = (Outcome.FORBIDDEN, Outcome.FAILED, Outcome.UNKNOWN, Outcome.KEPT)
# More open targets than this, and no new batch starts until some are settled: they stand in the checkpoint.
MAX_OPEN = 1000
# The same for rows of results that the journal may not have yet: one for each fate that targets of a batch had. Those
# of answers that are under way when it is reached come on top, of up to 64 batches.
MAX_UNWRITTEN = 150

log = logging.getLogger(__name__)


class RunRecord:
    """Keeps record of one run. :meth:`open` comes first, :meth:`close` last.

    :param targets: of the run.
    :param config: of the run.
    :param report_base: folder under which the report's ``attempt=<n>`` is made; None for no report.
    :param attempt: number of this try.
    :param store: holds what the next try needs; None to start over each time.
    :param max_concurrency: requests in flight at most.
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
        max_concurrency: int,
        retry_seconds: float,
        stop: threading.Event,
    ) -> None:
        self._targets = targets
        self._config = config
        self._lines = Lines(targets, config)
        self._report_base = report_base
        self._attempt = attempt
        self._store = CheckpointStore(store, max_concurrency)
        self._retry_seconds = retry_seconds
        self._stop = stop
        self._report: ReportWriter[Row] | None = None
        self._unread: dict[int, TargetResult] = {}
        self._left_alone: set[str] = set()
        self._left_alone_is_known = True
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
        self._save(in_flight=0, window=window)
        self._store.wait()

    def finish(self, stats: RequestStats, seconds: float) -> None:
        """Leave checkpoint and report as the end of this try has them: what is open was recorded, all of it.

        :param stats: of this try's requests; ``seconds`` it has taken.
        """
        self._add_effort(stats, seconds)
        report, is_over = self._report, not self.left
        try:
            if report and not is_over:  # else the parts are written at once, and need no journal
                report.flush()
        finally:
            self._save(in_flight=0, window=0)
            self._store.wait()
        if not report:
            return
        report.write_parts(partial(self._lines.in_order, self._checkpoint, report.spool, self._unread))
        if is_over or not self._store.saves:
            self._checkpoint.reported = is_over
            self._save(in_flight=0, window=0)
            self._store.wait()
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
        return self._checkpoint.judged

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
        return self._store.may_start(in_flight)

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
            self._store.add_done()
        for row, alike in rows(known, now):
            if self._report:
                self._report.add(self._lines.about(alike, now), [row])
            for result in alike:
                del checkpoint.open[result.target.ordinal]
            count(checkpoint, alike)
            if row.outcome is Outcome.FAILED:
                self.reason_failed = self.reason_failed or alike[0].reason
            if row.outcome in LEFT_ALONE:
                self._left_alone.update(result.target.value for result in alike)

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
        if self._store.is_due(in_flight, window):
            self._add_effort(stats, seconds)
            self._save(in_flight=in_flight, window=window)

    # What it says

    def summary(self) -> str:
        """Describe the outcomes so far."""
        counts = self._checkpoint.counts | ({"unknown": len(self._unread)} if self._unread else {})
        return outcomes_in_words(counts, self._checkpoint.inferred, preview=self._config.preview)

    def result(self, stats: RequestStats, seconds: float) -> dict[str, Any]:
        """Return what the run answers with.

        :param stats: of this try's requests; ``seconds`` it has taken.
        """
        self._add_effort(stats, seconds)
        return sum_up(
            self._checkpoint,
            self._targets,
            self._config,
            unread=self._unread.values(),
            report=self.report,
            resumed=self.resumed,
        )

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
        report.add(self._lines.of_rows(self._checkpoint.unwritten), self._checkpoint.unwritten)
        if files_lost and (lost := sum(1 for _ in self._lines.lost(self._checkpoint, report.spool))):
            log.warning(
                "%s lines that an earlier try wrote under %s are not there any more; was it another machine's disk? "
                "Their targets are done and counted, and get lines without a request id.",
                f"{lost:,}",
                folder,
            )

    def _save(self, *, in_flight: int, window: int) -> None:
        checkpoint = self._checkpoint
        # Those of an earlier try that are not handed out yet come next.
        checkpoint.unconfirmed = in_flight + max(self._unconfirmed, self._store.margin(in_flight, window))
        if self._report:
            checkpoint.unwritten, checkpoint.journal = self._report.unwritten, self._report.journal
        self._store.save(checkpoint)

    def _add_effort(self, stats: RequestStats, seconds: float) -> None:
        earlier, earlier_seconds = self._earlier
        self._checkpoint.requests = earlier.requests + stats.requests
        self._checkpoint.retries = earlier.retries + stats.retries
        self._checkpoint.throttled = earlier.throttled + stats.throttled
        self._checkpoint.seconds = earlier_seconds + seconds
