from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
    timezone,
)
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_ims.api.client import IMSClient
from airflow_provider_ims.emulator.server import Emulator
from airflow_provider_ims.exceptions import (
    IMSAPIError,
    IMSAuthError,
    IMSJobFailedError,
    IMSTransientError,
)
from airflow_provider_ims.hooks.ims import IMSHook
from airflow_provider_ims.pytest_plugin import MakeConnection
from airflow_provider_ims.sensors.ims import IMSMediaDeletedSensor, IMSTranscodeJobSensor
from airflow_provider_ims.triggers import ims as triggers
from airflow_provider_ims.triggers import wait
from airflow_provider_ims.triggers.ims import IMSMediaDeletedTrigger

try:
    from airflow.sdk.exceptions import AirflowRescheduleException
except ImportError:  # Airflow 2
    from airflow.exceptions import AirflowRescheduleException

Sensor = IMSMediaDeletedSensor | IMSTranscodeJobSensor


@pytest.fixture(autouse=True)
def connection(
    ims_connection: str, make_ims_connection: MakeConnection, monkeypatch: pytest.MonkeyPatch
) -> MakeConnection:
    monkeypatch.setattr(triggers, "MIN_SECONDS", 0)
    monkeypatch.setattr(TaskInstance, "first_poke", None)
    if not AIRFLOW_V_3_0_PLUS:
        monkeypatch.setattr("airflow.sensors.base._orig_start_date", lambda **_: TaskInstance.first_poke)
    return make_ims_connection


class TaskInstance:
    """As much of a task instance as a sensor sees; when it was first rescheduled is Airflow's to know."""

    dag_id, task_id, run_id, map_index, max_tries = "dag", "task", "run", -1, 0
    first_poke: ClassVar[Any] = None

    if AIRFLOW_V_3_0_PLUS:

        def get_first_reschedule_date(self, context: Any) -> Any:
            return self.first_poke


def finish(sensor: Sensor) -> Any:
    """Run a sensor to its end as Airflow does: called again after it is rescheduled or its trigger fired."""
    context: Any = {"ti": TaskInstance()}
    try:
        while True:
            try:
                return sensor.execute(context)
            except AirflowRescheduleException as later:
                TaskInstance.first_poke = TaskInstance.first_poke or timezone.utcnow()
                time.sleep(max(0, (later.reschedule_date - timezone.utcnow()).total_seconds()))
                sensor = again(sensor)
    except TaskDeferred as deferred:
        return resume(sensor, deferred, context)


def resume(sensor: Sensor, deferred: TaskDeferred, context: Any) -> Any:
    """Run the trigger, made from its arguments as a triggerer makes it, and go on with its event."""
    path, kwargs = json.loads(json.dumps(deferred.trigger.serialize()))
    module, _, name = path.rpartition(".")
    trigger: Any = getattr(import_module(module), name)(**kwargs)
    assert trigger.serialize() == (path, kwargs)
    assert "secret" not in json.dumps(kwargs)

    event = asyncio.run(first_event(trigger))
    next_kwargs = {**json.loads(json.dumps(deferred.kwargs)), "event": event}
    try:
        return again(sensor).resume_execution(deferred.method_name, next_kwargs, context)
    except TaskDeferred as once_more:
        return resume(sensor, once_more, context)


async def first_event(trigger: Any) -> Any:
    return [event.payload async for event in trigger.run()].pop()


def again(sensor: Sensor) -> Sensor:
    """Make the sensor anew, as another worker process would."""
    args = dict(sensor._BaseOperator__init_kwargs)
    return type(sensor)(**args)


def deferral(sensor: Sensor) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as caught:
        sensor.execute({"ti": TaskInstance()})
    return caught.value


def gone(**kwargs: Any) -> IMSMediaDeletedSensor:
    return IMSMediaDeletedSensor(**{"task_id": "gone", "poke_interval": 1, "timeout": 20, **kwargs})


def done(job: str, **kwargs: Any) -> IMSTranscodeJobSensor:
    return IMSTranscodeJobSensor(
        **{"task_id": "done", "parent_job_id": job, "poke_interval": 1, "timeout": 20, **kwargs}
    )


def later(seconds: float, function: Callable[[], Any]) -> None:
    threading.Timer(seconds, function).start()


MODES: list[dict[str, Any]] = [{"mode": "poke"}, {"mode": "reschedule"}, {"deferrable": True}]
in_every_mode = pytest.mark.parametrize("mode", MODES, ids=["poke", "reschedule", "deferrable"])


@in_every_mode
def test_waits_until_media_are_gone(ims_emulator: Emulator, mode: dict[str, Any]) -> None:
    ids = ims_emulator.generate(5)
    hook = IMSHook()
    later(2, lambda: hook.delete_media_infos(media_ids=ids))
    result = finish(gone(media_ids=ids, **mode))
    assert result == {"media": 5, "seconds": pytest.approx(3.5, abs=2.5)}


@in_every_mode
def test_media_that_are_gone_already_need_no_waiting(ims_emulator: Emulator, mode: dict[str, Any]) -> None:
    ids = ims_emulator.generate(45)
    for at in range(0, 45, 15):
        IMSHook().delete_media_infos(media_ids=ids[at : at + 15])
    result = gone(media_ids=ids, **mode).execute({"ti": TaskInstance()})
    assert result == {"media": 45, "seconds": pytest.approx(0, abs=1)}
    assert len(ims_emulator.requests("BatchGetMediaInfos")) == 3


@pytest.mark.parametrize("nothing", [None, [], "", "[]", "None"])
def test_nothing_to_wait_for_is_success_without_a_request(ims_emulator: Emulator, nothing: Any) -> None:
    assert gone(media_ids=nothing).execute({"ti": TaskInstance()})["media"] == 0
    assert ims_emulator.stats()["requests"] == 0


def test_urls_and_manifests_and_reports(ims_emulator: Emulator, tmp_path: Path) -> None:
    ids = ims_emulator.generate(3)
    urls = [medium["url"] for medium in ims_emulator.library()]
    (tmp_path / "ids.txt").write_text("\n".join(ids))
    report = tmp_path / "report"
    report.mkdir()
    (report / "part-00001.jsonl").write_text(
        "".join(
            json.dumps({"media_id": media_id, "outcome": outcome}) + "\n"
            for media_id, outcome in zip(ids, ["deleted", "deleted", "forbidden"], strict=True)
        )
    )
    IMSHook().delete_media_infos(media_ids=ids[:2])
    assert gone(manifest=str(report)).execute({"ti": TaskInstance()})["media"] == 2
    for waits_for in ({"input_urls": urls}, {"manifest": str(tmp_path / "ids.txt")}):
        assert deferral(gone(**waits_for, deferrable=True)).trigger
    IMSHook().delete_media_infos(input_urls=urls[2:])
    for waits_for in ({"input_urls": urls}, {"manifest": str(tmp_path / "ids.txt")}):
        assert gone(**waits_for).execute({"ti": TaskInstance()})["media"] == 3


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"media_ids": ["a,b"]}, "'a,b'"),
        ({"media_ids": ["a"], "manifest": "x"}, "media_ids and manifest"),
        ({"input_urls": ["ftp://a/b"]}, "ftp://a/b"),
    ],
)
def test_input_that_makes_no_sense_is_named(
    ims_emulator: Emulator, inputs: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        gone(**inputs).execute({"ti": TaskInstance()})
    assert ims_emulator.stats()["requests"] == 0


def test_only_what_is_left_is_carried_by_the_trigger(ims_emulator: Emulator) -> None:
    ids = ims_emulator.generate(30)
    IMSHook().delete_media_infos(media_ids=ids[:20])
    deferred = deferral(gone(media_ids=ids, deferrable=True, timeout=100, poke_interval=7))
    _, kwargs = deferred.trigger.serialize()
    assert kwargs["media_ids"] == sorted(ids[20:])
    assert kwargs["poll_interval"] == 7
    assert kwargs["deadline"] == pytest.approx(time.time() + 100, abs=5)
    assert deferred.timeout > timedelta(seconds=100)


def test_too_many_ids_are_waited_for_in_the_worker_which_says_so(
    ims_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(wait, "MAX_CARRIED", 10)
    ids = ims_emulator.generate(25)
    later(2.5, lambda: IMSHook().delete_media_infos(media_ids=ids[:20]))
    with caplog.at_level("INFO"):
        deferred = deferral(gone(media_ids=ids, deferrable=True))
    assert "25 media are too many" in caplog.text
    assert deferred.trigger.serialize()[1]["media_ids"] == sorted(ids[20:])
    more = ims_emulator.generate(25, seed=1)
    (tmp_path / "ids.txt").write_text("\n".join(more))
    _, kwargs = deferral(gone(manifest=str(tmp_path / "ids.txt"), deferrable=True)).trigger.serialize()
    assert kwargs["media_ids"] is None
    assert kwargs["manifest"] == str(tmp_path / "ids.txt")
    (tmp_path / "ids.txt").write_text("")
    event = asyncio.run(first_event(IMSMediaDeletedTrigger(**kwargs)))
    assert "names other media" in event["error"]["message"]
    monkeypatch.setattr(wait, "MAX_READ", 20)
    (tmp_path / "ids.txt").write_text("\n".join(more))
    later(1.5, lambda: IMSHook().delete_media_infos(media_ids=more[:20]))
    _, kwargs = deferral(gone(manifest=str(tmp_path / "ids.txt"), deferrable=True)).trigger.serialize()
    assert kwargs["media_ids"] == more[20:]


def test_a_failed_look_is_not_taken_for_an_empty_one(
    ims_emulator: Emulator, connection: MakeConnection
) -> None:
    ims_emulator.add_key("team", "its-secret", actions=["ice:GetMediaInfo"])
    connection(login="team", password="its-secret")
    sensor = gone(media_ids=ims_emulator.generate(45), silent_fail=True, timeout=2)
    with pytest.raises(AirflowSensorTimeout):
        sensor.execute({"ti": TaskInstance()})


@in_every_mode
def test_time_is_up(ims_emulator: Emulator, mode: dict[str, Any]) -> None:
    ids = ims_emulator.generate(1)
    with pytest.raises(AirflowSensorTimeout):
        finish(gone(media_ids=ids, timeout=2, **mode))


@in_every_mode
def test_soft_fail_skips_when_time_is_up(ims_emulator: Emulator, mode: dict[str, Any]) -> None:
    ids = ims_emulator.generate(1)
    with pytest.raises(AirflowSkipException):
        finish(gone(media_ids=ids, timeout=2, soft_fail=True, **mode))


@in_every_mode
def test_a_wrong_key_fails_at_once(
    ims_emulator: Emulator, connection: MakeConnection, mode: dict[str, Any]
) -> None:
    connection(password="wrong")
    started = time.monotonic()
    with pytest.raises(IMSAuthError) as caught:
        finish(gone(media_ids=ims_emulator.generate(1), soft_fail=True, **mode))
    assert caught.value.request_id
    assert time.monotonic() - started < 5


@in_every_mode
def test_a_key_withdrawn_while_waiting_fails_with_the_typed_error(
    ims_emulator: Emulator, connection: MakeConnection, mode: dict[str, Any]
) -> None:
    ims_emulator.add_key("withdrawn", "its-secret", actions=["*"])
    connection(login="withdrawn", password="its-secret")
    later(1.5, lambda: ims_emulator.add_key("withdrawn", "its-secret", actions=["*"], status="inactive"))
    with pytest.raises(IMSAuthError) as caught:
        finish(gone(media_ids=ims_emulator.generate(1), **mode))
    assert caught.value.code == "InvalidAccessKeyId.Inactive"
    assert caught.value.action == "BatchGetMediaInfos"
    assert caught.value.request_id


@in_every_mode
def test_never_fail_skips_whatever_happens(
    ims_emulator: Emulator, connection: MakeConnection, mode: dict[str, Any]
) -> None:
    ims_emulator.add_key("withdrawn", "its-secret", actions=["*"])
    connection(login="withdrawn", password="its-secret")
    later(1.5, lambda: ims_emulator.add_key("withdrawn", "its-secret", actions=["*"], status="inactive"))
    with pytest.raises(AirflowSkipException):
        finish(gone(media_ids=ims_emulator.generate(1), never_fail=True, **mode))


@in_every_mode
def test_an_outage_before_the_first_look_is_an_error_and_later_ridden_out(
    ims_emulator: Emulator,
    connection: MakeConnection,
    mode: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection(extra={"retry_seconds": 0})
    monkeypatch.setitem(IMSClient.__init__.__kwdefaults__, "min_tries", 2)
    ids = ims_emulator.generate(1)
    ims_emulator.add_fault("error", action="BatchGetMediaInfos")
    with pytest.raises(IMSTransientError):
        finish(gone(media_ids=ids, **mode))
    ims_emulator.drop_faults()
    ims_emulator.add_fault("error", action="BatchGetMediaInfos", skip=1, times=3)
    later(2.5, lambda: IMSHook().delete_media_infos(media_ids=ids))
    assert finish(gone(media_ids=ids, **mode))["media"] == 1


@in_every_mode
def test_a_job_is_done_when_every_part_is(ims_emulator: Emulator, mode: dict[str, Any]) -> None:
    job = ims_emulator.add_job(outputs=["oss://b/1.mp4", "oss://b/2.mp4"])["ParentJobId"]
    ims_emulator.put_job(job, ["Success", "Processing"])
    later(2.5, lambda: ims_emulator.put_job(job, ["Success", "Success"]))
    result = finish(done(job, **mode))
    assert result.pop("seconds") > 1.5
    outputs = result.pop("outputs")
    assert result == {"parent_job_id": job}
    assert [output["url"] for output in outputs] == ["oss://b/1.mp4", "oss://b/2.mp4"]
    assert all(output["media_id"] and output["job_id"] for output in outputs)


@in_every_mode
def test_a_failed_part_is_named(ims_emulator: Emulator, mode: dict[str, Any]) -> None:
    started = ims_emulator.add_job(outputs=["oss://b/1.mp4", "oss://b/2.mp4"])
    job, failed = started["ParentJobId"], started["TranscodeJobList"][1]["JobId"]
    ims_emulator.put_job(job, ["Success", "Processing"])
    later(2, lambda: ims_emulator.put_job(job, ["Success", "Fail"]))
    with pytest.raises(IMSJobFailedError, match=f"failed in {failed}; its sub-jobs: 1 Success, 1 Fail"):
        finish(done(job, **mode))
    with pytest.raises(AirflowSkipException):
        finish(done(job, soft_fail=True, **mode))


@in_every_mode
def test_a_state_that_nobody_knows_counts_as_running(ims_emulator: Emulator, mode: dict[str, Any]) -> None:
    job = ims_emulator.add_job(outputs=["oss://b/1.mp4", "oss://b/2.mp4"])["ParentJobId"]
    ims_emulator.put_job(job, ["Success", "Suspended"])
    with pytest.raises(AirflowSensorTimeout):
        finish(done(job, timeout=2, **mode))


def test_a_job_that_is_not_there_is_an_error(ims_emulator: Emulator) -> None:
    with pytest.raises(IMSAPIError, match="ResourceNotFound"):
        finish(done("0123456789abcdef0123456789abcdef"))


@pytest.mark.parametrize("nothing", ["", " ", "None", None])
def test_no_job_is_an_error_and_no_request(ims_emulator: Emulator, nothing: Any) -> None:
    with pytest.raises(ValueError, match="which names nothing"):
        finish(done(nothing))
    assert ims_emulator.stats()["requests"] == 0


def test_importing_sensors_and_triggers_loads_nothing_heavy() -> None:
    code = (
        "import sys, airflow.triggers.base; from airflow.providers.common.compat.sdk import BaseSensorOperator;"
        "before = set(sys.modules);"
        "import airflow_provider_ims.sensors.ims, airflow_provider_ims.triggers.ims;"
        "print([name for name in ('requests', 'alibabacloud_credentials') if name in set(sys.modules) - before])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"
