from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
)

from airflow_provider_ims.api.client import IMSClient
from airflow_provider_ims.emulator import Emulator
from airflow_provider_ims.exceptions import (
    IMSAPIError,
    IMSAuthError,
    IMSTransientError,
)
from airflow_provider_ims.hooks.ims import IMSHook
from airflow_provider_ims.pytest_plugin import MakeConnection
from airflow_provider_ims.sensors.ims import IMSMediaDeletedSensor
from airflow_provider_ims.triggers import wait
from airflow_provider_ims.triggers.ims import IMSMediaDeletedTrigger
from tests.sensors.modes import TaskInstance, deferral, finish, first_event, in_every_mode, later


def gone(**kwargs: Any) -> IMSMediaDeletedSensor:
    return IMSMediaDeletedSensor(**{"task_id": "gone", "poke_interval": 1, "timeout": 20, **kwargs})


@in_every_mode
def test_waits_until_media_are_gone(ims_emulator: Emulator, mode: dict[str, Any]) -> None:
    ids = ims_emulator.generate(5)
    hook = IMSHook()
    later(ims_emulator, 2, lambda: hook.delete_media_infos(media_ids=ids))
    result = finish(gone(media_ids=ids, **mode))
    assert result == {"media": 5, "seconds": pytest.approx(30, abs=29)}


@in_every_mode
def test_media_that_are_gone_already_need_no_waiting(ims_emulator: Emulator, mode: dict[str, Any]) -> None:
    ids = ims_emulator.generate(45)
    for at in range(0, 45, 15):
        IMSHook().delete_media_infos(media_ids=ids[at : at + 15])
    result = gone(media_ids=ids, **mode).execute({"ti": TaskInstance()})
    assert result == {"media": 45, "seconds": pytest.approx(0, abs=30)}
    assert len(ims_emulator.requests("BatchGetMediaInfos")) == 3


@in_every_mode
def test_a_service_that_refuses_a_batch_for_what_is_gone(
    ims_emulator: Emulator, mode: dict[str, Any]
) -> None:
    ids = ims_emulator.generate(5)
    ims_emulator.add_fault("otherwise", unknown_ids="refused")
    IMSHook().delete_media_infos(media_ids=ids[1:3])
    hook = IMSHook()
    later(ims_emulator, 2, lambda: [hook.delete_media_infos(media_ids=some) for some in (ids[:1], ids[3:])])
    assert finish(gone(media_ids=ids, **mode)) == {"media": 5, "seconds": pytest.approx(30, abs=29)}


@in_every_mode
def test_an_id_that_the_service_refuses_to_read_ends_the_wait(
    ims_emulator: Emulator, mode: dict[str, Any]
) -> None:
    ims_emulator.add_fault("otherwise", malformed_ids="refused")
    with pytest.raises(IMSAPIError, match=r"no\.id"):
        finish(gone(media_ids=[*ims_emulator.generate(5), "no.id"], **mode))


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


def test_two_inputs_are_refused_when_the_dag_is_parsed() -> None:
    with pytest.raises(ValueError, match="media_ids and manifest are given, but only one"):
        IMSMediaDeletedSensor(task_id="gone", media_ids="{{ none }}", manifest="plan.jsonl")


@pytest.mark.parametrize("deferrable", ["yes", "False", 1, None])
def test_whether_to_defer_is_a_bool(ims_emulator: Emulator, deferrable: Any) -> None:
    with pytest.raises(ValueError, match="deferrable is"):
        gone(media_ids=ims_emulator.generate(1), deferrable=deferrable).execute({"ti": TaskInstance()})


def test_only_what_is_left_is_carried_by_the_trigger(ims_emulator: Emulator) -> None:
    ids = ims_emulator.generate(30)
    IMSHook().delete_media_infos(media_ids=ids[:20])
    deferred = deferral(gone(media_ids=ids, deferrable=True, timeout=100, poke_interval=7))
    _, kwargs = deferred.trigger.serialize()
    assert kwargs["media_ids"] == sorted(ids[20:])
    assert kwargs["poll_interval"] == 7
    assert kwargs["deadline"] == pytest.approx(time.time() + 100, abs=30)
    assert deferred.timeout > timedelta(seconds=100)


def test_too_many_ids_are_waited_for_in_the_worker_which_says_so(
    ims_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(wait, "MAX_CARRIED", 10)
    ids = ims_emulator.generate(25)
    later(ims_emulator, 2.5, lambda: IMSHook().delete_media_infos(media_ids=ids[:20]))
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
    later(ims_emulator, 1.5, lambda: IMSHook().delete_media_infos(media_ids=more[:20]))
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
    assert time.monotonic() - started < 60


@in_every_mode
def test_a_key_withdrawn_while_waiting_fails_with_the_typed_error(
    ims_emulator: Emulator, connection: MakeConnection, mode: dict[str, Any]
) -> None:
    ims_emulator.add_key("withdrawn", "its-secret", actions=["*"])
    connection(login="withdrawn", password="its-secret")
    later(
        ims_emulator,
        1.5,
        lambda: ims_emulator.add_key("withdrawn", "its-secret", actions=["*"], status="inactive"),
    )
    with pytest.raises(IMSAuthError) as caught:
        finish(gone(media_ids=ims_emulator.generate(1), **mode))
    assert caught.value.code == "InvalidAccessKeyId.Inactive"
    assert caught.value.action == "BatchGetMediaInfos"
    assert caught.value.request_id


@in_every_mode
def test_a_key_that_is_rotated_while_waiting_ends_no_wait(
    ims_emulator: Emulator, connection: MakeConnection, mode: dict[str, Any]
) -> None:
    for name in ("old", "new"):
        ims_emulator.add_key(name, "its-secret", actions=["*"])
    connection(login="old", password="its-secret")
    ids = ims_emulator.generate(1)

    def rotate() -> None:
        connection(login="new", password="its-secret")
        ims_emulator.add_key("old", "its-secret", actions=["*"], status="inactive")
        later(ims_emulator, 1.5, lambda: IMSHook().delete_media_infos(media_ids=ids))

    later(ims_emulator, 1.5, rotate)
    assert finish(gone(media_ids=ids, **mode))["media"] == 1


@in_every_mode
def test_an_id_in_capitals_is_waited_for_as_long_as_the_medium_is_shown(
    ims_emulator: Emulator, mode: dict[str, Any]
) -> None:
    [media_id] = ims_emulator.seed([{"media_id": "a" * 32, "url": "oss://b/1.mp4"}])
    later(ims_emulator, 2, lambda: IMSHook().delete_media_infos(media_ids=[media_id]))
    began = time.monotonic()
    assert finish(gone(media_ids=[media_id.upper()], **mode))["media"] == 1
    assert time.monotonic() - began > 1


@in_every_mode
def test_never_fail_skips_whatever_happens(
    ims_emulator: Emulator, connection: MakeConnection, mode: dict[str, Any]
) -> None:
    ims_emulator.add_key("withdrawn", "its-secret", actions=["*"])
    connection(login="withdrawn", password="its-secret")
    later(
        ims_emulator,
        1.5,
        lambda: ims_emulator.add_key("withdrawn", "its-secret", actions=["*"], status="inactive"),
    )
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
    later(ims_emulator, 2.5, lambda: IMSHook().delete_media_infos(media_ids=ids))
    assert finish(gone(media_ids=ids, **mode))["media"] == 1


def test_importing_sensors_and_triggers_loads_nothing_heavy() -> None:
    code = (
        "import sys, airflow.triggers.base; from airflow.providers.common.compat.sdk import BaseSensorOperator;"
        "before = set(sys.modules);"
        "import airflow_provider_ims.sensors.ims, airflow_provider_ims.triggers.ims;"
        "print([name for name in ('requests', 'alibabacloud_credentials') if name in set(sys.modules) - before])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"
