"""A run: targets -> batches -> requests in flight -> outcomes.

One thread hands out batches and enters what came of them into the ledger, so that counts, report and state have one
writer. Requests run in a pool. Batches are made when there is room for one, never all at once.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_ims.api.client import IMSClient, RequestStats
from airflow_provider_ims.api.errors import CallAbandoned, IMSError
from airflow_provider_ims.deletion.checkpoint import StateStore
from airflow_provider_ims.deletion.ledger import Ledger, RunConfig
from airflow_provider_ims.deletion.policies import OutcomePolicies, targets_in_words
from airflow_provider_ims.deletion.progress import Progress
from airflow_provider_ims.deletion.resolve import BatchDeleter, BatchResult, Outcome, TargetResult, WhyKept
from airflow_provider_ims.deletion.targets import Batch, Target, Targets
from airflow_provider_ims.deletion.threads import run_interruptible

if TYPE_CHECKING:
    from airflow_provider_ims.compat import ObjectStoragePath

log = logging.getLogger(__name__)

# A target that is ignored though still shown is looked at again after each of these seconds, 30 in all.
LOOK_AGAIN_SECONDS = (1, 2, 4, 8, 15)
MAX_CONCURRENCY = 64


class Work(NamedTuple):
    """What a thread does next.

    ``batch`` is None for targets that were set aside; ``asked`` is how often this try asked about them before.
    """

    targets: tuple[Target, ...]
    in_doubt: bool
    batch: Batch | None = None
    asked: int = 0


class DeletionRun:
    """Deletes targets and knows what became of each.

    :param client: sends the requests; its pace is the run's.
    :param targets: what to delete.
    :param region: asked, for the log and the result.
    :param delete_physical_files: delete the files too.
    :param preview: do all but delete.
    :param max_concurrency: requests in flight at most, 1 to 64.
    :param policies: which outcomes are accepted; None takes them as they are.
    :param report_base: folder under which the report's ``attempt=<n>`` is made; None for no report.
    :param attempt: number of this try.
    :param store: keeps what the next try needs; None to start over each time.
    :param why_kept: for plans, tells why a medium must be left alone by now.
    :param on_verdict: hears what became of each target, one after the other.
    :param stop: once set, no new request starts, and the run ends as soon as those in flight are back.
    :raises ValueError: for an option that makes no sense.
    """

    def __init__(
        self,
        client: IMSClient,
        targets: Targets,
        *,
        region: str | None = None,
        delete_physical_files: bool = False,
        preview: bool = False,
        max_concurrency: int = 8,
        policies: OutcomePolicies | None = None,
        report_base: ObjectStoragePath | None = None,
        attempt: int = 1,
        store: StateStore | None = None,
        why_kept: WhyKept | None = None,
        on_verdict: Callable[[TargetResult], None] | None = None,
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
        self.stop = stop or threading.Event()
        self._manner = RunConfig(client.endpoint.url, region, delete_physical_files, preview)
        self._policies = policies
        self._on_verdict = on_verdict
        self._judge = BatchDeleter(
            client,
            kind=targets.kind,
            delete_physical_files=delete_physical_files,
            stop=self.stop,
            why_kept=why_kept,
        )
        self._ledger = Ledger(
            targets,
            manner=self._manner,
            in_flight=max_concurrency,
            report_base=report_base,
            attempt=attempt,
            store=store,
        )
        self._error: IMSError | None = None
        self._in_flight: dict[Future[BatchResult], Work] = {}
        self._aside: list[tuple[float, int, Work]] = []
        self._order = itertools.count()

    def execute(self) -> dict[str, Any]:
        """Run to the end.

        :returns: the result, as the operator's documentation lists it.
        :raises IMSDeletionError: when an outcome is not accepted; it carries the result.
        :raises IMSGuardError: before the first request, when the report can't be written.
        :raises IMSTransientError: when nothing went through for the whole retry time.
        :raises IMSAPIError: when the service refuses; what was done until then is in report and state.
        """
        self._began = time.monotonic()
        self._tally_before = self.client.tally
        self._announce()
        ledger = self._ledger
        ledger.open()
        self._progress = Progress(len(self.targets), ledger.judged)
        # Not in this thread: Airflow ends a task whose time is over by an exception out of nowhere in it, and
        # between counting a target and writing its line is no place for one.
        run_interruptible(self._run, name="ims-run", cancel=self.stop.set)
        if self._error:
            log.error(
                "Ended early: %s. So far: %s; %s still without an outcome. %s",
                self._error,
                ledger.summary(),
                targets_in_words(ledger.left),
                "The next try goes on from here." if ledger.goes_on else "The next try starts over.",
            )
            raise self._error
        if ledger.left:
            left = targets_in_words(ledger.left)
            raise IMSError(f"stopped on request: {ledger.summary()}; {left} still without an outcome")
        result = ledger.result(self._tally, self._seconds)
        if self._policies:
            self._policies.judge(result, host=self.client.endpoint.host)
        return result

    def gone(self) -> Iterable[str] | None:
        """Give the targets that reads must stop showing, in all tries; None when they are not known."""
        return self._ledger.gone()

    def _announce(self) -> None:
        host, region = self.client.endpoint.host, self._manner.region
        where = f"region {region}, {host}" if region else host
        if not len(self.targets):
            log.warning("Nothing to delete: no media are named. Nothing is sent to %s.", where)
            return
        log.info(
            "%s %s media by %s in %s; their files in the bucket %s.%s",
            "Previewing the deletion of" if self._manner.preview else "Deleting",
            f"{len(self.targets):,}",
            "URL" if self.targets.kind == "input_url" else "media id",
            where,
            "are deleted too" if self._manner.delete_physical_files else "are kept",
            f" {self.targets.duplicates:,} named more than once were dropped."
            if self.targets.duplicates
            else "",
        )

    @property
    def _tally(self) -> RequestStats:
        """The requests of this try."""
        return self.client.tally - self._tally_before

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def _run(self) -> None:
        """Do all of it, and leave report and state behind in agreement."""
        pool = ThreadPoolExecutor(self.max_concurrency, thread_name_prefix="ims-delete")
        try:
            try:
                self._work_through(pool)
            except Exception:
                # The report or the store can't be written: what is in flight may still get its lines, but no
                # state is kept that may count what has none. The next try finds what a kill would leave.
                self.stop.set()
                with contextlib.suppress(Exception):
                    self._finish_what_is_in_flight()
                raise
            self._finish_what_is_in_flight()
            self._ledger.conclude(self._tally, self._seconds, all_are_back=not self._in_flight)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            self._ledger.close()

    def _work_through(self, pool: ThreadPoolExecutor) -> None:
        new = self._new_work()
        exhausted = False
        for targets, in_doubt in self._ledger.open_targets():
            self._set_aside(Work(targets, in_doubt), after=0)
        while True:
            while not self.stop.is_set() and len(self._in_flight) < self._room():
                work = self._due_work()
                if not work and not exhausted and self._ledger.may_go_ahead:
                    work = next(new, None)
                    exhausted = work is None
                if not work:
                    break
                self._in_flight[pool.submit(self._do, work)] = work
            if not self._in_flight and (self.stop.is_set() or (exhausted and not self._aside)):
                return
            self._take_in(timeout=self._idle_seconds())
            if self._ledger.keep_is_due:
                self._ledger.keep(self._tally, self._seconds)
            if not self._progress.seconds_left:
                self._progress.tell(self._ledger.judged, self._ledger.summary(), self._tally)

    def _room(self) -> int:
        """How many requests may be in flight: one until the service was heard of, so that a refusal is but one."""
        return self.max_concurrency if self.client.tally != self._tally_before else 1

    def _new_work(self) -> Iterator[Work]:
        for batch, in_doubt in self._ledger.new_batches():
            yield Work(batch.targets, in_doubt, batch)

    def _set_aside(self, work: Work, after: float) -> None:
        heapq.heappush(self._aside, (time.monotonic() + after, next(self._order), work))

    def _due_work(self) -> Work | None:
        if self._aside and self._aside[0][0] <= time.monotonic():
            return heapq.heappop(self._aside)[2]
        return None

    def _idle_seconds(self) -> float:
        """How long to wait for something to happen."""
        seconds = self._progress.seconds_left
        if self._room() == 1:
            seconds = min(seconds, 0.2)
        if self._aside and len(self._in_flight) < self.max_concurrency and not self.stop.is_set():
            seconds = min(seconds, max(self._aside[0][0] - time.monotonic(), 0.0))
        return seconds

    def _do(self, work: Work) -> BatchResult:
        """Ask about targets. Runs in a thread of the pool."""
        if self.stop.is_set():
            return BatchResult([], unjudged=work.targets, in_doubt=work.in_doubt)
        if self._manner.preview:
            return self._judge.preview(work.targets, work.in_doubt)
        if work.asked < 2:
            return self._judge.delete(work.targets, work.in_doubt)
        return self._judge.look(work.targets, work.in_doubt)

    def _take_in(self, timeout: float) -> None:
        """Settle what came back, or wait until something does."""
        waiting: set[Future[Any]] = set(self._in_flight)
        if keeping := self._ledger.keeping:
            waiting.add(keeping)
        if not waiting:
            self.stop.wait(timeout)
            return
        done, _ = wait(waiting, timeout=timeout, return_when=FIRST_COMPLETED)
        for future in done & self._in_flight.keys():
            self._settle(self._in_flight.pop(future), future.result())
        if keeping in done:
            self._ledger.wait_until_kept()

    def _settle(self, work: Work, ruling: BatchResult) -> None:
        """Enter what came of asking; set aside what is to be asked about again."""
        verdicts = list(ruling.verdicts)
        # Left open by an error or a stop: for the next try, as exactly as it is known now.
        still_open = dict.fromkeys(ruling.unjudged, ruling.in_doubt)
        aside = Work(ruling.aside, ruling.in_doubt or work.in_doubt, asked=work.asked + 1)
        if aside.targets and aside.asked > len(LOOK_AGAIN_SECONDS):
            reason = f"ignored by the service, and still shown after {sum(LOOK_AGAIN_SECONDS)} seconds"
            verdicts += [TargetResult(target, Outcome.FAILED, reason=reason) for target in aside.targets]
        elif aside.targets:
            still_open |= dict.fromkeys(aside.targets, aside.in_doubt)
            self._set_aside(aside, after=LOOK_AGAIN_SECONDS[work.asked])
        self._ledger.enter(work.batch, verdicts, still_open)
        if self._on_verdict:
            for verdict in verdicts:
                self._on_verdict(verdict)
        if ruling.error and not isinstance(ruling.error, CallAbandoned) and not self._error:
            self._error = ruling.error
            self.stop.set()

    def _finish_what_is_in_flight(self) -> None:
        """Wait, bounded, for requests that are out; what they did belongs into report and state."""
        patience = sum(self.client.timeout) + 5
        end = time.monotonic() + patience
        while self._in_flight and (left := end - time.monotonic()) > 0:
            done, _ = wait(self._in_flight, timeout=left, return_when=FIRST_COMPLETED)
            for future in done:
                self._settle(self._in_flight.pop(future), future.result())
