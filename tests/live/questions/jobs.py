"""Jobs: how their states are spelled, what becomes of outputs, and which operations are still there."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from typing import Any

from airflow_provider_ims.api import operations
from airflow_provider_ims.api.errors import IMSAPIError, IMSTransientError
from airflow_provider_ims.api.jobs import _FAILED, _GONE, JOB_KINDS, JobKind, read_job
from tests.live.media import NotTold
from tests.live.question import Answer, Run, question

_ENDED = {word for kind in JOB_KINDS.values() for word in (*kind.succeeded, *kind.parts_end)} | _FAILED


@question(
    "Are the operations still there that read jobs?",
    belief="GetTranscodeJob may have ended, the others are there.",
    where="api/jobs.py, JOB_KINDS",
    if_not="The sensor of that kind of job says that IMS has ended the operation.",
)
def operations_of_jobs(run: Run) -> Answer:
    value = {}
    for about in JOB_KINDS.values():
        reply = run.ask(about.action, **{about.parameter: run.guard.make_up()})
        gone = reply.code.casefold().startswith(_GONE)
        value[about.action] = f"ended: {reply.describe()}" if gone else "there"
    return Answer(
        value,
        all(said == "there" for action, said in value.items() if action != "GetTranscodeJob"),
    )


@question(
    "What is said of a job that does not exist?",
    belief="A refusal, or an answer without a job: either is final at once.",
    where="api/jobs.py, read_job",
    if_not="A sensor with a wrong job id waits until its timeout.",
)
def unknown_jobs(run: Run) -> Answer:
    value, final = {}, True
    for kind, about in JOB_KINDS.items():
        job_id = run.guard.make_up()
        reply = run.ask(about.action, **{about.parameter: job_id})
        value[about.action] = reply.describe() if reply.code else f"no {about.field}"
        try:
            read_job(run.client, kind, job_id)
            final = False
        except IMSTransientError:
            final = False
        except IMSAPIError:
            pass
    return Answer(value, final)


@question(
    "How are the states of a convert job spelled that ends well?",
    belief="Inited, Running, Complete or Success or Finished; outputs end as Success.",
    where="api/jobs.py, JOB_KINDS",
    if_not="IMSMediaConvertJobSensor waits until its timeout for a job that has ended.",
)
def states_of_a_convert_job(run: Run) -> Answer:
    own = run.media.take()[0]
    return _convert(run, own.media_id)


@question(
    "How are the states of a convert job spelled that fails?",
    belief="Error or Failed or Fail, with a code and a message.",
    where="api/jobs.py, _FAILED",
    if_not="IMSMediaConvertJobSensor waits until its timeout for a job that has failed.",
)
def states_of_a_failed_convert_job(run: Run) -> Answer:
    return _convert(run, run.guard.make_up())


def _convert(run: Run, media_id: str) -> Answer:
    _require_jobs(run, "media convert job")
    base = run.media.url("out", "oss")
    config = {
        "JobName": run.media.mark,
        "Inputs": [{"Name": "in", "InputFile": {"Type": "Media", "Media": media_id}}],
        "OutputGroups": [
            {
                "Name": "files",
                "GroupConfig": {"Type": "File", "OutputFileBase": {"Type": "OSS", "Media": base}},
                "Outputs": [{"Name": "one", "OutputFileName": f"{media_id}.mp4", "TemplateId": run.template}],
            }
        ],
    }
    output = run.media.url(f"out/{media_id}.mp4")
    run.media.expect(output)
    reply = run.ask("SubmitMediaConvertJob", Config=json.dumps(config), ClientToken=secrets.token_hex(16))
    if reply.code:
        return Answer(f"not started, {reply.describe()}", None, f"--template was {run.template}.")
    job = reply.body.get("Job") or {}
    job_id = str(job.get("JobId") or reply.body.get("JobId"))
    seen: dict[str, list[str]] = {"submitted": [str(job.get("State"))], "job": [], "group": [], "output": []}
    last: dict[str, Any] = {}
    for last in _watch(run, "media convert job", job_id):
        _note(seen["job"], last.get("State"))
        for group in last.get("OutputGroupDetails") or ():
            _note(seen["group"], group.get("Status"))
            for part in group.get("Outputs") or ():
                _note(seen["output"], part.get("Status"))
    registered = operations.get_media_info(run.client, input_url=output).value is not None
    value = {**seen, "code": last.get("Code") or "", "output_is_registered": registered}
    return Answer(value, _is_understood(run, "media convert job", job_id, last))


@question(
    "How are the states of a producing job spelled?",
    belief="Init, Queuing, Processing, Success or Failed.",
    where="api/jobs.py, JOB_KINDS",
    if_not="IMSMediaProducingJobSensor waits until its timeout for a job that has ended.",
)
def states_of_a_producing_job(run: Run) -> Answer:
    _require_jobs(run, "media producing job")
    own = run.media.take()[0]
    url = run.media.url("produced.mp4")
    run.media.expect(url)
    reply = run.ask(
        "SubmitMediaProducingJob",
        Timeline=json.dumps({"VideoTracks": [{"VideoTrackClips": [{"MediaId": own.media_id}]}]}),
        OutputMediaConfig=json.dumps({"MediaURL": url, "Width": 64, "Height": 64}),
        ClientToken=secrets.token_hex(16),
    )
    if reply.code:
        return Answer(f"not started, {reply.describe()}", None)
    job_id = str(reply.body.get("JobId"))
    states: list[str] = []
    last: dict[str, Any] = {}
    for last in _watch(run, "media producing job", job_id):
        _note(states, last.get("Status"))
    return Answer(
        {"job": states, "code": last.get("Code") or ""},
        _is_understood(run, "media producing job", job_id, last),
    )


@question(
    "How are the states of a workflow task spelled, and what do its activities tell?",
    belief="Init, Processing, Succeed, Failed or Canceled; ActivityResults is JSON in a text.",
    where="api/jobs.py, JOB_KINDS",
    if_not="IMSWorkflowTaskSensor waits until its timeout for a task that has ended, or names no outputs.",
)
def states_of_a_workflow_task(run: Run) -> Answer:
    _require_jobs(run, "workflow task")
    if not run.workflow_id:
        raise NotTold("it needs a workflow of the account's own (--workflow-id)")
    own = run.media.take()[0]
    reply = run.ask(
        "StartWorkflow",
        WorkflowId=run.workflow_id,
        TaskInput=json.dumps({"Type": "Media", "Media": own.media_id}),
    )
    if reply.code:
        return Answer(f"not started, {reply.describe()}", None)
    task_id = str(reply.body.get("TaskId"))
    states: list[str] = []
    last: dict[str, Any] = {}
    for last in _watch(run, "workflow task", task_id):
        _note(states, last.get("Status"))
    value = {"task": states, "ActivityResults": type(last.get("ActivityResults")).__name__}
    return Answer(value, _is_understood(run, "workflow task", task_id, last))


def _require_jobs(run: Run, kind: JobKind) -> None:
    """Raise NotTold unless jobs may be started and one of this kind could be read."""
    if not run.jobs:
        raise NotTold("no jobs were to be started (--no-jobs)")
    about = JOB_KINDS[kind]
    reply = run.ask(about.action, **{about.parameter: run.guard.make_up()})
    if reply.code.casefold().startswith((*_GONE, "forbidden")):
        raise NotTold(f"{about.action} is {reply.describe()}")


def _watch(run: Run, kind: JobKind, job_id: str) -> Iterator[dict[str, Any]]:
    """Give what the service shows of a job, until it says that it has ended."""
    about = JOB_KINDS[kind]
    run.guard.adopt_job(job_id)
    run.media.running.add(job_id)
    end = time.monotonic() + run.job_seconds
    while time.monotonic() < end:
        reply = run.ask(about.action, **{about.parameter: job_id})
        if reply.code:
            raise NotTold(f"{about.action} of a job that was started is {reply.describe()}")
        shown = reply.body.get(about.field) or {}
        yield shown
        state = str(shown.get("State") or shown.get("Status") or "").casefold()
        # By its own word, or, should that be a new one, by the time of its end.
        if state in _ENDED or shown.get("FinishTime") or shown.get("CompleteTime"):
            run.media.running.discard(job_id)
            return
        time.sleep(run.poll_seconds)


def _is_understood(run: Run, kind: JobKind, job_id: str, last: dict[str, Any]) -> bool | None:
    """Whether the provider agrees that the job has ended; None if it had not."""
    if job_id in run.media.running:
        return None
    return read_job(run.client, kind, job_id).is_over or not last


def _note(states: list[str], state: object) -> None:
    if str(state) not in states[-1:]:
        states.append(str(state))
