"""The operations of jobs: start one, read one, list some."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any

from airflow_provider_ims.emulator import parameters
from airflow_provider_ims.emulator.call import Answer, Call
from airflow_provider_ims.emulator.errors import Refusal, invalid, missing
from airflow_provider_ims.emulator.job_shapes import convert_job, show_job
from airflow_provider_ims.emulator.jobs import Job, Part

_PAGE_LIMIT = 100
_DEFAULT_PAGE = 20


def submit_transcode_job(call: Call) -> Answer:
    """Start a transcoding job with a sub-job for each output."""
    inputs = parameters.group(call.params, "InputGroup")
    outputs = parameters.group(call.params, "OutputGroup")
    for given in inputs:
        media = str(given.get("Media", ""))
        if given.get("Type") == "Media" and call.library.shown(media) is None:
            raise Refusal(404, "ResourceNotFound", f"The specified media asset does not exist: {media}")
    parts = []
    for group in outputs:
        output = group.get("Output")
        # `Media` of an output of the type `Media` is an id, not a URL.
        url = str(output.get("OutputUrl") or output.get("Media") or "") if isinstance(output, dict) else ""
        if not url:
            raise invalid("OutputGroup", "each entry needs an Output with a Media or an OutputUrl.")
        parts.append(Part(url, shown={"Output": output, "ProcessConfig": group.get("ProcessConfig") or {}}))
    schedule = call.params.get("ScheduleConfig")
    shown = {
        "InputGroup": inputs,
        "Name": call.params.get("Name", ""),
        "ScheduleConfig": parameters.json_value(schedule, "ScheduleConfig", dict) if schedule else None,
    }
    return _submit(call, "transcode", parts, shown)


def submit_media_convert_job(call: Call) -> Answer:
    """Start a convert job with what its ``Config`` names."""
    config = parameters.json_value(_required(call, "Config"), "Config", dict)
    job = read_convert_config(config, call.library)
    if not job.shown["Config"].get("Inputs") or not job.parts:
        raise invalid("Config", "it needs Inputs, and Outputs or OutputGroups.")
    return _submit(call, "convert", job.parts, job.shown, code=job.code)


def read_convert_config(config: dict[str, Any], library: Any) -> Job:
    """Make a job that is not submitted yet of a ``Config``; one whose input is not there will fail."""
    parts = [
        _convert_output(output, output.get("OutputFile"), None, library)
        for output in _dicts(config, "Outputs")
    ]
    for index, group in enumerate(_dicts(config, "OutputGroups")):
        base = dict((group.get("GroupConfig") or {}).get("OutputFileBase") or {})
        for output in _dicts(group, "Outputs"):
            parts.append(_convert_output(output, base, index, library))
    code = ""
    for given in _dicts(config, "Inputs"):
        file = given.get("InputFile") or {}
        if file.get("Type") == "Media" and library.shown(str(file.get("Media"))) is None:
            code = "InvalidParameter.ResourceNotFound"
    return Job("convert", 0, 0, parts, shown={"Config": config}, code=code)


def _dicts(value: dict[str, Any], name: str) -> list[dict[str, Any]]:
    given = value.get(name) or []
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise invalid("Config", f"{name} must be a list of objects.")
    return given


def _convert_output(output: dict[str, Any], file: Any, group: int | None, library: Any) -> Part:
    file = file if isinstance(file, dict) else {}
    media = str(file.get("Media") or file.get("Url") or "")
    if not media:
        raise invalid(
            "Config", "each output needs an OutputFile, or its group an OutputFileBase, with a Media."
        )
    name = str(output.get("Name") or "")
    code = "InvalidParameter.ResourceContentBad" if _checks_resolution(output) else ""
    file_name = str(output.get("OutputFileName") or f"{name or 'output'}.mp4")
    if file.get("Type") == "Media":
        medium = library.shown(media)
        folder = (medium.url if medium else f"oss://media-team/{media}").rpartition("/")[0]
        return Part(f"{folder}/{file_name}", name, output, group, joins=True, media_id=media, code=code)
    return Part(
        media if group is None else f"{media.rstrip('/')}/{file_name}", name, output, group, code=code
    )


def _checks_resolution(output: dict[str, Any]) -> bool:
    """Whether it is to fail unless the source is as large as the template, which no source of this service is."""
    given = output.get("OverrideParams")
    settings = (
        parameters.json_value(given, "OverrideParams", dict) if isinstance(given, str) and given else {}
    )
    config = settings.get("TransConfig")
    return isinstance(config, dict) and str(config.get("IsCheckResoFail")).lower() == "true"


def start_workflow(call: Call) -> Answer:
    """Start a workflow on a file or a medium."""
    task_input = _required(call, "TaskInput")
    _required(call, "WorkflowId")
    given = parameters.json_value(task_input, "TaskInput", dict)
    if given.get("Type") not in ("OSS", "Media") or not given.get("Media"):
        raise invalid("TaskInput", "it needs a Type, OSS or Media, and a Media.")
    is_media = given["Type"] == "Media"
    part = Part(name="act-transcode", joins=is_media)
    if is_media:
        part.media_id = str(given["Media"])
    shown = {name: call.params[name] for name in ("TaskInput", "WorkflowId") if call.params.get(name)}
    return {"TaskId": _submitted(call, "workflow", [part], shown).job_id}


def submit_media_producing_job(call: Call) -> Answer:
    """Start a producing job; its medium has an id from the beginning."""
    if not any(call.params.get(name) for name in ("Timeline", "TemplateId", "ProjectId")):
        raise missing("Timeline, TemplateId or ProjectId")
    config = parameters.json_value(_required(call, "OutputMediaConfig"), "OutputMediaConfig", dict)
    url = str(config.get("MediaURL") or "")
    if not url:
        raise invalid("OutputMediaConfig", "it needs a MediaURL.")
    shown = {name: call.params[name] for name in ("Timeline", "ProjectId") if call.params.get(name)}
    job = _submitted(call, "producing", [Part(url)], shown)
    return {
        "JobId": job.job_id,
        "MediaId": job.parts[0].media_id,
        "ProjectId": call.params.get("ProjectId", ""),
        "VodMediaId": "",
    }


def list_media_convert_jobs(call: Call) -> Answer:
    """List convert jobs by creation time, a page at a time, without their outputs."""
    size = parameters.whole_number(call.params, "PageSize", default=_DEFAULT_PAGE, low=1, high=_PAGE_LIMIT)
    order = call.params.get("OrderBy") or "CreateTimeDesc"
    if order not in ("CreateTimeDesc", "CreateTimeAsc"):
        raise invalid("OrderBy", f"{order!r} is neither CreateTimeDesc nor CreateTimeAsc.")
    after = parameters.point_in_time(call.params, "StartOfCreateTime")
    until = parameters.point_in_time(call.params, "EndOfCreateTime")
    wanted = [
        job
        for job in call.jobs.of_kind("convert")
        if call.params.get("JobId") in (None, "", job.job_id)
        and call.params.get("Status") in (None, "", job.status(call.now))
        and (after is None or job.submitted >= after)
        and (until is None or job.submitted <= until)
    ]
    if order == "CreateTimeDesc":
        wanted.reverse()
    start = _position(call.params.get("NextPageToken") or "")
    page = wanted[start : start + size]
    answer: Answer = {"Jobs": [convert_job(job, call.library, call.now, details=False) for job in page]}
    if start + size < len(wanted):
        answer["NextPageToken"] = base64.urlsafe_b64encode(str(start + size).encode()).decode()
    return answer


def _position(token: str) -> int:
    try:
        return int(base64.urlsafe_b64decode(token.encode()).decode() or 0)
    except (binascii.Error, ValueError):
        raise invalid("NextPageToken", f"{token!r} was not given out by this service.") from None


def _required(call: Call, name: str) -> str:
    if not call.params.get(name):
        raise missing(name)
    return call.params[name]


def _submitted(call: Call, kind: str, parts: list[Part], shown: dict[str, Any], code: str = "") -> Job:
    for name in ("UserData", "PipelineId", "ClientToken"):
        if call.params.get(name):
            shown[name] = call.params[name]
    job = Job(
        kind,
        submitted=call.now,
        seconds=call.job_seconds,
        parts=parts,
        shown=shown,
        code=code,
        request_id=call.entry.request_id,
    )
    if kind == "convert":
        job.good, job.bad = call.otherwise["job_words"].split()
        job.one_is_enough = call.otherwise["failed_output"] == "passes"
    if code:
        job.put([("Fail" if kind == "transcode" else "Failed")] * len(parts))
    return call.jobs.submit(job, call.params.get("ClientToken", ""))


def _submit(call: Call, kind: str, parts: list[Part], shown: dict[str, Any], code: str = "") -> Answer:
    return show_job(_submitted(call, kind, parts, shown, code), call.library, call.now)


def _read(kind: str, parameter: str) -> Callable[[Call], Answer]:
    def read(call: Call) -> Answer:
        job_id = _required(call, parameter)
        call.entry.targets = [job_id]
        job = call.jobs.get(job_id, kind)
        if job is None and call.otherwise["missing"] == "empty":
            return {}
        if job is None:
            raise Refusal(404, "ResourceNotFound", f"The specified job does not exist: {job_id}")
        job.reads += 1
        job.settle(call.library, call.now)
        return show_job(job, call.library, call.now)

    return read


JOB_OPERATIONS: Mapping[str, Callable[[Call], Answer]] = {
    "GetMediaConvertJob": _read("convert", "JobId"),
    "GetMediaProducingJob": _read("producing", "JobId"),
    "GetTranscodeJob": _read("transcode", "ParentJobId"),
    "GetWorkflowTask": _read("workflow", "TaskId"),
    "ListMediaConvertJobs": list_media_convert_jobs,
    "StartWorkflow": start_workflow,
    "SubmitMediaConvertJob": submit_media_convert_job,
    "SubmitMediaProducingJob": submit_media_producing_job,
    "SubmitTranscodeJob": submit_transcode_job,
}
