"""The books of a run: what became of each target so far, counted, reported, and kept for the next try.

Knows nothing of requests and threads: one thread tells it what came of a batch, and asks it what is still open. What
is written in which order, and why a kill at any point leaves books that the next try is right with, stands in
:mod:`airflow_provider_ims.deletion.checkpoint`.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_ims.api.client import RequestStats
from airflow_provider_ims.deletion.checkpoint import RunState, StateKeeper, StateStore
from airflow_provider_ims.deletion.policies import outcomes_in_words
from airflow_provider_ims.deletion.resolve import Outcome, TargetResult
from airflow_provider_ims.deletion.targets import Batch, Target, Targets, batches, match_key, read_targets
from airflow_provider_ims.files.manifest import report_lines
from airflow_provider_ims.files.report import Report

if TYPE_CHECKING:
    from airflow_provider_ims.compat import ObjectStoragePath

# Outcomes after which reads may go on to show a target.
LEFT_ALONE = (Outcome.FORBIDDEN, Outcome.FAILED, Outcome.UNKNOWN, Outcome.KEPT)
# More open targets than this, and no new batch starts until some are settled: they are kept in the state.
MAX_OPEN = 1000
MAX_SAMPLES = 100
MAX_SAMPLE_BYTES = 5000
# A done batch that the report tells of weighs so much against one that only the state can tell of.
TOLD_WEIGHT = 1 / 8

log = logging.getLogger(__name__)


class RunConfig(NamedTuple):
    """How the targets of a run are deleted, and where. What was kept of a run in another manner is no use."""

    url: str
    region: str | None
    delete_physical_files: bool
    preview: bool


class Ledger:
    """Keeps the books. :meth:`open` comes first, :meth:`close` last.

    :param targets: of the run.
    :param manner: of the run.
    :param in_flight: requests that may be in flight at once.
    :param report_base: folder under which the report's ``attempt=<n>`` is made; None for no report.
    :param attempt: number of this try.
    :param store: keeps what the next try needs; None to start over each time.
    """

    def __init__(
        self,
        targets: Targets,
        *,
        manner: RunConfig,
        in_flight: int,
        report_base: ObjectStoragePath | None,
        attempt: int,
        store: StateStore | None,
    ) -> None:
        self._targets = targets
        self._manner = manner
        self._in_flight = in_flight
        self._report_base = report_base
        self._attempt = attempt
        self._keeper = StateKeeper(store)
        self._report: Report | None = None
        self._not_kept = self._being_kept = 0.0
        self._left_alone: set[str] = set()
        self._left_alone_is_known = True
        self.resumed = False

    # Beginning, and end

    def open(self) -> None:
        """Take up an earlier try's books, or begin new ones; keep them before the first request.

        :raises IMSGuardError: when the report can't be written.
        """
        identity = "|".join(str(part) for part in (self._targets.digest, *self._manner, self._report_base))
        if kept := self._keeper.load(identity):
            self._go_on(kept)
        else:
            self._state = RunState(input=identity, in_doubt=0)
            if self._report_base is not None:
                self._report = Report.begin(self._report_base, self._attempt)
                self._state.report = str(self._report.folder)
        self._doubtful = self._state.in_doubt
        # One half may be in flight, the other be done without being kept.
        self._state.in_doubt = max(self._doubtful, 2 * self._in_flight)
        state = self._state
        self._earlier = RequestStats(state.requests, state.retries, state.throttled), state.seconds
        self._keep()
        self._keeper.wait()

    def conclude(self, tally: RequestStats, seconds: float, *, all_are_back: bool) -> None:
        """Keep what there is at the end of a try.

        :param tally: of this try's requests; ``seconds`` it has taken.
        :param all_are_back: nothing is in flight any more, so what is open is known exactly.
        """
        if all_are_back:
            self._state.in_doubt = self._doubtful
        self.keep(tally, seconds)
        self._keeper.wait()

    def close(self) -> None:
        """Give back thread and file."""
        self._keeper.close()
        if self._report:
            self._report.close()

    # What is open

    @property
    def judged(self) -> int:
        """How many targets have an outcome."""
        return sum(self._state.counts.values())

    @property
    def left(self) -> int:
        """How many have none."""
        return len(self._targets) - self.judged

    def new_batches(self) -> Iterator[tuple[Batch, bool]]:
        """Make the batches that are not done, one when it is asked for; tell whether it may have been sent before."""
        for batch in batches(self._targets):
            if batch.number not in self._state.done:
                in_doubt = self._doubtful > 0
                self._doubtful -= in_doubt
                yield batch, in_doubt

    def open_targets(self) -> Iterator[tuple[tuple[Target, ...], bool]]:
        """Give what an earlier try left open, and whether an answer about it was lost."""
        if not self._state.aside:
            return
        found: dict[bool, list[Target]] = {False: [], True: []}
        for target in self._targets:
            if (lost := self._state.aside.get(target.ordinal)) is not None:
                found[lost].append(target)
        for in_doubt, targets in found.items():
            for batch in batches(targets):
                yield batch.targets, in_doubt

    @property
    def may_go_ahead(self) -> bool:
        """Whether another batch may start, or the state must catch up first."""
        unkept = self._not_kept + (self._being_kept if self._keeper.busy else 0)
        return len(self._state.aside) < MAX_OPEN and (not self._keeper.keeps or unkept < self._in_flight)

    @property
    def goes_on(self) -> bool:
        """Whether the next try finds these books."""
        return self._keeper.keeps

    # Entries

    def enter(
        self, batch: Batch | None, verdicts: Sequence[TargetResult], still_open: Mapping[Target, bool]
    ) -> None:
        """Count and report verdicts, and take note of what has none yet.

        :param batch: that was asked about for the first time; None for targets that were open before.
        :param still_open: target -> whether an answer about it was lost.
        """
        state = self._state
        for verdict in verdicts:
            state.aside.pop(verdict.target.ordinal, None)
            self._count(verdict.outcome, verdict.target.value, verdict.inferred, verdict.request_id)
        if self._report:
            self._report.write(self._line(verdict) for verdict in verdicts)
        for target, lost in still_open.items():
            state.aside[target.ordinal] = lost
        if batch:
            state.done.add(batch.number)
            # Where the report tells of the whole batch, the state may lag behind it.
            told = self._report and self._report.takes_lines_at_once and len(verdicts) == len(batch.targets)
            self._not_kept += TOLD_WEIGHT if told else 1

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

    def _line(self, verdict: TargetResult) -> dict[str, Any]:
        line: dict[str, Any] = dict(verdict.target.columns or {self._targets.kind: verdict.target.value})
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
        if self._manner.preview:
            line["preview"] = True
        return line

    # Keeping

    @property
    def keeping(self) -> Future[None] | None:
        """The write of the state that is under way."""
        return self._keeper.busy

    @property
    def keep_is_due(self) -> bool:
        """Whether there is enough to keep, and nothing else is being kept."""
        return self._not_kept >= self._in_flight / 2 and not self._keeper.busy

    def keep(self, tally: RequestStats, seconds: float) -> None:
        """Begin to keep the books as they are now.

        :param tally: of this try's requests; ``seconds`` it has taken so far.
        """
        self._take_in_effort(tally, seconds)
        self._keep()

    def wait_until_kept(self) -> None:
        """Wait for the write that is under way.

        :raises Exception: of the store or of the report.
        """
        self._keeper.wait()

    def _keep(self) -> None:
        make_durable = self._report.cut() if self._report else lambda: None
        if self._report:
            self._state.part, self._state.lines = self._report.part, self._report.lines
        self._keeper.save(self._state, make_durable)
        self._being_kept, self._not_kept = self._not_kept, 0

    def _take_in_effort(self, tally: RequestStats, seconds: float) -> None:
        earlier, earlier_seconds = self._earlier
        self._state.requests = earlier.requests + tally.requests
        self._state.retries = earlier.retries + tally.retries
        self._state.throttled = earlier.throttled + tally.throttled
        self._state.seconds = earlier_seconds + seconds

    # Going on

    def _go_on(self, kept: RunState) -> None:
        self._state = kept
        self.resumed = True
        if kept.in_doubt:  # it was killed, and any of these may have been sent once more
            kept.aside = dict.fromkeys(kept.aside, True)
        if kept.report:
            told = self._read_lines_after(kept)
            self._report = Report.go_on(kept.report)
            self._take_in_told(told, at_once=self._report.takes_lines_at_once)
        named = [value for outcome in LEFT_ALONE for value in kept.samples.get(outcome, [])]
        self._left_alone.update(named)
        self._left_alone_is_known = len(named) == sum(kept.counts.get(outcome, 0) for outcome in LEFT_ALONE)
        log.info("Going on where an earlier try was cut: %s so far.", self.summary())

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
            value = line[self._targets.kind]
            told.add(match_key(value))
            self._count(Outcome(line["outcome"]), value, bool(line.get("inferred")), line.get("request_id"))
        return told

    def _take_in_told(self, told: set[str], *, at_once: bool) -> None:
        """Bring the state up to the lines that were counted: what the next kill leaves must know of them too."""
        state = self._state
        for batch in batches(self._targets):
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

    # What they say

    def summary(self) -> str:
        """Say the outcomes so far in words."""
        return outcomes_in_words(self._state.counts, self._state.inferred, preview=self._manner.preview)

    def result(self, tally: RequestStats, seconds: float) -> dict[str, Any]:
        """Sum up all tries; small whatever the size of the run.

        :param tally: of this try's requests; ``seconds`` it has taken.
        """
        self._take_in_effort(tally, seconds)
        state = self._state
        return {
            "requested": len(self._targets),
            "duplicates": self._targets.duplicates,
            **{outcome.value: state.counts.get(outcome, 0) for outcome in Outcome},
            "inferred": state.inferred,
            "requests": state.requests,
            "retries": state.retries,
            "throttled": state.throttled,
            "preview": self._manner.preview,
            "region": self._manner.region,
            "delete_physical_files": self._manner.delete_physical_files,
            "report": state.report,
            "resumed": self.resumed,
            "seconds": round(state.seconds, 3),
            "samples": state.samples,
            "request_ids": state.request_ids,
        }

    def gone(self) -> Iterable[str] | None:
        """Give the targets that reads must stop showing, in all tries: those deleted, and those that were missing.

        None when that is not known: an earlier try left more alone than a state can name, and there is no report.
        """
        if self._state.report:
            return (target.value for target in read_targets(manifest=self._state.report, from_report=True))
        if not self._left_alone_is_known:
            return None
        return (target.value for target in self._targets if target.value not in self._left_alone)
