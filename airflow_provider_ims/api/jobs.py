"""IMS jobs, typed: convert jobs, workflow tasks, producing jobs and the transcoding jobs of before.

A kind of job is a reader, which makes a :class:`Job` of what the service shows, and a judgement: the words for a good
and a bad end, and whether each part must have ended well too. Sources disagree on the words' spelling, so every
spelling is taken, in any case; a word that is not known counts as running.

Answers are read as those about media are: leniently where that can't hide anything (absent or null lists, unknown
fields, broken JSON in a text that only informs) and strictly where it could. Signed URLs are dropped here.

Sources: https://help.aliyun.com/zh/ims/developer-reference/api-ice-2020-11-09-getmediaconvertjob,
https://www.alibabacloud.com/help/en/ims/developer-reference/api-ice-2020-11-09-getworkflowtask, the models of the
official SDK 6.20.2 (``GetMediaProducingJobResponseBody``), and
https://www.alibabacloud.com/help/en/ims/developer-reference/api-ice-2020-11-09-struct-mediaconvertoutputgroupdetail
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from airflow_provider_ims.api.errors import IMSAPIError
from airflow_provider_ims.api.fields import (
    check_nothing_else,
    mapping,
    number,
    objects,
    parsed,
    text,
    unsigned,
)
from airflow_provider_ims.api.identifiers import check_media_id, show
from airflow_provider_ims.api.sanitize import MAX_ID, sanitize

if TYPE_CHECKING:
    from airflow_provider_ims.api.client import IMSClient

JobKind = Literal["media convert job", "workflow task", "media producing job", "transcoding job"]

# What a gateway answers about an operation that is no longer there, or never was in this region.
_GONE = ("invalidaction", "invalidapi")
_FAILED = frozenset({"error", "failed", "fail", "cancelled", "canceled", "deleted"})


@dataclass(frozen=True, slots=True)
class JobFile:
    """What a job reads: a medium, or a file by its URL, without a signature."""

    media_id: str | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class JobPart:
    """An output of a job, a group of outputs, a sub-job, or an activity of a workflow.

    :param name: what the service calls it.
    :param state: as the service spells it; "" when it shows none.
    :param job_id: the id of a part that is a job itself.
    :param media_id: the medium that it made, or was written into.
    :param url: where its file lies, without a signature.
    :param code: why it failed, as the service's code; ``message`` in its words.
    """

    name: str
    state: str = ""
    job_id: str | None = None
    media_id: str | None = None
    url: str | None = None
    code: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A job of any kind, as the service shows it.

    :param kind: such as ``media convert job``.
    :param state: as the service spells it; "" when it shows none.
    :param inputs: what it reads.
    :param outputs: what it makes; the sub-jobs of a transcoding job, the activities of a workflow task.
    :param groups: groups of outputs, which have a state of their own.
    :param expected: how many outputs there should be; None when the service does not say.
    """

    kind: JobKind
    job_id: str
    state: str
    inputs: tuple[JobFile, ...] = ()
    outputs: tuple[JobPart, ...] = ()
    groups: tuple[JobPart, ...] = ()
    expected: int | None = None
    code: str | None = None
    message: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing is to be waited for any more: it has ended, well or badly, or an output has failed."""
        return bool(self._failed()) or self._has_ended_well()

    def failures(self, *, accept_skipped: bool = False) -> list[str]:
        """Return what failed, each with its code and message; empty as long as the job runs, or if all is well.

        :param accept_skipped: whether an output that was skipped, of which no file is promised, is well.
        """
        failed = self._failed()
        if self._has_ended_well() and JOB_KINDS[self.kind].parts_end:
            if not self.outputs:
                failed.append("it shows no output")
            if not accept_skipped:
                failed += [_describe(part) for part in self._parts if _is(part.state, "skipped")]
        return failed

    def describe(self) -> str:
        """Return its state, and the states of its outputs, counted."""
        counts = Counter(part.state or "unknown" for part in self.outputs)
        outputs = ", ".join(f"{number} {state}" for state, number in counts.items())
        return sanitize((self.state or "unknown") + (f"; its outputs: {outputs}" if outputs else ""))

    @property
    def _parts(self) -> tuple[JobPart, ...]:
        return (*self.groups, *self.outputs)

    def _failed(self) -> list[str]:
        failed = [_describe(part) for part in self._parts if _is(part.state, *_FAILED)]
        if not _is(self.state, *_FAILED):
            return failed if JOB_KINDS[self.kind].parts_end else []
        if not failed or self.code or self.message:
            failed.insert(0, _describe(JobPart("it", self.state, code=self.code, message=self.message)))
        return failed

    def _has_ended_well(self) -> bool:
        kind = JOB_KINDS[self.kind]
        if kind.succeeded and not _is(self.state, *kind.succeeded):
            return False
        if not kind.parts_end:
            return True
        if not self.outputs:
            return bool(kind.succeeded)
        return len(self.outputs) >= (self.expected or 0) and all(
            _is(part.state, *kind.parts_end) for part in self._parts
        )


class _Kind(NamedTuple):
    """How one kind of job is asked for, read and judged.

    :param parameter: what its id is called on the wire.
    :param field: where the answer shows it.
    :param instead: what to do when IMS has ended the operation.
    :param succeeded: the words for a good end; empty if a job's own state says too little.
    :param parts_end: the words for an output that has ended without a failure; empty if outputs only inform.
    """

    action: str
    parameter: str
    field: str
    read: Callable[[dict[str, Any], str], Job]
    succeeded: tuple[str, ...]
    parts_end: tuple[str, ...]
    instead: str = "its region may not offer it, or a newer version of this provider knows what replaces it"


def check_job_id(value: object, kind: JobKind, source: str) -> str:
    """Return the id without surrounding blanks.

    :param source: names the argument in the message.
    :raises ValueError: when it can't be an id: 1 to 128 letters, digits, ``_``, ``-`` and ``.``.
    """
    try:
        return check_media_id(value, source)
    except ValueError:
        raise ValueError(f"{source} is {show(value)}, which names no {kind}") from None


def read_job(client: IMSClient, kind: JobKind, job_id: str, *, stop: threading.Event | None = None) -> Job:
    """Read one job.

    :raises IMSAPIError: also when there is no such job, or IMS has ended the operation that shows it.
    :raises ValueError: when it can't be an id.
    """
    about = JOB_KINDS[kind]
    job_id = check_job_id(job_id, kind, about.parameter)
    try:
        answer = client.call(
            about.action, {about.parameter: job_id}, lambda body: _shown(body, about, job_id), stop=stop
        )
    except IMSAPIError as error:
        if not error.code.casefold().startswith(_GONE):
            raise
        raise IMSAPIError(
            f"IMS has ended this operation, so the {kind} {job_id} can't be waited for; {about.instead}",
            code=error.code,
            request_id=error.request_id,
            http_status=error.http_status,
            action=error.action,
        ) from error
    if answer.value is None:
        raise IMSAPIError(
            f"it shows no {kind} {job_id} in this account and region",
            code="JobNotFound",
            request_id=answer.request_id,
            http_status=200,
            action=about.action,
        )
    return answer.value


def _shown(body: dict[str, Any], kind: _Kind, job_id: str) -> Job | None:
    """Read the job out of an answer; None when it shows none, which is how a job that is not there may be told."""
    shown = body.get(kind.field)
    if shown is None or shown == {}:
        check_nothing_else(body)
        return None
    if not isinstance(shown, dict):
        raise ValueError(f"its {kind.field} is no object")
    if (text(shown.get(kind.parameter)) or "").casefold() != job_id.casefold():
        raise ValueError(f"its {kind.field} is another than was asked for")
    return kind.read(shown, job_id)


def _convert_job(shown: dict[str, Any], job_id: str) -> Job:
    # An object, or the JSON text that it was submitted as.
    config = mapping(parsed(shown.get("Config")))
    outputs, missing = _with_request(objects(shown, "OutputDetails"), objects(config, "Outputs"))
    groups, missing_groups = _with_request(
        objects(shown, "OutputGroupDetails"), objects(config, "OutputGroups")
    )
    made = [_convert_output(output, mapping(asked.get("OutputFile"))) for output, asked in outputs]
    for group, asked in groups:
        # A group may be written into a medium without its outputs saying so.
        base = mapping(mapping(asked.get("GroupConfig")).get("OutputFileBase"))
        made += [_convert_output(output, base) for output in objects(group, "Outputs")]
        # One that was skipped may show none of its outputs.
        if not _is(text(group.get("Status")) or "", "skipped"):
            missing += objects(asked, "Outputs")[len(objects(group, "Outputs")) :]
    for asked in missing_groups:
        missing += objects(asked, "Outputs")
    return Job(
        "media convert job",
        job_id,
        text(shown.get("State")) or "",
        inputs=tuple(_file(mapping(item.get("InputFile"))) for item in objects(config, "Inputs")),
        outputs=tuple(made),
        groups=tuple(_part(group) for group, _ in groups),
        expected=len(made) + len(missing),
        code=text(shown.get("Code")),
        message=text(shown.get("Message")),
    )


def _with_request(
    shown: list[dict[str, Any]], asked: list[dict[str, Any]]
) -> tuple[list[tuple[dict[str, Any], dict[str, Any]]], list[dict[str, Any]]]:
    """Pair what is shown with what was asked for; return the pairs, and what was asked for and is not shown.

    A name is optional and may be given twice: of those of one name the next is taken, else the next that is left.
    """
    left = dict(enumerate(asked))
    by_name: defaultdict[str | None, deque[int]] = defaultdict(deque)
    for position, one in left.items():
        by_name[text(one.get("Name"))].append(position)
    found = []
    for item in shown:
        name = text(item.get("Name"))
        found.append(left.pop(by_name[name].popleft()) if name and by_name[name] else None)
    others = iter(left.values())
    pairs = [(item, next(others, {}) if one is None else one) for item, one in zip(shown, found, strict=True)]
    return pairs, list(others)


def _convert_output(item: dict[str, Any], asked: dict[str, Any]) -> JobPart:
    """Read an output; ``asked``: the file, or the folder, that it was to be written to."""
    result = mapping(item.get("Result"))
    file = mapping(result.get("OutputFile"))
    shown = mapping(mapping(result.get("OutFileMeta")).get("FileBasicInfo"))
    media_id, url = _file_of(file, "Url")
    into, _ = _file_of(asked, "Url")
    return _part(
        item,
        media_id=media_id or into or text(shown.get("MediaId")),
        url=url or unsigned(shown.get("FileUrl")),
    )


def _workflow_task(shown: dict[str, Any], job_id: str) -> Job:
    return Job(
        "workflow task",
        job_id,
        text(shown.get("Status")) or "",
        inputs=tuple(_file(item) for item in (parsed(shown.get("TaskInput")),) if isinstance(item, dict)),
        outputs=_activities(parsed(shown.get("ActivityResults"))),
    )


def _activities(results: Any) -> tuple[JobPart, ...]:
    """Read what the activities of a workflow tell; how IMS writes it is not documented, so what can be is taken.

    Source, of a sister product's event: https://help.aliyun.com/zh/vod/user-guide/workflow-task-completion
    """
    if isinstance(results, list):
        results = {str(number): item for number, item in enumerate(results)}
    activities = []
    for key, value in mapping(results).items():
        activity = mapping(parsed(value))
        result = mapping(parsed(activity.get("Result")))
        if not activity:
            continue
        activities.append(
            JobPart(
                _word(activity.get("ActivityId")) or _word(key),
                _word(activity.get("Status")) or _word(result.get("Status")),
                job_id=text(result.get("JobId")),
                media_id=text(result.get("MediaId")),
            )
        )
    return tuple(activities)


def _producing_job(shown: dict[str, Any], job_id: str) -> Job:
    media_id = text(shown.get("MediaId")) or text(shown.get("VodMediaId"))
    url = unsigned(shown.get("MediaURL"))
    return Job(
        "media producing job",
        job_id,
        text(shown.get("Status")) or "",
        outputs=(JobPart("output", media_id=media_id, url=url),) if media_id or url else (),
        code=text(shown.get("Code")),
        message=text(shown.get("Message")),
    )


def _transcode_job(shown: dict[str, Any], job_id: str) -> Job:
    return Job(
        "transcoding job",
        job_id,
        text(shown.get("Status")) or "",
        inputs=tuple(_file(item) for item in objects(shown, "InputGroup")),
        outputs=tuple(_sub_job(item) for item in objects(shown, "TranscodeJobList")),
        expected=number(shown.get("JobCount")),
    )


def _sub_job(item: dict[str, Any]) -> JobPart:
    shown = mapping(mapping(item.get("OutFileMeta")).get("FileBasicInfo"))
    media_id, url = _file_of(mapping(item.get("Output")), "OutputUrl")
    return _part(
        item,
        job_id=text(item.get("JobId")),
        media_id=text(shown.get("MediaId")) or media_id,
        url=url or unsigned(shown.get("FileUrl")),
    )


# A parent's own Success may mean that one of its sub-jobs succeeded, so these alone count.
JOB_KINDS: Mapping[JobKind, _Kind] = {
    "media convert job": _Kind(
        "GetMediaConvertJob",
        "JobId",
        "Job",
        _convert_job,
        ("complete", "success", "finished"),
        ("success", "skipped"),
    ),
    "workflow task": _Kind("GetWorkflowTask", "TaskId", "WorkflowTask", _workflow_task, ("succeed",), ()),
    "media producing job": _Kind(
        "GetMediaProducingJob", "JobId", "MediaProducingJob", _producing_job, ("success",), ()
    ),
    "transcoding job": _Kind(
        "GetTranscodeJob",
        "ParentJobId",
        "TranscodeParentJob",
        _transcode_job,
        (),
        ("success",),
        instead="start jobs with SubmitMediaConvertJob and wait for them with IMSMediaConvertJobSensor",
    ),
}


def _part(item: dict[str, Any], **fields: str | None) -> JobPart:
    return JobPart(
        _word(item.get("Name")) or fields.get("job_id") or "",
        _word(item.get("Status")),
        code=text(item.get("Code")),
        message=text(item.get("Message")),
        **fields,
    )


def _word(value: Any) -> str:
    """Return a name or a state, fit to be repeated in XCom; "" for none."""
    return sanitize(text(value) or "", limit=MAX_ID)


def _describe(part: JobPart) -> str:
    name = part.job_id or part.name
    said = ", ".join(filter(None, (part.code, part.message)))
    return sanitize(f"{name or 'an output without a name'} is {part.state}" + (f" ({said})" if said else ""))


def _is(state: str, *words: str) -> bool:
    return state.casefold() in words


def _file(item: dict[str, Any]) -> JobFile:
    return JobFile(*_file_of(item, "Url"))


def _file_of(item: dict[str, Any], url_field: str) -> tuple[str | None, str | None]:
    """Read ``Type`` and ``Media`` as an id and a URL.

    ``Media`` is an id for the type ``Media`` and a URL for ``OSS``; whatever the type says, a URL is never an id: it
    may be signed.
    """
    media, url = text(item.get("Media")), unsigned(item.get(url_field))
    if media is None:
        return None, url
    if "://" in media or (text(item.get("Type")) or "").casefold() == "oss":
        return None, url or unsigned(media)
    return media, url
