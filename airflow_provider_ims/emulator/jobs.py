"""Transcoding jobs: they go on by time, or stand where they were put."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_ims.emulator import times
from airflow_provider_ims.emulator.library import Library, Medium

_FINAL = ("Success", "Fail", "Deleted")
_WAITING_SHARE = 0.2
"""Part of a job's time that it spends in ``Init``."""


@dataclass(slots=True)
class SubJob:
    """One output of a parent job.

    :param status: where it was put; None lets it go on by time.
    :param finished: when it was first seen in a final state, seconds since the epoch.
    """

    output: dict[str, Any]
    process_config: dict[str, Any] | None = None
    job_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    media_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    status: str | None = None
    finished: float | None = None


@dataclass(slots=True)
class ParentJob:
    """What one SubmitTranscodeJob started.

    :param submitted: seconds since the epoch.
    :param seconds: how long a sub-job takes.
    """

    submitted: float
    seconds: float
    inputs: list[dict[str, Any]]
    sub_jobs: list[SubJob]
    name: str = ""
    user_data: str = ""
    request_id: str = ""
    schedule: dict[str, Any] | None = None
    parent_job_id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def status_of(self, sub_job: SubJob, now: float) -> str:
        """Give a sub-job's state at a point in time."""
        if sub_job.status is not None:
            return sub_job.status
        age = now - self.submitted
        if age >= self.seconds:
            return "Success"
        return "Init" if age < self.seconds * _WAITING_SHARE else "Processing"

    def status(self, now: float) -> str:
        """Give the parent's state: ``Success`` once all ended and at least one sub-job succeeded."""
        states = [self.status_of(sub_job, now) for sub_job in self.sub_jobs]
        if all(state in _FINAL for state in states):
            return "Success" if "Success" in states else "Fail"
        return "Init" if all(state == "Init" for state in states) else "Processing"

    def put(self, statuses: list[str]) -> None:
        """Set the states of the sub-jobs; they stay there.

        :raises ValueError: unless there is one state for each sub-job.
        """
        if len(statuses) != len(self.sub_jobs):
            raise ValueError(
                f"the job has {len(self.sub_jobs)} sub-jobs, but {len(statuses)} states were given"
            )
        for sub_job, status in zip(self.sub_jobs, statuses, strict=True):
            sub_job.status = status
            sub_job.finished = None

    def describe(self, library: Library, now: float) -> dict[str, Any]:
        """Give ``TranscodeParentJob`` as the service shows it."""
        ended = [sub_job.finished for sub_job in self.sub_jobs if sub_job.finished is not None]
        finished = len(ended) == len(self.sub_jobs)
        answer = {
            "ParentJobId": self.parent_job_id,
            "Name": self.name,
            "Status": self.status(now),
            "Percent": 100 * len(ended) // len(self.sub_jobs),
            "JobCount": len(self.sub_jobs),
            "RequestId": self.request_id,
            "SubmitTime": times.to_text(self.submitted),
            "CreateTime": times.to_text(self.submitted),
            "TriggerSource": "API",
            "UserData": self.user_data,
            "InputGroup": self.inputs,
            "OutputGroup": [
                {"Output": sub_job.output, "ProcessConfig": sub_job.process_config or {}}
                for sub_job in self.sub_jobs
            ],
            "TranscodeJobList": [
                self._describe_sub_job(index, sub_job, library, now)
                for index, sub_job in enumerate(self.sub_jobs)
            ],
        }
        if self.schedule:
            answer["ScheduleConfig"] = self.schedule
        if finished:
            answer["FinishTime"] = times.to_text(max(ended))
        return answer

    def _describe_sub_job(self, index: int, sub_job: SubJob, library: Library, now: float) -> dict[str, Any]:
        answer = {
            "JobId": sub_job.job_id,
            "ParentJobId": self.parent_job_id,
            "JobIndex": index,
            "Name": self.name,
            "Status": self.status_of(sub_job, now),
            "InputGroup": self.inputs,
            "Output": sub_job.output,
            "SubmitTime": times.to_text(self.submitted),
            "CreateTime": times.to_text(self.submitted),
            "RequestId": self.request_id,
            "UserData": self.user_data,
        }
        if sub_job.finished is not None:
            answer["FinishTime"] = times.to_text(sub_job.finished)
        medium = library.shown(sub_job.media_id)
        if medium is not None:
            answer["OutFileMeta"] = {
                "FileBasicInfo": {
                    "MediaId": medium.media_id,
                    "FileName": medium.file_name,
                    "FileUrl": medium.url,
                    "FileType": "transcode_file",
                    "FileStatus": "Normal",
                    "FileSize": str(medium.size),
                    "Region": library.region,
                }
            }
        return answer


@dataclass(slots=True)
class Jobs:
    """All parent jobs of the account."""

    _jobs: dict[str, ParentJob] = field(default_factory=dict)
    _running: list[ParentJob] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._jobs)

    def submit(self, job: ParentJob) -> None:
        """Take a job."""
        self._jobs[job.parent_job_id] = job
        self._running.append(job)

    def get(self, parent_job_id: str) -> ParentJob | None:
        """Find a job."""
        return self._jobs.get(parent_job_id)

    def resume(self, job: ParentJob) -> None:
        """Look at a job again, whose states were set."""
        if job not in self._running:
            self._running.append(job)

    def settle(self, library: Library, now: float) -> None:
        """Register the outputs of sub-jobs that succeeded since the last time."""
        for job in list(self._running):
            for sub_job in job.sub_jobs:
                state = job.status_of(sub_job, now)
                if sub_job.finished is None and state in _FINAL:
                    sub_job.finished = (
                        min(now, job.submitted + job.seconds) if sub_job.status is None else now
                    )
                    if state == "Success":
                        _register_output(library, sub_job)
            if all(sub_job.finished is not None for sub_job in job.sub_jobs):
                self._running.remove(job)


def output_url(output: dict[str, Any]) -> str:
    """Give the URL an output is written to; ``Media`` of an output of type ``Media`` is an id, not a URL."""
    return str(output.get("OutputUrl") or output.get("Media") or "")


def _register_output(library: Library, sub_job: SubJob) -> None:
    url = output_url(sub_job.output)
    if "://" in url and library.shown(sub_job.media_id) is None:
        library.add(
            Medium(
                sub_job.media_id, url, created=int(sub_job.finished or 0), tags="transcoded", size=1_000_000
            )
        )
