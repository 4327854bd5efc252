"""Jobs of every kind: they go on by time or with each read, or stand where they were put."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from airflow_provider_ims.emulator.library import Library, Medium

_WAITING_SHARE = 0.2
"""Part of a job's time that it spends waiting for its turn."""
OUTPUT_FILE = b"transcoded " * 10_000
"""What a job writes into each file."""
_FAILED = ("fail", "failed", "error")
_FINAL = (
    *_FAILED,
    "success",
    "succeed",
    "complete",
    "finished",
    "skipped",
    "deleted",
    "cancelled",
    "canceled",
)


class Words(NamedTuple):
    """How a kind of job spells the states that it goes through."""

    waiting: str
    running: str
    good: str
    bad: str


class JobKind(NamedTuple):
    """A kind of job.

    :param job: the words for its own state, ``part`` those for its outputs'.
    :param one_is_enough: it ends well if one output did.
    :param registers: outputs that are plain files become media of their own.
    """

    job: Words
    part: Words
    one_is_enough: bool = False
    registers: bool = False


_TRANSCODE = Words("Init", "Processing", "Success", "Fail")
_PRODUCING = Words("Init", "Processing", "Success", "Failed")
JOB_KINDS: Mapping[str, JobKind] = {
    "transcode": JobKind(_TRANSCODE, _TRANSCODE, one_is_enough=True, registers=True),
    "convert": JobKind(
        Words("Inited", "Running", "Complete", "Error"), Words("Init", "Scheduled", "Success", "Failed")
    ),
    "workflow": JobKind(
        Words("Init", "Processing", "Succeed", "Failed"), Words("Init", "Processing", "Succeed", "Failed")
    ),
    "producing": JobKind(_PRODUCING, _PRODUCING, registers=True),
}


def _new_id() -> str:
    return uuid.uuid4().hex


@dataclass(slots=True)
class Part:
    """One output of a job, or one activity of a workflow.

    :param url: where its file is written; "" if it writes none.
    :param media_id: the medium that it becomes, or, with ``joins``, the existing one that it is a stream of.
    :param shown: what its kind shows of it as it was submitted.
    :param group: the index of the group of outputs that it belongs to; None for none.
    :param status: where it was put; None lets it go on.
    :param finished: when it was first seen in a final state, seconds since the epoch.
    """

    url: str = ""
    name: str = ""
    shown: dict[str, Any] = field(default_factory=dict)
    group: int | None = None
    joins: bool = False
    media_id: str = field(default_factory=_new_id)
    job_id: str = field(default_factory=_new_id)
    status: str | None = None
    code: str = ""
    message: str = ""
    finished: float | None = None


@dataclass(slots=True)
class Job:
    """What one submission started.

    :param submitted: seconds since the epoch.
    :param seconds: how long it takes.
    :param polls: or how many reads it takes, whatever the time.
    :param shown: what its kind shows of it as it was submitted.
    :param state: where it was put; None lets it follow from its parts.
    :param was_put: its state, or that of an output, was set.
    :param good: its word for a good end, if another than its kind's; ``bad`` for a bad one.
    :param one_is_enough: it ends well if one output did, whatever its kind.
    """

    kind: str
    submitted: float
    seconds: float
    parts: list[Part]
    polls: int | None = None
    reads: int = 0
    shown: dict[str, Any] = field(default_factory=dict)
    state: str | None = None
    good: str = ""
    bad: str = ""
    one_is_enough: bool = False
    code: str = ""
    message: str = ""
    request_id: str = ""
    job_id: str = field(default_factory=_new_id)
    finished: float | None = None
    was_put: bool = False

    def _share(self, now: float) -> float:
        """Return how much of its work is done, 1 or more when all is."""
        if self.polls is not None:
            return self.reads / self.polls if self.polls else 1
        return (now - self.submitted) / self.seconds if self.seconds else 1

    def status_of(self, part: Part, now: float) -> str:
        """Return a part's state at a point in time."""
        if part.status is not None:
            return part.status
        words = JOB_KINDS[self.kind].part
        share = self._share(now)
        if share >= 1:
            return words.bad if part.code else words.good
        return words.waiting if share < _WAITING_SHARE else words.running

    def status(self, now: float) -> str:
        """Return the job's own state."""
        if self.state is not None:
            return self.state
        kind = JOB_KINDS[self.kind]
        states = [self.status_of(part, now) for part in self.parts]
        if not self.parts:
            share = self._share(now)
            states = [kind.part.good if share >= 1 else kind.part.running]
        if self.code and self._share(now) >= 1:
            return self.bad or kind.job.bad
        if all(state.lower() in _FINAL for state in states):
            well = [state.lower() not in (*_FAILED, "deleted") for state in states]
            ended_well = any(well) if kind.one_is_enough or self.one_is_enough else all(well)
            return (self.good or kind.job.good) if ended_well else (self.bad or kind.job.bad)
        return kind.job.waiting if all(state == kind.part.waiting for state in states) else kind.job.running

    def put(self, statuses: list[str] | None = None, state: str | None = None) -> None:
        """Set the states of the parts, and the job's own; they stay there.

        :raises ValueError: unless there is one state for each part.
        """
        if statuses is not None and len(statuses) != len(self.parts):
            raise ValueError(f"the job has {len(self.parts)} outputs, but {len(statuses)} states were given")
        for part, status in zip(self.parts, statuses or (), strict=False):
            part.status = status
            part.finished = None
        self.state = self.state if state is None else state
        self.was_put = self.was_put or statuses is not None or state is not None
        self.finished = None

    def can_settle(self, now: float) -> bool:
        """Return whether an output can have ended, which is quicker to tell than to look at each."""
        return self.was_put or self._share(now) >= 1

    def settle(self, library: Library, now: float) -> None:
        """Show the outputs that were finished since the last time."""
        ended_at = min(now, self.submitted + self.seconds) if self.polls is None else now
        for part in self.parts:
            state = self.status_of(part, now).lower()
            if part.finished is None and state in _FINAL:
                part.finished = ended_at if part.status is None else now
                if state in ("success", "succeed"):
                    self._show_output(library, part)
        if self.finished is None and self.status(now).lower() in _FINAL:
            self.finished = max([part.finished or 0 for part in self.parts], default=ended_at)

    def _show_output(self, library: Library, part: Part) -> None:
        if "://" not in part.url:
            return
        library.write_file(part.url, OUTPUT_FILE)
        medium = library.shown(part.media_id)
        if part.joins:
            if medium is not None and part.url not in medium.streams:
                medium.streams = (*medium.streams, part.url)
        elif JOB_KINDS[self.kind].registers and medium is None:
            created = int(part.finished or 0)
            library.add(
                Medium(part.media_id, part.url, created=created, tags="transcoded", size=len(OUTPUT_FILE))
            )

    @property
    def is_settled(self) -> bool:
        """Whether nothing more can come of it by itself."""
        return self.finished is not None and all(part.finished is not None for part in self.parts)


@dataclass(slots=True)
class Jobs:
    """All jobs of the account."""

    _jobs: dict[str, Job] = field(default_factory=dict)
    _by_token: dict[tuple[str, str], Job] = field(default_factory=dict)
    _running: list[Job] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._jobs)

    def submit(self, job: Job, token: str = "") -> Job:
        """Take a job; return the one that was submitted with the same token before, if there is one.

        :param token: the request's ``ClientToken``.
        """
        if token and (before := self._by_token.get((job.kind, token))):
            return before
        self._jobs[job.job_id] = job
        self._running.append(job)
        if token:
            self._by_token[job.kind, token] = job
        return job

    def get(self, job_id: str, kind: str | None = None) -> Job | None:
        """Find a job, of one kind or of any."""
        job = self._jobs.get(job_id)
        return job if job and kind in (None, job.kind) else None

    def of_kind(self, kind: str) -> list[Job]:
        """Return all jobs of a kind, oldest first."""
        return [job for job in self._jobs.values() if job.kind == kind]

    def resume(self, job: Job) -> None:
        """Look at a job again, whose states were set."""
        if job not in self._running:
            self._running.append(job)

    def settle(self, library: Library, now: float) -> None:
        """Show what has come of the jobs since the last time."""
        for job in [job for job in self._running if job.can_settle(now)]:
            job.settle(library, now)
            if job.is_settled:
                self._running.remove(job)
