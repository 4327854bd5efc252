"""A run: targets -> batches -> requests in flight -> outcomes.

One thread hands out batches and records what came of them, so that counts, report and checkpoint have one writer.
Requests run in a pool. Batches are made when there is room for one, never all at once.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_ims.api.client import IMSClient, RequestStats
from airflow_provider_ims.api.errors import CallAbandoned, IMSError, IMSTransientError
from airflow_provider_ims.deletion.checkpoint import RunConfig, StateStore
from airflow_provider_ims.deletion.policies import NAMED_IN_A_MESSAGE, OutcomePolicies, targets_in_words
from airflow_provider_ims.deletion.progress import Progress
from airflow_provider_ims.deletion.record import MAX_OPEN, RunRecord
from airflow_provider_ims.deletion.resolve import BatchDeleter, BatchResult, Outcome, TargetResult, WhyKept
from airflow_provider_ims.deletion.targets import Batch, Target, Targets
from airflow_provider_ims.deletion.threads import LinkedEvent, run_interruptible
from airflow_provider_ims.deletion.verify import FileSearch, FileVerifier

if TYPE_CHECKING:
    from airflow_provider_ims.compat import ObjectStoragePath

log = logging.getLogger(__name__)

# A target that is ignored though still shown is looked at again after each of these seconds, 30 in all.
LOOK_AGAIN_SECONDS = (1, 2, 4, 8, 15)
DEFAULT_CONCURRENCY, MAX_CONCURRENCY = 32, 64
# What a stopped run gives the requests in flight beyond their own bound.
STOP_GRACE_SECONDS = 2.0
# The run looks around so often when nothing happens.
LONGEST_IDLE_SECONDS = 0.2


class Work(NamedTuple):
    """What a thread does next.

    ``batch`` is None for targets that are asked about again; ``asked`` is how often this try did so before.
    """

    targets: tuple[Target, ...]
    unconfirmed: bool
    batch: Batch | None = None
    asked: int = 0


class TargetsUnread(IMSTransientError):
    """Some targets could not be read: they stay open, and the next try asks about them alone.

    :param message: what happened, in words.
    :param result: the same that a run returns which reaches its end.
    """

    def __init__(self, message: str, *, result: dict[str, Any] | None = None, **attributes: Any) -> None:
        super().__init__(message, **{"code": "Unread", **attributes})
        self.result = result or {}


class DeletionRun:
    """Deletes targets and knows what became of each.

    :param client: sends the requests; its pace is the run's.
    :param targets: what to delete.
    :param region: asked, for the log and the result.
    :param connection: id of the connection that is used, for the log.
    :param delete_physical_files: delete the files too.
    :param preview: do all but delete.
    :param max_concurrency: requests in flight at most, 1 to 64.
    :param policies: which outcomes are accepted; None takes them as they are.
    :param report_base: folder under which the report's ``attempt=<n>`` is made; None for no report.
    :param attempt: number of this try.
    :param store: holds what the next try needs; None to start over each time.
    :param why_kept: for plans, tells why a medium must be left alone by now.
    :param verifier: looks whether the files of what was deleted are gone; None does not look.
    :param on_result: is called with what became of each target, one after the other.
    :param stop: once set, no new request starts, and the run ends as soon as those in flight are back.
    :raises ValueError: for an option that makes no sense.
    """

    def __init__(
        self,
        client: IMSClient,
        targets: Targets,
        *,
        region: str | None = None,
        connection: str | None = None,
        delete_physical_files: bool = False,
        preview: bool = False,
        max_concurrency: int = DEFAULT_CONCURRENCY,
        policies: OutcomePolicies | None = None,
        report_base: ObjectStoragePath | None = None,
        attempt: int = 1,
        store: StateStore | None = None,
        why_kept: WhyKept | None = None,
        verifier: FileVerifier | None = None,
        on_result: Callable[[TargetResult], None] | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        for name, value in (("delete_physical_files", delete_physical_files), ("preview", preview)):
            if type(value) is not bool:  # the text "false" would delete the files
                raise ValueError(f"{name} is {value!r}, not True or False")
        if not (type(max_concurrency) is int and 1 <= max_concurrency <= MAX_CONCURRENCY):
            raise ValueError(
                f"max_concurrency is {max_concurrency!r}, not a number from 1 to {MAX_CONCURRENCY}"
            )
        self.client = client
        self.targets = targets
        self.max_concurrency = max_concurrency
        self._stop = stop or threading.Event()
        # The run's own reasons to end: they are no stop that a caller asked for, and a report that can be written is.
        self._stop_writing = LinkedEvent(self._stop)
        self._stop_asking = LinkedEvent(self._stop_writing)
        self._connection = connection
        self._config = RunConfig(
            client.endpoint.url, region, delete_physical_files, preview, verifier is not None
        )
        self._policies = policies
        self._on_result = on_result
        self._deleter = BatchDeleter(
            client,
            kind=targets.kind,
            delete_physical_files=delete_physical_files,
            stop=self._stop_asking,
            why_kept=why_kept,
            find_urls=verifier is not None,
        )
        self._files = FileSearch(verifier, LOOK_AGAIN_SECONDS) if verifier else None
        self._record = RunRecord(
            targets,
            config=self._config,
            report_base=report_base,
            attempt=attempt,
            store=store,
            max_concurrency=max_concurrency,
            retry_seconds=client.retry_seconds,
            stop=self._stop_writing,
        )
        self._error: Exception | None = None
        self._in_flight: dict[Future[BatchResult], Work] = {}
        self._recheck: list[tuple[float, int, Work]] = []
        self._order = itertools.count()

    def execute(self) -> dict[str, Any]:
        """Run to the end.

        :returns: the result, as the operator's documentation lists it.
        :raises OutcomeError: when an outcome is not accepted; it carries the result.
        :raises GuardError: before the first request, when the report can't be written.
        :raises IMSTransientError: when nothing went through for the whole retry time, or targets could not be read
            (:class:`TargetsUnread`, with the result).
        :raises IMSAPIError: when the service refuses; what was done until then is in report and checkpoint.
        :raises IMSError: when the report can't be written, or the run was stopped.
        """
        self._began = time.monotonic()
        self._stats_before = self.client.stats
        self._announce()
        record = self._record
        # Not in this thread: Airflow ends a task whose time is over by an exception out of nowhere in it, and
        # between counting a target and writing its line is no place for one; nor is where threads are started.
        try:
            run_interruptible(
                lambda: record.open(self._window()), name="ims-run", cancel=self._stop_writing.set
            )
            self._progress = Progress(len(self.targets), record.judged)
            try:
                run_interruptible(self._run, name="ims-run", cancel=self._stop_writing.set)
            except BaseException as error:
                self._log_early_end(str(error) or type(error).__name__)
                raise
        except BaseException:
            record.close()
            raise
        if self._error:
            self._log_early_end(str(self._error))
            raise self._error
        if record.left > len(record.unread) and self._stop.is_set():
            left = targets_in_words(record.left)
            raise IMSError(f"stopped on request: {record.summary()}; {left} still without an outcome")
        result = record.result(self._stats, self._seconds)
        if record.unread:
            raise TargetsUnread(self._describe_unread(), result=result)
        if self._policies:
            self._policies.enforce(result, host=self.client.endpoint.host, reason_failed=record.reason_failed)
        return result

    def gone(self) -> Iterable[str] | None:
        """Return the targets that reads must stop showing, in all tries; None when they are not known."""
        return self._record.gone()

    def _announce(self) -> None:
        host, region = self.client.endpoint.host, self._config.region
        where = f"region {region}, {host}" if region else host
        if self._connection:
            where += f", connection {self._connection!r}"
        if not len(self.targets):
            log.warning("Nothing to delete: no media are named. Nothing is sent to %s.", where)
            return
        log.info(
            "%s %s media by %s in %s; their files in the bucket %s.%s",
            "Previewing the deletion of" if self._config.preview else "Deleting",
            f"{len(self.targets):,}",
            "URL" if self.targets.kind == "input_url" else "media id",
            where,
            "are deleted too" if self._config.delete_physical_files else "are kept",
            f" {self.targets.duplicates:,} named more than once were dropped."
            if self.targets.duplicates
            else "",
        )

    def _log_early_end(self, reason: str) -> None:
        record = self._record
        log.error(
            "Ended early: %s. So far: %s; %s still without an outcome. %s%s",
            reason.rstrip("."),
            record.summary(),
            targets_in_words(record.left),
            "The next try goes on from here." if record.goes_on else "The next try starts over.",
            f" Report: {record.report}." if record.report else "",
        )

    def _describe_unread(self) -> str:
        unread = list(self._record.unread.values())
        names = ", ".join(result.target.value for result in unread[:NAMED_IN_A_MESSAGE])
        more = f" and {len(unread) - NAMED_IN_A_MESSAGE:,} more" if len(unread) > NAMED_IN_A_MESSAGE else ""
        unknown = f"{len(unread):,} of {len(self.targets):,} unknown ({unread[0].reason}): {names}{more}"
        if unasked := self._record.left - len(unread):
            ends = f"Too many could not be read, so {targets_in_words(unasked)} more have no outcome either"
        else:
            ends = "All others have an outcome"
        asks = f"asks about {'all of these' if unasked else 'those alone'}"
        next_try = asks if self._record.goes_on else "starts over"
        return f"{unknown}. {ends}: {self._record.summary()}. The next try {next_try}"

    @property
    def _stats(self) -> RequestStats:
        """The requests of this try."""
        return self.client.stats - self._stats_before

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def _run(self) -> None:
        """Do all of it, and leave report and checkpoint behind in agreement."""
        pool = ThreadPoolExecutor(self.max_concurrency, thread_name_prefix="ims-delete")
        try:
            for step in (partial(self._work_through, pool), self._finish_what_is_in_flight, self._finish):
                try:
                    step()
                except Exception as error:  # noqa: BLE001 - execute() raises it
                    # Report or store can't be written. What is in flight still counts, and is saved if that goes.
                    self._stop_writing.set()
                    if self._error is None:
                        self._error = error
                    elif str(error) != str(self._error):
                        words = str(error).rstrip(".") or type(error).__name__
                        log.error("Besides, while the run ended: %s.", words)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            self._record.close()

    def _finish(self) -> None:
        for work in self._in_flight.values():  # nobody has waited any longer, and it may be done
            self._record.record(work.batch, [], dict.fromkeys(work.targets, True))
        self._record.finish(self._stats, self._seconds)

    def _work_through(self, pool: ThreadPoolExecutor) -> None:
        new = self._new_work()
        exhausted = False
        for targets, unconfirmed in self._record.open_targets():
            self._look_again(Work(targets, unconfirmed), after=0)
        while not self._stop_asking.is_set():
            window = self._window()
            while not self._stop_asking.is_set() and len(self._in_flight) < window:
                work = self._due_work()
                if not work and not exhausted and self._record.may_start(self._new_in_flight):
                    work = next(new, None)
                    exhausted = work is None
                if not work:
                    break
                self._in_flight[pool.submit(self._ask, work)] = work
            is_idle = not self._in_flight and not self._recheck and exhausted
            if self._files and not self._stop_asking.is_set():
                self._files.start(pool, at_once=is_idle)
            if is_idle and (self._files is None or self._files.is_over):
                return
            self._wait_for_results(timeout=self._idle_seconds())
            self._record.catch_up(
                self._stats, self._seconds, in_flight=self._new_in_flight, window=self._window()
            )
            if not self._progress.seconds_left:
                self._log_progress(is_tail=exhausted and not self._new_in_flight)

    def _log_progress(self, *, is_tail: bool) -> None:
        """Say how far the run is.

        :param is_tail: nothing is left but what is asked about again, and files that are looked for.
        """
        record, error = self._record, self.client.last_error
        asked_again, files_sought = 0, 0
        if is_tail:
            works = (*self._in_flight.values(), *(work for _, _, work in self._recheck))
            asked_again = sum(len(work.targets) for work in works)
            files_sought = record.left - len(record.unread) - asked_again
        self._progress.log(
            record.judged,
            record.summary(),
            self._stats,
            asked_again=asked_again,
            files_sought=files_sought,
            trouble=str(error) if error else None,
        )

    def _window(self) -> int:
        """How many requests may be in flight: one until an answer came, so that a refusal is but one.

        No more than the pace has use for, or those that wait for their turn would be in doubt after a kill.
        """
        if self.client.last_answer_at < self._began:
            return 1
        return min(self.max_concurrency, self.client.window or self.max_concurrency)

    @property
    def _new_in_flight(self) -> int:
        return sum(work.batch is not None for work in self._in_flight.values())

    def _new_work(self) -> Iterator[Work]:
        for batch, unconfirmed in self._record.new_batches():
            yield Work(batch.targets, unconfirmed, batch)

    def _look_again(self, work: Work, after: float) -> None:
        heapq.heappush(self._recheck, (time.monotonic() + after, next(self._order), work))

    def _due_work(self) -> Work | None:
        if self._recheck and self._recheck[0][0] <= time.monotonic():
            return heapq.heappop(self._recheck)[2]
        return None

    def _idle_seconds(self) -> float:
        """How long to wait for something to happen."""
        seconds = min(self._progress.seconds_left, LONGEST_IDLE_SECONDS)
        if self._recheck and len(self._in_flight) < self._window():
            seconds = min(seconds, max(self._recheck[0][0] - time.monotonic(), 0.0))
        return seconds

    def _ask(self, work: Work) -> BatchResult:
        """Ask about targets. Runs in a thread of the pool."""
        if self._stop_asking.is_set():
            return BatchResult([], open=work.targets, unconfirmed=work.unconfirmed)
        if self._config.preview:
            return self._deleter.preview(work.targets, work.unconfirmed)
        if work.asked < 2:
            return self._deleter.delete(work.targets, work.unconfirmed)
        return self._deleter.look(work.targets, work.unconfirmed)

    def _wait_for_results(self, timeout: float) -> None:
        """Settle what came back, or wait until something does."""
        looks = set(self._files.running) if self._files else set()
        waiting: set[Future[Any]] = {*self._in_flight, *looks, *self._record.busy}
        if not waiting:
            self._stop_asking.wait(timeout)
            return
        done, _ = wait(waiting, timeout=timeout, return_when=FIRST_COMPLETED)
        self._settle_all(done & self._in_flight.keys())
        for look in looks & done:
            assert self._files
            self._record_results(None, self._files.settle(look), {})

    def _settle_all(self, done: Iterable[Future[BatchResult]]) -> None:
        for future in done:
            work = self._in_flight.pop(future)
            try:
                came = future.result()
            except Exception as error:  # noqa: BLE001 - a fault of ours; what was sent is sent all the same
                came = BatchResult([], open=work.targets, unconfirmed=True, error=error)
            self._settle(work, came)

    def _settle(self, work: Work, came: BatchResult) -> None:
        """Record what came of asking; note what is to be asked about again."""
        results = list(came.results)
        # Left open by an error or a stop: for the next try, as exactly as it is known now.
        still_open = dict.fromkeys(came.open, came.unconfirmed)
        still_open |= {
            result.target: came.unconfirmed for result in results if result.outcome is Outcome.UNKNOWN
        }
        again = Work(came.recheck, came.unconfirmed or work.unconfirmed, asked=work.asked + 1)
        if again.targets and again.asked > len(LOOK_AGAIN_SECONDS):
            reason = f"ignored by the service, and still shown after {sum(LOOK_AGAIN_SECONDS)} seconds"
            results += [TargetResult(target, Outcome.FAILED, reason=reason) for target in again.targets]
        elif again.targets:
            still_open |= dict.fromkeys(again.targets, again.unconfirmed)
            self._look_again(again, after=LOOK_AGAIN_SECONDS[work.asked])
        if self._files:
            deleted = [result for result in results if result.outcome is Outcome.DELETED]
            self._files.gather(deleted)
            # Until then they are open: a next try finds them gone, and looks for their files.
            still_open |= {result.target: True for result in deleted}
            results = [result for result in results if result.outcome is not Outcome.DELETED]
        self._record_results(work.batch, results, still_open)
        if came.error and not isinstance(came.error, CallAbandoned):
            self._error = self._error or came.error  # those in flight are often refused alike
            self._stop_asking.set()
        if len(self._record.unread) >= MAX_OPEN:  # so many are no exception any more
            self._stop_asking.set()

    def _record_results(
        self, batch: Batch | None, results: Sequence[TargetResult], still_open: Mapping[Target, bool]
    ) -> None:
        self._record.record(batch, results, still_open)
        if self._on_result:
            for result in results:
                self._on_result(result)

    def _finish_what_is_in_flight(self) -> None:
        """Wait, bounded, for requests that are out; what they did belongs into report and checkpoint."""
        patience = self.client.stop_seconds + STOP_GRACE_SECONDS
        end = time.monotonic() + patience
        while self._in_flight and (left := end - time.monotonic()) > 0:
            done, _ = wait(self._in_flight, timeout=left, return_when=FIRST_COMPLETED)
            self._settle_all(done)
