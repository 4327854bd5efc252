"""Jobs as the control API takes them."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from airflow_provider_ims.emulator.job_operations import read_convert_config
from airflow_provider_ims.emulator.jobs import JOB_KINDS, Job, Part

if TYPE_CHECKING:
    from airflow_provider_ims.emulator.service import Service

_TEXTS = ("good", "bad", "state", "code", "message", "source", "activity_results")
_OUTPUT_TEXTS = ("url", "name", "media_id", "code", "message")
_OPTIONS = {"kind", "outputs", "statuses", "seconds", "polls", "grouped", *_TEXTS}
_SOURCE = "oss://media-team/masters/input.mp4"


def read_job(given: dict[str, Any], service: Service) -> Job:
    """Make a job that is not submitted yet.

    :raises ValueError: naming what makes no sense.
    """
    kind = given.get("kind", "transcode")
    if kind not in JOB_KINDS or set(given) - _OPTIONS:
        raise ValueError(
            f"a job's kind is one of {', '.join(JOB_KINDS)}; its options are {', '.join(_OPTIONS)}"
        )
    if wrong := [name for name in _TEXTS if not isinstance(given.get(name), str | None)]:
        raise ValueError(f"{wrong[0]!r} must be a text")
    seconds = given.get("seconds", service.settings.job_seconds)
    polls = given.get("polls")
    if not isinstance(seconds, int | float) or not isinstance(polls, int | None):
        raise ValueError("'seconds' must be a number, and 'polls' a whole one")
    statuses = given.get("statuses")
    if statuses is not None and not (
        isinstance(statuses, list) and all(isinstance(status, str) for status in statuses)
    ):
        raise ValueError(f"'statuses' must be a list of texts, not {statuses!r}")
    outputs = _outputs(given, 1 if statuses is None else len(statuses))
    source = given.get("source") or _SOURCE
    file = {"Type": "OSS" if "://" in source else "Media", "Media": source}
    if kind == "convert":
        job = read_convert_config(_config(outputs, file, bool(given.get("grouped", True))), service.library)
        for part, output in zip(job.parts, outputs, strict=True):
            part.url = output.get("url") or part.url
    else:
        job = Job(kind, 0, 0, [_part(number, output) for number, output in enumerate(outputs)])
        job.shown = {"InputGroup": [file], "TaskInput": json.dumps(file)}
    for part, output in zip(job.parts, outputs, strict=True):
        part.code, part.message = output.get("code", ""), output.get("message", "")
    job.submitted, job.seconds, job.polls = time.time(), seconds, polls
    job.good, job.bad = given.get("good", ""), given.get("bad", "")
    job.code, job.message = given.get("code", ""), given.get("message", "")
    if "activity_results" in given:
        job.shown["ActivityResults"] = given["activity_results"]
    job.put(statuses, given.get("state"))
    return job


def _outputs(given: dict[str, Any], count: int) -> list[dict[str, str]]:
    urls = [f"oss://media-team/transcoded/{index}.mp4" for index in range(count)]
    outputs = given.get("outputs", urls)
    if not isinstance(outputs, list) or not outputs:
        raise ValueError("a job needs at least one output")
    read = [{"url": output} if isinstance(output, str) else output for output in outputs]
    for output in read:
        texts = isinstance(output, dict) and all(isinstance(value, str) for value in output.values())
        if not texts or set(output) - set(_OUTPUT_TEXTS):
            raise ValueError(
                f"an output is a URL or has texts for {', '.join(_OUTPUT_TEXTS)}, not {output!r}"
            )
    return read


def _part(number: int, output: dict[str, str]) -> Part:
    part = Part(output.get("url", ""), output.get("name") or f"act-{number}", joins="media_id" in output)
    part.media_id = output.get("media_id", part.media_id)
    part.shown = {"Output": {"Type": "OSS", "Media": part.url}, "ProcessConfig": {}}
    return part


def _config(outputs: list[dict[str, str]], source: dict[str, str], grouped: bool) -> dict[str, Any]:
    """Write the ``Config`` that such a job was submitted with."""
    inputs = [{"Name": "in", "InputFile": source}]
    named = [
        {**output, "name": output.get("name") or f"output-{index}"} for index, output in enumerate(outputs)
    ]

    def file(output: dict[str, str]) -> dict[str, str]:
        if "media_id" in output:
            return {"Type": "Media", "Media": output["media_id"]}
        return {"Type": "OSS", "Media": output.get("url") or "oss://media-team/converted"}

    if not grouped:
        return {
            "Inputs": inputs,
            "Outputs": [{"Name": output["name"], "OutputFile": file(output)} for output in named],
        }
    groups = []
    for output in named:
        base = file(output)
        folder, _, name = base["Media"].rpartition("/")
        if base["Type"] == "OSS":
            base["Media"] = folder
        groups.append(
            {
                "Name": f"group-{output['name']}",
                "GroupConfig": {"Type": "File", "OutputFileBase": base},
                "Outputs": [{"Name": output["name"], "OutputFileName": name}],
            }
        )
    return {"Inputs": inputs, "OutputGroups": groups}
