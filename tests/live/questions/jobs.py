"""Jobs: how their states are spelled, what becomes of outputs, and which operations are still there."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from typing import Any

from airflow_provider_ims.api import operations
from airflow_provider_ims.api.errors import IMSAPIError, IMSTransientError
from airflow_provider_ims.api.fields import parsed
from airflow_provider_ims.api.jobs import _FAILED, _GONE, JOB_KINDS, Job, JobKind, JobPart, read_job
from tests.live.media import LeftOver, NotTold
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
    return _convert(run, own.media_id, [{}])


@question(
    "How are the states of a convert job spelled that fails?",
    belief="Error or Failed or Fail, with a code and a message.",
    where="api/jobs.py, _FAILED",
    if_not="IMSMediaConvertJobSensor waits until its timeout for a job that has failed.",
)
def states_of_a_failed_convert_job(run: Run) -> Answer:
    return _convert(run, run.guard.make_up(), [{}])


@question(
    "What does a convert job say of itself when one of its outputs failed?",
    belief="Either: each output is looked at, so the job has failed, whatever it says.",
    where="api/jobs.py, Job.failures",
    if_not="IMSMediaConvertJobSensor is green, and a source goes, though a rendition is not there.",
)
def states_of_a_half_failed_convert_job(run: Run) -> Answer:
    own = run.media.take()[0]
    # Fails if the source is smaller than the template, as this one of 64 x 64 is.
    fails = {"OverrideParams": json.dumps({"TransConfig": {"IsCheckResoFail": "true"}})}
    answer = _convert(run, own.media_id, [{}, fails])
    if answer.holds and "Fail" not in answer.value["output"][-1]:
        return answer._replace(holds=None, seen=f"No output failed. {answer.seen}")
    return answer


@question(
    "Can an output be written into the very medium that it was made of?",
    belief="It can, and the code finds the medium's id among the outputs.",
    where="api/jobs.py, _convert_output; protect of the operator compares with it",
    if_not="Nothing tells that deleting a source takes its renditions with it.",
)
def output_in_its_own_source(run: Run) -> Answer:
    own = run.media.take()[0]
    answer = _convert(run, own.media_id, [{}], base={"Type": "Media", "Media": own.media_id})
    if answer.holds is None or "done" not in answer.seen:
        return answer._replace(holds=None)
    return answer._replace(holds=answer.value["written_to"] == ["its source"])


def _convert(
    run: Run, media_id: str, outputs: list[dict[str, str]], base: dict[str, str] | None = None
) -> Answer:
    """Convert a medium.

    :param outputs: what each has beside its name and template.
    :param base: where they are written; a folder of the run's folder if it is left out.
    """
    _require_jobs(run, "media convert job")
    named = {f"{media_id}-{number}": output for number, output in enumerate(outputs)}
    if base is None:
        base = {"Type": "OSS", "Media": run.media.url("out", "oss")}
    asked = [
        {"Name": name, "OutputFileName": f"{name}.mp4", "TemplateId": run.template, **output}
        for name, output in named.items()
    ]
    config = {
        "JobName": run.media.mark,
        "Inputs": [{"Name": "in", "InputFile": {"Type": "Media", "Media": media_id}}],
        "OutputGroups": [
            {"Name": "files", "GroupConfig": {"Type": "File", "OutputFileBase": base}, "Outputs": asked}
        ],
    }
    urls = [run.media.url(f"out/{name}.mp4") for name in named]
    for url in urls:
        run.media.expect(url)
    reply = run.ask("SubmitMediaConvertJob", Config=json.dumps(config), ClientToken=secrets.token_hex(16))
    if reply.code:
        return Answer(f"not started, {reply.describe()}", None, f"--template was {run.template}.")
    job = reply.body.get("Job") or {}
    job_id = str(job.get("JobId") or reply.body.get("JobId"))
    seen: dict[str, list[str]] = {"submitted": [str(job.get("State"))], "job": [], "group": [], "output": []}
    last: dict[str, Any] = {}
    for last in _watch(run, "media convert job", job_id):
        _note(seen["job"], last.get("State"))
        groups = last.get("OutputGroupDetails") or []
        parts = [part for group in groups for part in group.get("Outputs") or ()]
        _note(seen["group"], ", ".join(str(group.get("Status")) for group in groups))
        _note(seen["output"], ", ".join(str(part.get("Status")) for part in parts))
    registered = sum(operations.get_media_info(run.client, input_url=url).value is not None for url in urls)
    value = {**seen, "code": last.get("Code") or "none", "outputs_registered": registered}
    answer, understood = _judged(run, "media convert job", job_id, value)
    value["written_to"] = sorted({_place(run, part, media_id) for part in understood.outputs})
    return answer


def _place(run: Run, part: JobPart, source: str) -> str:
    """Return where an output was written, in words; what lies elsewhere can't be cleaned up, and is told."""
    if part.url and not run.guard.owns_url(part.url):
        run.media.left.append(
            LeftOver(f"file {part.url}", "IMS wrote this output of a job outside of the folder")
        )
    if part.media_id:
        return "its source" if part.media_id == source else "another medium"
    return "not told" if not part.url else "the folder" if run.guard.owns_url(part.url) else "elsewhere"


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
    return _judged(run, "media producing job", job_id, {"job": states, "code": last.get("Code") or "none"})[0]


@question(
    "How are the states of a workflow task spelled, and what do its activities tell?",
    belief="Init, Processing, Succeed, Failed or Canceled; ActivityResults is JSON in a text, by activity: with a "
    "Status, and a Result that has a JobId or a MediaId.",
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
    results = last.get("ActivityResults")
    value = {"task": states, "ActivityResults": outline(results)}
    answer, task = _judged(run, "workflow task", task_id, value)
    with_id = [one for one in task.outputs if one.job_id or one.media_id]
    seen = f"{answer.seen} Activities that it reads: {len(task.outputs)}; of them with an id: {len(with_id)}."
    holds = bool(with_id) and len(with_id) == len(task.outputs) if answer.holds and results else answer.holds
    return answer._replace(holds=holds, seen=seen)


def outline(value: Any, depth: int = 6) -> Any:
    """Return the form of a JSON value: its fields, and the types of what is in them."""
    if depth and isinstance(value, dict):
        return {name: outline(item, depth - 1) for name, item in list(value.items())[:20]}
    if depth and isinstance(value, list):
        return [outline(item, depth - 1) for item in value[:1]]
    inner = parsed(value) if isinstance(value, str) else None
    if depth and isinstance(inner, dict | list):
        return {"JSON in a text": outline(inner, depth - 1)}
    return type(value).__name__


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


def _judged(run: Run, kind: JobKind, job_id: str, value: dict[str, Any]) -> tuple[Answer, Job]:
    """Return an answer that says how the code judges the job, and the job as the code reads it.

    Whether the belief holds is None if the job has not ended.
    """
    try:
        job = read_job(run.client, kind, job_id)
    except IMSAPIError as error:
        return Answer(value, False, f"The code can't read it: {error}"), Job(kind, job_id, "")
    if job_id in run.media.running:
        return Answer(value, None, f"It had not ended within {run.job_seconds:.0f} s."), job
    failures = job.failures()
    verdict = f"failed: {'; '.join(failures)}" if failures else "done" if job.is_over else "still running"
    return Answer(value, job.is_over, f"For the code it is {verdict}."), job


def _note(states: list[str], state: object) -> None:
    if str(state) not in states[-1:]:
        states.append(str(state))
