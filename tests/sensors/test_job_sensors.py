"""Sensors of jobs: every kind and spelling, good ends and bad, with the same result in every mode."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout, AirflowSkipException
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_ims.api.jobs import Job, JobFile, JobPart
from airflow_provider_ims.emulator import Emulator
from airflow_provider_ims.exceptions import IMSAPIError, IMSJobFailedError
from airflow_provider_ims.hooks.ims import IMSHook
from airflow_provider_ims.sensors import ims as sensors
from tests.sensors.modes import TaskInstance, deferral, finish, in_every_mode, later

# How each kind is seeded, the sensor that waits for it, the argument that is its id, and the operation that reads it.
KINDS = {
    "convert": ("IMSMediaConvertJobSensor", "job_id", "JobId", "GetMediaConvertJob"),
    "workflow": ("IMSWorkflowTaskSensor", "workflow_task_id", "TaskId", "GetWorkflowTask"),
    "producing": ("IMSMediaProducingJobSensor", "job_id", "JobId", "GetMediaProducingJob"),
    "transcode": ("IMSTranscodeJobSensor", "parent_job_id", "ParentJobId", "GetTranscodeJob"),
}
in_every_kind = pytest.mark.parametrize("kind", KINDS)
MASTER = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def start(ims_emulator: Emulator) -> Callable[..., str]:
    """Starts a job in the emulator; gives its id."""

    def start(kind: str, **fields: Any) -> str:
        return str(ims_emulator.add_job(kind=kind, **fields)[KINDS[kind][2]])

    return start


def done(kind: str, job_id: Any, **kwargs: Any) -> Any:
    name, argument, _, _ = KINDS[kind]
    made = {"task_id": "done", "poke_interval": 1, "timeout": 20, argument: job_id, **kwargs}
    return getattr(sensors, name)(**made)


@in_every_mode
@in_every_kind
def test_it_is_done_when_all_is(
    ims_emulator: Emulator, start: Callable[..., str], kind: str, mode: dict[str, Any]
) -> None:
    outputs = [
        {"url": f"oss://b/{number}.mp4?Signature=x&security-token=y", "name": f"out-{number}"}
        for number in range(1 if kind == "producing" else 2)
    ]
    job_id = start(kind, outputs=outputs, polls=3, source=MASTER)
    result = finish(done(kind, job_id, **mode))
    assert result.pop("seconds") > 0.5
    assert result.pop(KINDS[kind][1]) == job_id
    assert "?" not in json.dumps(result)
    source = [{"media_id": MASTER, "url": None}]
    urls = ["oss://b/0.mp4", "oss://b/1.mp4"]
    if kind == "convert":
        named = [{"name": f"out-{number}", "media_id": None, "url": url} for number, url in enumerate(urls)]
        assert result == {"inputs": source, "outputs": named}
    elif kind == "transcode":
        assert [output.pop("url") for output in result["outputs"]] == urls
        assert all(output["media_id"] and output["job_id"] for output in result["outputs"])
        assert result["inputs"] == source
    elif kind == "producing":
        assert result == {"media_id": ims_emulator.media_ids()[0], "url": "oss://b/0.mp4"}
    else:
        assert result["inputs"] == source
        assert [one["name"] for one in result["activities"]] == ["out-0", "out-1"]
        assert all(one["job_id"] and one["state"] == "Succeed" for one in result["activities"])


@in_every_mode
@in_every_kind
def test_a_bad_end_names_what_failed_and_why(
    ims_emulator: Emulator, start: Callable[..., str], kind: str, mode: dict[str, Any]
) -> None:
    why = {"code": "InvalidParameter.ResourceContentBad", "message": "The resource is bad."}
    job_id = start(kind, outputs=[{"url": "oss://b/1.mp4", "name": "hd", **why}], polls=2, **why)
    with pytest.raises(IMSJobFailedError, match=f"job {job_id}|task {job_id}") as caught:
        finish(done(kind, job_id, **mode))
    assert "fail" in str(caught.value).lower() or "error" in str(caught.value).lower()
    if kind in ("convert", "producing"):
        assert "InvalidParameter.ResourceContentBad, The resource is bad." in str(caught.value)
    with pytest.raises(AirflowSkipException):
        finish(done(kind, job_id, soft_fail=True, **mode))


@pytest.mark.parametrize("good", ["Complete", "Success", "Finished", "COMPLETE", "success", "fInIsHeD"])
@pytest.mark.parametrize("grouped", [True, False])
def test_each_spelling_of_a_good_end(start: Callable[..., str], good: str, grouped: bool) -> None:
    job_id = start(
        "convert", outputs=["oss://b/1.mp4", "oss://b/2.mp4"], good=good, seconds=0, grouped=grouped
    )
    assert len(finish(done("convert", job_id))["outputs"]) == 2


@pytest.mark.parametrize("bad", ["Error", "Failed", "Fail", "Cancelled", "Canceled", "ERROR", "failed"])
@pytest.mark.parametrize("kind", ["convert", "workflow", "producing"])
def test_each_spelling_of_a_bad_end(start: Callable[..., str], kind: str, bad: str) -> None:
    job_id = start(kind, state=bad)
    with pytest.raises(IMSJobFailedError, match=f"{job_id} failed: it is {bad}. Its state is {bad}"):
        finish(done(kind, job_id))


@in_every_mode
@pytest.mark.parametrize(
    ("kind", "state"),
    [("convert", "Suspended"), ("workflow", "Complete"), ("producing", "Finished"), ("convert", "")],
)
def test_a_state_that_nobody_knows_counts_as_running(
    start: Callable[..., str], kind: str, state: str, mode: dict[str, Any]
) -> None:
    job_id = start(kind, state=state)
    with pytest.raises(AirflowSensorTimeout) as caught:
        finish(done(kind, job_id, timeout=2, **mode))
    if mode.get("deferrable"):  # in the other modes it is Airflow that says so
        assert f"{job_id}' was still pending at the last look" in str(caught.value)


@in_every_mode
@pytest.mark.parametrize("statuses", [["Success", "Failed"], ["Failed", "Scheduled"]])
def test_an_output_that_failed_fails_the_whole(
    start: Callable[..., str], statuses: list[str], mode: dict[str, Any]
) -> None:
    """Whatever the job says of itself, and as soon as it is seen."""
    outputs = [{"url": f"oss://b/{name}.mp4", "name": name} for name in ("hd", "sd")]
    state = "Complete" if "Success" in statuses else "Running"
    job_id = start("convert", outputs=outputs, statuses=statuses, state=state)
    name = "sd" if "Success" in statuses else "hd"
    with pytest.raises(IMSJobFailedError, match=f"{name} is Failed"):
        finish(done("convert", job_id, **mode))


@in_every_mode
def test_an_output_that_was_skipped_fails_it_unless_accepted(
    start: Callable[..., str], mode: dict[str, Any]
) -> None:
    outputs = [{"url": f"oss://b/{name}.mp4", "name": name} for name in ("hd", "sd")]
    job_id = start("convert", outputs=outputs, statuses=["Success", "Skipped"], state="Complete")
    with pytest.raises(IMSJobFailedError, match="sd is Skipped"):
        finish(done("convert", job_id, **mode))
    result = finish(done("convert", job_id, accept_skipped=True, **mode))
    assert [output["url"] for output in result["outputs"]] == ["oss://b/hd.mp4", None]


@pytest.mark.parametrize("given", ["False", "no", "", "None", 1, None])
def test_text_is_not_taken_for_consent_to_a_skipped_output(start: Callable[..., str], given: Any) -> None:
    job_id = start("convert", statuses=["Success", "Skipped"], state="Complete")
    with pytest.raises(
        (ValueError, IMSJobFailedError), match=r"accept_skipped is .*, not True or False|is Skipped"
    ):
        finish(done("convert", job_id, accept_skipped=given))


def test_a_good_end_with_an_output_that_is_not_done_is_no_end(start: Callable[..., str]) -> None:
    job_id = start("convert", statuses=["Success", "Scheduled"], state="Complete")
    with pytest.raises(AirflowSensorTimeout):
        finish(done("convert", job_id, timeout=2))


def test_an_output_in_the_very_source_can_be_seen(ims_emulator: Emulator, start: Callable[..., str]) -> None:
    (source,) = ims_emulator.generate(1)
    job_id = start("convert", outputs=[{"media_id": source, "name": "hd"}], source=source, seconds=0)
    result = finish(done("convert", job_id))
    assert result["inputs"][0]["media_id"] == result["outputs"][0]["media_id"] == source


@in_every_kind
@given(text=st.text(st.characters(exclude_categories=[]), min_size=1))
def test_every_database_takes_what_a_job_tells(kind: str, text: str) -> None:
    """PostgreSQL refuses NUL in JSON, and half of a pair of surrogates can't be sent at all."""
    part = JobPart(f"a{text}", "Success", f"b{text}", f"c{text}", f"oss://d/{text}")
    job = Job("media convert job", "id", "Success", inputs=(JobFile(text, text),), outputs=(part,))
    result = done(kind, "id")._result(job)
    told = json.dumps(result, ensure_ascii=False)
    told.encode()
    assert r"\u0000" not in told.replace(r"\\", "")


@pytest.mark.parametrize(
    "text", ["{broken", "null", "", "[]", "7", '"text"', "[" * 100_000, '{"a": null, "b": []}', "9" * 10_000]
)
def test_what_a_workflow_tells_may_be_unreadable(start: Callable[..., str], text: str) -> None:
    job_id = start("workflow", activity_results=text, seconds=0)
    assert finish(done("workflow", job_id))["activities"] == []


@in_every_mode
@in_every_kind
def test_a_job_that_is_not_there_is_final_at_once(
    ims_emulator: Emulator, kind: str, mode: dict[str, Any]
) -> None:
    with pytest.raises(IMSAPIError, match="ResourceNotFound"):
        finish(done(kind, "0" * 32, **mode))
    assert len(ims_emulator.requests(KINDS[kind][3])) == 1


@in_every_kind
@pytest.mark.parametrize("other", KINDS)
def test_a_job_of_another_kind_is_final_at_once(
    ims_emulator: Emulator, start: Callable[..., str], kind: str, other: str
) -> None:
    job_id = start(other, seconds=0)
    if kind == other:
        assert finish(done(kind, job_id))
        return
    with pytest.raises(IMSAPIError, match="ResourceNotFound"):
        finish(done(kind, job_id))
    assert len(ims_emulator.requests(KINDS[kind][3])) == 1


@in_every_mode
def test_a_job_with_200_outputs(start: Callable[..., str], mode: dict[str, Any]) -> None:
    names = [f"out-{number}" for number in range(200)]
    outputs = [{"url": f"oss://media-team/a-folder/{name}.mp4", "name": name} for name in names]
    result = finish(done("convert", start("convert", outputs=outputs, polls=2), **mode))
    assert [output["name"] for output in result["outputs"]] == names
    assert len(json.dumps(result)) < 64 * 1024
    message = "It is bad. " * 1000
    bad = [{**output, "code": "Bad", "message": message} for output in outputs]
    with pytest.raises(
        IMSJobFailedError, match=r"group-out-18 is Failed; and 381 more\. Its state is Error"
    ) as caught:
        finish(done("convert", start("convert", outputs=bad, polls=2, code="Bad", message=message), **mode))
    assert len(str(caught.value)) < 20_000


@pytest.mark.parametrize("code", ["InvalidAction.NotFound", "InvalidApi.NotFound"])
@in_every_mode
@in_every_kind
def test_an_operation_that_ims_has_ended(
    ims_emulator: Emulator, start: Callable[..., str], kind: str, code: str, mode: dict[str, Any]
) -> None:
    job_id = start(kind, seconds=9)
    later(
        ims_emulator,
        1.5,
        lambda: ims_emulator.add_fault("refuse", action=KINDS[kind][3], status=404, code=code),
    )
    with pytest.raises(IMSAPIError, match="IMS has ended this operation") as caught:
        finish(done(kind, job_id, **mode))
    assert caught.value.code == code
    assert caught.value.request_id
    assert ("IMSMediaConvertJobSensor" in str(caught.value)) == (kind == "transcode")


@in_every_kind
@pytest.mark.parametrize("nothing", ["", " ", "None", None, [], 7])
def test_no_job_is_an_error_and_no_request(ims_emulator: Emulator, kind: str, nothing: Any) -> None:
    with pytest.raises(ValueError, match=f"{KINDS[kind][1]} is .*, which names no"):
        finish(done(kind, nothing))
    assert ims_emulator.stats()["requests"] == 0


def test_a_job_s_log_says_how_far_it_is(
    start: Callable[..., str], caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    job_id = start("convert", statuses=["Success", "Scheduled"], state="Running")
    with caplog.at_level("INFO"):
        deferral(done("convert", job_id, deferrable=True))
    assert (
        f"{job_id} is not over yet: Running; its outputs: 1 Success, 1 Scheduled."
        in caplog.text + capsys.readouterr().out
    )


def test_after_a_deferral_nothing_but_the_event_is_needed(
    ims_emulator: Emulator, start: Callable[..., str]
) -> None:
    """``dag.test()`` drops what was handed to ``defer(kwargs=)``."""
    job_id = start("convert", seconds=0)
    ids = ims_emulator.generate(2)
    ti: Any = TaskInstance()
    ti.start_date = datetime.now(UTC)
    context: Any = {"ti": ti}
    event = {"status": "over", "pending": 0}
    assert done("convert", job_id).execute_complete(context, event)["job_id"] == job_id
    gone = sensors.IMSMediaDeletedSensor(task_id="gone", media_ids=ids)
    assert gone.execute_complete(context, event)["media"] == 2


def test_the_hook_reads_jobs_of_each_kind(start: Callable[..., str]) -> None:
    hook = IMSHook()
    read = {
        "convert": hook.get_media_convert_job,
        "workflow": hook.get_workflow_task,
        "producing": hook.get_media_producing_job,
        "transcode": hook.get_transcode_job,
    }
    for kind, get in read.items():
        job = get(start(kind, seconds=0))
        assert job.is_over
        assert job.failures() == []
