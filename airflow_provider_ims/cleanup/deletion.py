"""A run: targets -> batches -> requests in flight -> outcomes, counted, reported and kept.

One thread (the caller's) hands out batches and takes in what came of them, so that counts, report and state have
one writer. Requests run in a pool. Batches are made when there is room for one, never all at once.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from airflow_provider_ims.api.client import IMSClient
from airflow_provider_ims.api.errors import CallAbandoned, IMSError
from airflow_provider_ims.cleanup.judge import Judge, Outcome, Ruling, Verdict, WhyKept
from airflow_provider_ims.cleanup.manifest import report_lines
from airflow_provider_ims.cleanup.report import Report
from airflow_provider_ims.cleanup.resume import Keeper, RunState, StateStore
from airflow_provider_ims.cleanup.targets import Batch, Target, Targets, batches, match_key, read_targets
from airflow_provider_ims.exceptions import IMSDeletionError, IMSGuardError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

log = logging.getLogger(__name__)

OutcomePolicy = Literal["fail", "warn", "ignore"]

# Outcomes after which reads may go on to show a target.
LEFT_ALONE = (Outcome.FORBIDDEN, Outcome.FAILED, Outcome.UNKNOWN, Outcome.KEPT)
# A target that is ignored though still shown is looked at again after each of these seconds, 30 in all.
LOOK_AGAIN_SECONDS = (1, 2, 4, 8, 15)
# More set aside than this, and no new batch starts until some are settled: they are kept in the state.
MAX_ASIDE = 1000
PROGRESS_SECONDS = 5.0
# With reads that lag or a wrong region, so many that all are missing are hardly a coincidence.
SUSPICIOUSLY_MANY = 20
MAX_SAMPLES = 100
MAX_SAMPLE_BYTES = 5000
# A done batch that the report tells of weighs so much against one that only the state can tell of.
TOLD_WEIGHT = 1 / 8


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
    :param max_concurrency: requests in flight at most.
    :param report_base: folder under which the report's ``attempt=<n>`` is made; None for no report.
    :param attempt: number of this try.
    :param store: keeps what the next try needs; None to start over each time.
    :param why_kept: for plans, tells why a medium must be left alone by now.
    :param on_verdict: hears what became of each target, one after the other.
    :param stop: once set, no new request starts, and the run ends as soon as those in flight are back.
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
        report_base: ObjectStoragePath | None = None,
        attempt: int = 1,
        store: StateStore | None = None,
        why_kept: WhyKept | None = None,
        on_verdict: Callable[[Verdict], None] | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self.client = client
        self.targets = targets
        self.region = region
        self.delete_physical_files = delete_physical_files
        self.preview = preview
        self.max_concurrency = max_concurrency
        self.stop = stop or threading.Event()
        self._on_verdict = on_verdict
        self._report_base = report_base
        self._attempt = attempt
        self._keeper = Keeper(store)
        self._judge = Judge(
            client,
            kind=targets.kind,
            delete_physical_files=delete_physical_files,
            stop=self.stop,
            why_kept=why_kept,
        )
        self._report: Report | None = None
        self._error: IMSError | None = None
        self._in_flight: dict[Future[Ruling], Work] = {}
        self._aside: list[tuple[float, int, Work]] = []
        self._order = itertools.count()
        self._not_kept = self._being_kept = 0.0
        self._resumed = False
        self._left_alone: set[str] = set()
        self._left_alone_is_known = True

    def execute(self) -> dict[str, Any]:
        """Run to the end.

        :returns: the result, as the operator's documentation lists it.
        :raises IMSGuardError: before the first request, when the report can't be written.
        :raises IMSTransientError: when nothing went through for the whole retry time.
        :raises IMSAPIError: when the service refuses; what was done until then is in report and state.
        """
        self._began = time.monotonic()
        self._tally_before = self.client.tally
        self._announce()
        self._begin()
        self._progress = _Progress(self)
        # Not in this thread: Airflow ends a task whose time is over by an exception out of nowhere in it, and
        # between counting a target and writing its line is no place for one.
        writer = ThreadPoolExecutor(1, thread_name_prefix="ims-run")
        try:
            writer.submit(self._run).result()
        except BaseException:
            self.stop.set()
            raise
        finally:
            writer.shutdown(wait=True)
        if self._error:
            log.error(
                "Ended early: %s. So far: %s; %s still without an outcome. %s",
                self._error,
                self.summary(),
                _in_words(len(self.targets) - self.judged),
                "The next try goes on from here." if self._keeper.keeps else "The next try starts over.",
            )
            raise self._error
        if self.judged != len(self.targets):
            left = _in_words(len(self.targets) - self.judged)
            raise IMSError(f"stopped on request: {self.summary()}; {left} still without an outcome")
        return self.result()

    def deleted(self) -> Iterable[str] | None:
        """Give the targets that reads must stop showing, in all tries: those deleted, and those that were missing.

        None when that is not known: an earlier try left more alone than a state can name, and there is no report.
        """
        if self._state.report:
            return (target.value for target in read_targets(manifest=self._state.report, from_report=True))
        if not self._left_alone_is_known:
            return None
        return (target.value for target in self.targets if target.value not in self._left_alone)

    def _announce(self) -> None:
        where = (
            f"region {self.region}, {self.client.endpoint.host}" if self.region else self.client.endpoint.host
        )
        if not len(self.targets):
            log.warning("Nothing to delete: no media are named. Nothing is sent to %s.", where)
            return
        log.info(
            "%s %s media by %s in %s; their files in the bucket %s.%s",
            "Previewing the deletion of" if self.preview else "Deleting",
            f"{len(self.targets):,}",
            "URL" if self.targets.kind == "input_url" else "media id",
            where,
            "are deleted too" if self.delete_physical_files else "are kept",
            f" {self.targets.duplicates:,} named more than once were dropped."
            if self.targets.duplicates
            else "",
        )

    @property
    def judged(self) -> int:
        """How many targets have an outcome."""
        return sum(self._state.counts.values())

    def result(self) -> dict[str, Any]:
        """Give the result: small whatever the size of the run."""
        state = self._with_tally()
        return {
            "requested": len(self.targets),
            "duplicates": self.targets.duplicates,
            **{outcome.value: state.counts.get(outcome, 0) for outcome in Outcome},
            "inferred": state.inferred,
            "requests": state.requests,
            "retries": state.retries,
            "throttled": state.throttled,
            "preview": self.preview,
            "region": self.region,
            "delete_physical_files": self.delete_physical_files,
            "report": state.report,
            "resumed": self._resumed,
            "seconds": round(state.seconds, 3),
            "samples": state.samples,
            "request_ids": state.request_ids,
        }

    def summary(self) -> str:
        """Say the outcomes so far in words."""
        return _outcomes_in_words(self._state.counts, self._state.inferred, self.preview)

    def _begin(self) -> None:
        """Take up an earlier try's state, or make a new one; keep it before the first request."""
        identity = "|".join(
            str(part)
            for part in (
                self.targets.digest,
                self.region,
                self.client.endpoint.url,
                self.delete_physical_files,
                self.preview,
                self._report_base,
            )
        )
        kept = self._keeper.load(identity)
        if kept:
            self._state = kept
            self._resumed = True
            if kept.in_doubt:  # it was killed, and any of these may have been sent once more
                kept.aside = dict.fromkeys(kept.aside, True)
            if kept.report:
                told = self._read_lines_after(kept)
                self._report = Report.go_on(kept.report)
                self._take_in_told(told, at_once=self._report.takes_lines_at_once)
            named = [value for outcome in LEFT_ALONE for value in kept.samples.get(outcome, [])]
            self._left_alone.update(named)
            self._left_alone_is_known = len(named) == sum(
                kept.counts.get(outcome, 0) for outcome in LEFT_ALONE
            )
            log.info("Going on where an earlier try was cut: %s so far.", self.summary())
        else:
            self._state = RunState(input=identity, in_doubt=0)
            if self._report_base is not None:
                self._report = Report.begin(self._report_base, self._attempt)
                self._state.report = str(self._report.folder)
        self._doubtful = self._state.in_doubt
        # One half may be in flight, the other be done without being kept.
        self._state.in_doubt = max(self._doubtful, 2 * self.max_concurrency)
        self._earlier = (
            self._state.requests,
            self._state.retries,
            self._state.throttled,
            self._state.seconds,
        )
        self._keep()
        self._keeper.wait()

    def _read_lines_after(self, state: RunState) -> set[str]:
        """Count the report's lines that the kept state does not know of yet; give the keys of their targets."""
        assert state.report is not None
        told = set()
        seen = 0
        for part, line in report_lines(state.report, first_part=state.part):
            if part == state.part:
                seen += 1
                if seen <= state.lines:
                    continue
            value = line[self.targets.kind]
            told.add(match_key(value))
            self._count(Outcome(line["outcome"]), value, bool(line.get("inferred")), line.get("request_id"))
        return told

    def _take_in_told(self, told: set[str], *, at_once: bool) -> None:
        """Bring the state up to the lines that were counted: what the next kill leaves must know of them too."""
        state = self._state
        for batch in batches(self.targets):
            if not told:
                return
            settled = {target for target in batch.targets if match_key(target.value) in told}
            if not settled:
                continue
            told.difference_update(match_key(target.value) for target in settled)
            if batch.number in state.done:
                for target in settled:
                    state.aside.pop(target.ordinal, None)
                continue
            state.done.add(batch.number)
            state.aside |= {target.ordinal: True for target in batch.targets if target not in settled}
            # Those that are wholly told are beyond what a state counts as in doubt, if lines are written at once.
            if not at_once or len(settled) < len(batch.targets):
                state.in_doubt = max(state.in_doubt - 1, 0)

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
            self._keep()
            self._keeper.wait()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            self._keeper.close()
            if self._report:
                self._report.close()

    def _work_through(self, pool: ThreadPoolExecutor) -> None:
        new = self._new_work()
        exhausted = False
        self._take_up_aside()
        while True:
            while not self.stop.is_set() and len(self._in_flight) < self._room():
                work = self._due_work()
                if not work and not exhausted and self._may_go_ahead():
                    work = next(new, None)
                    exhausted = work is None
                if not work:
                    break
                self._in_flight[pool.submit(self._do, work)] = work
            if not self._in_flight and (self.stop.is_set() or (exhausted and not self._aside)):
                return
            self._take_in(timeout=self._idle_seconds())
            if self._not_kept >= self.max_concurrency / 2 and not self._keeper.busy:
                self._keep()
            self._progress.tell()

    def _room(self) -> int:
        """How many requests may be in flight: one until the service was heard of, so that a refusal is but one."""
        return self.max_concurrency if self.client.tally != self._tally_before else 1

    def _new_work(self) -> Iterator[Work]:
        """Make the batches that are not done, one when it is asked for."""
        for batch in batches(self.targets):
            if batch.number not in self._state.done:
                in_doubt = self._doubtful > 0
                self._doubtful -= in_doubt
                yield Work(batch.targets, in_doubt, batch)

    def _take_up_aside(self) -> None:
        """Make work of what an earlier try left open."""
        open_ones: dict[bool, list[Target]] = {False: [], True: []}
        if not self._state.aside:
            return
        for target in self.targets:
            if (lost := self._state.aside.get(target.ordinal)) is not None:
                open_ones[lost].append(target)
        for in_doubt, targets in open_ones.items():
            for batch in batches(targets):
                self._set_aside(Work(batch.targets, in_doubt), after=0)

    def _set_aside(self, work: Work, after: float) -> None:
        heapq.heappush(self._aside, (time.monotonic() + after, next(self._order), work))

    def _due_work(self) -> Work | None:
        if self._aside and self._aside[0][0] <= time.monotonic():
            return heapq.heappop(self._aside)[2]
        return None

    def _may_go_ahead(self) -> bool:
        unkept = self._not_kept + (self._being_kept if self._keeper.busy else 0)
        return len(self._state.aside) < MAX_ASIDE and (
            not self._keeper.keeps or unkept < self.max_concurrency
        )

    def _idle_seconds(self) -> float:
        """How long to wait for something to happen."""
        seconds = self._progress.seconds_left
        if self._room() == 1:
            seconds = min(seconds, 0.2)
        if self._aside and len(self._in_flight) < self.max_concurrency and not self.stop.is_set():
            seconds = min(seconds, max(self._aside[0][0] - time.monotonic(), 0.0))
        return seconds

    def _do(self, work: Work) -> Ruling:
        """Ask about targets. Runs in a thread of the pool."""
        if self.stop.is_set():
            return Ruling([], unjudged=work.targets, in_doubt=work.in_doubt)
        if self.preview:
            return self._judge.preview(work.targets, work.in_doubt)
        if work.asked < 2:
            return self._judge.delete(work.targets, work.in_doubt)
        return self._judge.look(work.targets, work.in_doubt)

    def _take_in(self, timeout: float) -> None:
        """Settle what came back, or wait until something does."""
        waiting: set[Future[Any]] = set(self._in_flight)
        if busy := self._keeper.busy:
            waiting.add(busy)
        if not waiting:
            self.stop.wait(timeout)
            return
        done, _ = wait(waiting, timeout=timeout, return_when=FIRST_COMPLETED)
        for future in done & self._in_flight.keys():
            self._settle(self._in_flight.pop(future), future.result())
        if busy in done:
            self._keeper.wait()

    def _settle(self, work: Work, ruling: Ruling) -> None:
        """Count and report verdicts; set aside what is to be asked about again."""
        verdicts = list(ruling.verdicts)
        aside = Work(ruling.aside, ruling.in_doubt or work.in_doubt, asked=work.asked + 1)
        if aside.targets and aside.asked > len(LOOK_AGAIN_SECONDS):
            reason = f"ignored by the service, and still shown after {sum(LOOK_AGAIN_SECONDS)} seconds"
            verdicts += [Verdict(target, Outcome.FAILED, reason=reason) for target in aside.targets]
            aside = Work((), False)
        for verdict in verdicts:
            self._state.aside.pop(verdict.target.ordinal, None)
            self._count(verdict.outcome, verdict.target.value, verdict.inferred, verdict.request_id)
            if self._on_verdict:
                self._on_verdict(verdict)
        if self._report:
            self._report.write(self._line(verdict) for verdict in verdicts)
        if aside.targets:
            for target in aside.targets:
                self._state.aside[target.ordinal] = aside.in_doubt
            self._set_aside(aside, after=LOOK_AGAIN_SECONDS[work.asked])
        # Left open by an error or a stop: for the next try, as exactly as it is known now.
        for target in ruling.unjudged:
            self._state.aside[target.ordinal] = ruling.in_doubt
        if work.batch:
            self._state.done.add(work.batch.number)
            # Where the report tells of the whole batch, the state may lag behind it.
            told = self._report and self._report.takes_lines_at_once and len(verdicts) == len(work.targets)
            self._not_kept += TOLD_WEIGHT if told else 1
        if ruling.error and not isinstance(ruling.error, CallAbandoned) and not self._error:
            self._error = ruling.error
            self.stop.set()

    def _count(self, outcome: Outcome, value: str, inferred: bool, request_id: str | None) -> None:
        state = self._state
        if outcome in LEFT_ALONE:
            self._left_alone.add(value)
        state.counts[outcome] = state.counts.get(outcome, 0) + 1
        state.inferred += inferred
        samples = state.samples.setdefault(outcome.value, [])
        # As the store and XCom spell it: six bytes for a character beyond ASCII.
        if len(samples) < MAX_SAMPLES and len(json.dumps([*samples, value])) <= MAX_SAMPLE_BYTES:
            samples.append(value)
        if request_id and len(state.request_ids) < MAX_SAMPLES and request_id not in state.request_ids[-8:]:
            state.request_ids.append(request_id)

    def _line(self, verdict: Verdict) -> dict[str, Any]:
        line: dict[str, Any] = dict(verdict.target.columns or {self.targets.kind: verdict.target.value})
        if "reason" in line:  # why the plan chose it; the report's own reason is why it is not deleted
            line["planned_because"] = line.pop("reason")
        line |= {
            "outcome": verdict.outcome.value,
            "inferred": verdict.inferred,
            "request_id": verdict.request_id,
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        if verdict.reason:
            line["reason"] = verdict.reason
        if self.preview:
            line["preview"] = True
        return line

    def _with_tally(self) -> RunState:
        tally = self.client.tally - self._tally_before
        requests, retries, throttled, seconds = self._earlier
        self._state.requests = requests + tally.requests
        self._state.retries = retries + tally.retries
        self._state.throttled = throttled + tally.throttled
        self._state.seconds = seconds + time.monotonic() - self._began
        return self._state

    def _keep(self) -> None:
        """Begin to keep the state as it is now."""
        make_durable = self._report.cut() if self._report else lambda: None
        if self._report:
            self._state.part, self._state.lines = self._report.part, self._report.lines
        self._keeper.save(self._with_tally(), make_durable)
        self._being_kept, self._not_kept = self._not_kept, 0

    def _finish_what_is_in_flight(self) -> None:
        """Wait, bounded, for requests that are out; what they did belongs into report and state."""
        patience = sum(self.client.timeout) + 5
        end = time.monotonic() + patience
        while self._in_flight and (left := end - time.monotonic()) > 0:
            done, _ = wait(self._in_flight, timeout=left, return_when=FIRST_COMPLETED)
            for future in done:
                self._settle(self._in_flight.pop(future), future.result())
        if not self._in_flight:  # known exactly now: what an earlier try left and this one did not reach
            self._state.in_doubt = self._doubtful


class _Progress:
    """Says now and then how far a run is."""

    def __init__(self, run: DeletionRun) -> None:
        self._run = run
        self._start = run.judged
        self._began = self._told = time.monotonic()

    @property
    def seconds_left(self) -> float:
        """Until the next line is due."""
        return max(self._told + PROGRESS_SECONDS - time.monotonic(), 0.0)

    def tell(self) -> None:
        """Log a line, if one is due."""
        if self.seconds_left > 0:
            return
        run = self._run
        self._told = time.monotonic()
        total, judged = len(run.targets), run.judged
        rate = (judged - self._start) / (self._told - self._began)
        tally = run.client.tally - run._tally_before
        trouble = [
            f"{count:,} {name}"
            for name, count in (("throttled", tally.throttled), ("answers lost", tally.lost))
            if count
        ]
        log.info(
            "%s of %s done (%d %%), %.0f a second, %s left: %s%s",
            f"{judged:,}",
            f"{total:,}",
            100 * judged // total,
            rate,
            _duration((total - judged) / rate) if rate > 0 else "unknown time",
            run.summary(),
            f" [{', '.join(trouble)} of {tally.requests:,} requests]" if trouble else "",
        )


def check_guards(targets: Targets, *, max_media: int | None = None, digest: str | None = None) -> None:
    """Refuse, before the first request, what must not run.

    :param max_media: more targets than this are not what the author had in mind.
    :param digest: SHA-256 of the manifest as it was approved.
    :raises IMSGuardError: in either case.
    """
    if digest is not None:
        check_digest(targets.manifest_digest, approved=digest)
    if max_media is not None and len(targets) > max_media:
        raise IMSGuardError(
            f"{len(targets):,} media are named, more than max_media={max_media:,}. Nothing was deleted"
        )


def check_digest(found: str | None, *, approved: str) -> None:
    """Refuse another manifest than the one that was approved.

    :raises IMSGuardError: if the two SHA-256 differ.
    """
    if found != approved.strip().lower():
        raise IMSGuardError(
            f"the manifest is not the one that was approved: its SHA-256 is {found}, "
            f"approved was {approved}. Nothing was deleted"
        )


def conclude(
    result: dict[str, Any],
    *,
    host: str | None = None,
    on_forbidden: OutcomePolicy = "fail",
    on_missing: OutcomePolicy = "warn",
) -> None:
    """Judge a finished run by its policies.

    :param host: that was asked, if it is known.
    :raises IMSDeletionError: when there are outcomes that the policies don't accept.
    """
    asked = {"region": result["region"], "host": host}
    where = ", ".join(f"{name} {value}" for name, value in asked.items() if value) or "an unknown host"
    broken = []
    for outcome, policy, meaning in (
        ("failed", "fail", "still there although the service was asked twice to delete them"),
        ("unknown", "fail", "could not be read, so nobody knows"),
        ("forbidden", on_forbidden, "refused by the service, usually for lack of rights on the bucket"),
        ("missing", on_missing, f"were not there before; asked was {where}"),
    ):
        if not (count := result[outcome]) or policy == "ignore":
            continue
        names = ", ".join(result["samples"].get(outcome, [])[:5])
        more = f" and {count - 5:,} more" if count > 5 else ""
        words = f"{count:,} of {result['requested']:,} {outcome} ({meaning}): {names}{more}"
        if policy == "fail":
            broken.append(words)
        else:
            log.warning("%s.", words)
    if result["requested"] >= SUSPICIOUSLY_MANY and result["missing"] == result["requested"]:
        log.warning(
            "None of %s media was found. Is it the right region? Asked was %s.", result["requested"], where
        )
    if result["requested"]:
        outcomes = _outcomes_in_words(result, result["inferred"], result["preview"])
        log.info(
            "All %s have an outcome: %s. %s requests in %s, %s of them retries, %s throttled.%s",
            _in_words(result["requested"]),
            outcomes,
            f"{result['requests']:,}",
            _duration(result["seconds"]),
            f"{result['retries']:,}",
            f"{result['throttled']:,}",
            " Inferred: the answer was lost, and reads show the medium gone." if result["inferred"] else "",
        )
    if broken:
        report = f". Report: {result['report']}" if result["report"] else ""
        raise IMSDeletionError("; ".join(broken) + report, result)


def _outcomes_in_words(counts: Mapping[str, int], inferred: int, preview: bool) -> str:
    parts = [
        f"{counts[outcome]:,} {'would be deleted' if preview and outcome == 'deleted' else outcome.value}"
        for outcome in Outcome
        if counts.get(outcome)
    ]
    return (", ".join(parts) or "nothing done") + (f" ({inferred:,} inferred)" if inferred else "")


def _in_words(number: int) -> str:
    return f"{number:,} target{'' if number == 1 else 's'}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
