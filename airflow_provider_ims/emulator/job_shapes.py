"""How the service shows a job of each kind.

Sources: the pages of the operations beside
https://www.alibabacloud.com/help/en/ims/developer-reference/api-ice-2020-11-09-deletemediainfos, and the models of
the official SDK. ``ActivityResults`` is documented for a sister product only:
https://help.aliyun.com/zh/vod/user-guide/workflow-task-completion
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from airflow_provider_ims.emulator import times
from airflow_provider_ims.emulator.jobs import OUTPUT_FILE, Job, Part
from airflow_provider_ims.emulator.library import Library

Answer = dict[str, Any]


def show_job(job: Job, library: Library, now: float) -> Answer:
    """Return a job as the service shows it: its kind's field, and what is in it."""
    return _SHAPES[job.kind](job, library, now)


def _times(created: float, finished: float | None) -> Answer:
    shown = {"CreateTime": times.to_text(created)}
    return shown if finished is None else {**shown, "FinishTime": times.to_text(finished)}


def _percent(job: Job) -> int:
    return 100 * sum(part.finished is not None for part in job.parts) // max(len(job.parts), 1)


def _errors(thing: Job | Part) -> Answer:
    return (
        {"Code": thing.code, "Message": thing.message or "The content cannot be processed."}
        if thing.code
        else {}
    )


def _file_info(part: Part, url: str, library: Library, media_id: str | None) -> Answer:
    return {
        **({"MediaId": media_id} if media_id else {}),
        "FileName": url.rpartition("/")[2],
        "FileUrl": url,
        "FileType": "transcode_file",
        "FileStatus": "Normal",
        "FileSize": str(len(OUTPUT_FILE)),
        "Region": library.region,
    }


def _transcode_job(job: Job, library: Library, now: float) -> Answer:
    submitted = times.to_text(job.submitted)
    common = {
        "Name": job.shown.get("Name", ""),
        "RequestId": job.request_id,
        "SubmitTime": submitted,
        "CreateTime": submitted,
        "UserData": job.shown.get("UserData", ""),
        "InputGroup": job.shown.get("InputGroup", []),
    }
    sub_jobs = []
    for index, part in enumerate(job.parts):
        sub_job = {
            **common,
            "JobId": part.job_id,
            "ParentJobId": job.job_id,
            "JobIndex": index,
            "Status": job.status_of(part, now),
            "Output": part.shown["Output"],
        }
        if part.finished is not None:
            sub_job["FinishTime"] = times.to_text(part.finished)
        medium = library.shown(part.media_id)
        if medium is not None:
            info = _file_info(part, medium.url, library, medium.media_id)
            sub_job["OutFileMeta"] = {"FileBasicInfo": {**info, "FileSize": str(medium.size)}}
        sub_jobs.append(sub_job)
    shown = {
        **common,
        "ParentJobId": job.job_id,
        "Status": job.status(now),
        "Percent": _percent(job),
        "JobCount": len(job.parts),
        "TriggerSource": "API",
        "OutputGroup": [part.shown for part in job.parts],
        "TranscodeJobList": sub_jobs,
    }
    if job.shown.get("ScheduleConfig"):
        shown["ScheduleConfig"] = job.shown["ScheduleConfig"]
    if job.finished is not None:
        shown["FinishTime"] = times.to_text(job.finished)
    return {"TranscodeParentJob": shown}


def convert_job(job: Job, library: Library, now: float, *, details: bool = True) -> Answer:
    """Return a convert job; without its outputs and progress as the list shows it."""
    shown = {
        "JobId": job.job_id,
        "RequestId": job.request_id,
        "State": job.status(now),
        "Config": job.shown["Config"],
        **{
            name: job.shown[name] for name in ("ClientToken", "PipelineId", "UserData") if job.shown.get(name)
        },
        **_times(job.submitted, job.finished),
        **_errors(job),
    }
    if not details:
        return shown
    groups = []
    for index, group in enumerate(job.shown["Config"].get("OutputGroups") or ()):
        parts = [part for part in job.parts if part.group == index]
        states = [job.status_of(part, now) for part in parts]
        ended = all(part.finished is not None for part in parts)
        bad = next((state for state in ("Failed", "Skipped") if state in states), "Success")
        groups.append(
            {
                "Name": group.get("Name", ""),
                "TaskId": f"{index:08x}{job.job_id[8:]}",
                "Status": bad if ended else "Running",
                **_times(job.submitted, max(part.finished or 0 for part in parts) if ended else None),
                "Outputs": [_convert_output(job, part, library, now) for part in parts],
            }
        )
    return {
        **shown,
        "Percent": _percent(job),
        "OutputGroupDetails": groups,
        "OutputDetails": [
            _convert_output(job, part, library, now) for part in job.parts if part.group is None
        ],
    }


def _convert_output(job: Job, part: Part, library: Library, now: float) -> Answer:
    state = job.status_of(part, now)
    shown = {
        "Name": part.name,
        "TaskId": part.job_id,
        "Status": state,
        **_times(job.submitted, part.finished),
        **(_errors(part) if state == "Failed" else {}),
    }
    if state == "Success":
        media_id = part.media_id if part.joins else None
        file = {"Type": "Media", "Media": media_id, "Url": part.url} if media_id else None
        shown["Result"] = {
            "OutputFile": file or {"Type": "OSS", "Media": part.url},
            "OutFileMeta": {
                "FileBasicInfo": _file_info(part, part.url, library, media_id),
                "VideoStreamInfoList": [],
                "AudioStreamInfoList": [],
            },
        }
    return shown


def _workflow_task(job: Job, library: Library, now: float) -> Answer:
    activities = {
        part.name: {
            "ActivityId": part.name,
            "ActivityInstanceId": part.job_id,
            "Status": job.status_of(part, now),
            "Result": {
                "Status": job.status_of(part, now),
                "JobType": "Transcode",
                "JobId": part.job_id,
                **({"MediaId": part.media_id} if part.joins else {}),
            },
        }
        for part in job.parts
    }
    results = job.shown.get("ActivityResults", json.dumps(activities))
    return {
        "WorkflowTask": {
            "TaskId": job.job_id,
            "Status": job.status(now),
            "TaskInput": job.shown.get("TaskInput", ""),
            "UserData": job.shown.get("UserData", ""),
            "ActivityResults": results if job.finished is not None else "",
            "Workflow": {
                "WorkflowId": job.shown.get("WorkflowId", ""),
                "Name": "workflow",
                "Status": "Active",
                "Type": "Customize",
            },
            **_times(job.submitted, job.finished),
        }
    }


def _producing_job(job: Job, library: Library, now: float) -> Answer:
    (output,) = job.parts
    is_there = output.finished is not None and job.status(now) == "Success"
    shown = {
        "JobId": job.job_id,
        "ProjectId": job.shown.get("ProjectId", ""),
        "MediaId": output.media_id,
        "MediaURL": output.url,
        "Status": job.status(now),
        "Progress": 100 if is_there else 0,
        "Timeline": job.shown.get("Timeline", ""),
        "UserData": job.shown.get("UserData", ""),
        "CreateTime": times.to_text(job.submitted),
        **_errors(output if output.code and output.finished else job),
    }
    if job.finished is not None:
        shown["CompleteTime"] = times.to_text(job.finished)
    return {"MediaProducingJob": shown}


_SHAPES: Mapping[str, Callable[[Job, Library, float], Answer]] = {
    "transcode": _transcode_job,
    "convert": lambda job, library, now: {"Job": convert_job(job, library, now)},
    "workflow": _workflow_task,
    "producing": _producing_job,
}
