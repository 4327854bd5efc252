"""Waiting in a real triggerer: worker processes, the execution API, and a triggerer that is killed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from local_airflow import LocalAirflow

from airflow_provider_ims.emulator.server import Emulator
from airflow_provider_ims.hooks.ims import IMSHook

HERE = Path(__file__).parent
TRANSCODE_DAG = HERE.parent.parent / "example_dags" / "ims_cleanup_after_transcode.py"
TEAM_KEY = {"key_id": "team", "secret": "the-team-s-secret", "actions": ["*"]}
# How soon a triggerer that was killed counts as dead.
HEALTH_SECONDS = 6


@pytest.fixture(scope="module")
def ims() -> Iterator[Emulator]:
    with Emulator("--region", "cn-shanghai") as emulator:
        emulator.add_key(**TEAM_KEY)
        yield emulator


@pytest.fixture(scope="module")
def airflow(ims: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAirflow]:
    """The whole of Airflow with the DAGs of these tests, and the example with less patience."""
    folder = tmp_path_factory.mktemp("waiting")
    dags = folder / "dags"
    dags.mkdir()
    (dags / "waiting.py").write_text((HERE / "waiting_dags" / "waiting.py").read_text())
    example = TRANSCODE_DAG.read_text()
    for patient, impatient in (
        ("LOOK_EVERY = timedelta(seconds=30)", "LOOK_EVERY = timedelta(seconds=2)"),
        ("TRANSCODED_WITHIN = timedelta(hours=6)", "TRANSCODED_WITHIN = timedelta(seconds=15)"),
    ):
        assert patient in example
        example = example.replace(patient, impatient)
    (dags / TRANSCODE_DAG.name).write_text(example)
    connection = {"conn_type": "alibaba_ims", "host": ims.endpoint, "extra": {"region": "cn-shanghai"}}
    key = {"login": ims.access_key_id, "password": ims.access_key_secret}
    environment = {
        "AIRFLOW_CONN_IMS_DEFAULT": json.dumps(connection | key),
        "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": str(HEALTH_SECONDS),
    }
    with LocalAirflow(folder / "home", dags, env=environment) as airflow:
        # In the database, where a triggerer has to ask for it.
        airflow.create_connection(
            "ims_team",
            conn_type="alibaba_ims",
            host=ims.endpoint,
            login=TEAM_KEY["key_id"],
            password=TEAM_KEY["secret"],
            extra=json.dumps({"region": "cn-shanghai"}),
        )
        yield airflow
    assert airflow.members() == []


@pytest.fixture
def hook(ims: Emulator, monkeypatch: pytest.MonkeyPatch) -> IMSHook:
    connection = {
        "conn_type": "alibaba_ims",
        "host": ims.endpoint,
        "login": ims.access_key_id,
        "password": ims.access_key_secret,
        "extra": {"region": "cn-shanghai"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_IMS_DEFAULT", json.dumps(connection))
    return IMSHook()


class Transcoding:
    """A run of the example, for a job of two sub-jobs and its source."""

    def __init__(self, airflow: LocalAirflow, ims: Emulator, number: int) -> None:
        self._airflow = airflow
        self._ims = ims
        url = f"oss://media-team/masters/{number}.mov"
        (self.source,) = ims.seed([{"url": url}])
        outputs = [f"oss://media-team/renditions/{number}-{size}.mp4" for size in ("hd", "sd")]
        self.job = ims.add_job(outputs=outputs)["ParentJobId"]
        ims.put_job(self.job, ["Processing", "Processing"])
        conf = {"parent_job_id": self.job, "source_media_id": self.source}
        self.run_id = airflow.trigger("ims_cleanup_after_transcode", conf)

    def wait_until_deferred(self) -> None:
        self._airflow.wait_for_task(*self.task("wait_for_renditions"), "deferred")

    def task(self, task_id: str) -> tuple[str, str, str]:
        return "ims_cleanup_after_transcode", self.run_id, task_id

    def end(self) -> dict[str, str | None]:
        self._airflow.wait("ims_cleanup_after_transcode", self.run_id)
        return self._airflow.task_states("ims_cleanup_after_transcode", self.run_id)

    @property
    def source_is_there(self) -> bool:
        return self.source in self._ims.media_ids()


@pytest.fixture(scope="module")
def early(airflow: LocalAirflow, ims: Emulator) -> dict[str, Any]:
    """Runs that take their time by themselves, started before all others."""
    unknown = Transcoding(airflow, ims, 1)
    ims.put_job(unknown.job, ["Success", "Suspended"])
    (media_id,) = ims.seed([{"url": "oss://media-team/never-deleted.mp4"}])
    return {"unknown": unknown, "impatient": airflow.trigger("impatient", {"media_ids": [media_id]})}


def said(airflow: LocalAirflow, *task: str, try_number: int | None = None) -> str:
    """All that a task logged, errors with their types included."""
    return json.dumps(airflow.log(*task, try_number=try_number))


def test_every_mode_gives_the_same_result(
    airflow: LocalAirflow, ims: Emulator, hook: IMSHook, early: dict[str, Any]
) -> None:
    ids = ims.seed([{"url": f"oss://media-team/modes/{number}.mp4"} for number in range(5)])
    run_id = airflow.trigger("every_mode", {"media_ids": ids})
    airflow.wait_for_task("every_mode", run_id, "poke", "running")
    airflow.wait_for_task("every_mode", run_id, "reschedule", "up_for_reschedule")
    airflow.wait_for_task("every_mode", run_id, "deferrable", "deferred")
    time.sleep(3)
    hook.delete_media_infos(media_ids=ids)
    assert airflow.wait("every_mode", run_id) == "success"
    results = [airflow.xcom("every_mode", run_id, task) for task in ("poke", "reschedule", "deferrable")]
    seconds = [result.pop("seconds") for result in results]
    assert results == [{"media": 5}] * 3
    assert all(3 <= each <= 60 for each in seconds), seconds


def test_transcoded_source_goes(airflow: LocalAirflow, ims: Emulator) -> None:
    run = Transcoding(airflow, ims, 2)
    run.wait_until_deferred()
    ims.put_job(run.job, ["Success", "Success"])
    assert set(run.end().values()) == {"success"}
    assert not run.source_is_there
    outputs = airflow.xcom(*run.task("wait_for_renditions"))["outputs"]
    assert [output["url"] for output in outputs] == [
        "oss://media-team/renditions/2-hd.mp4",
        "oss://media-team/renditions/2-sd.mp4",
    ]
    assert {output["media_id"] for output in outputs} <= set(ims.media_ids())
    assert [one["media_id"] for one in ims.deleted() if one["media_id"] == run.source] == [run.source]


def test_source_stays_if_a_sub_job_failed(airflow: LocalAirflow, ims: Emulator) -> None:
    run = Transcoding(airflow, ims, 3)
    run.wait_until_deferred()
    ims.put_job(run.job, ["Success", "Fail"])
    states = run.end()
    assert states["wait_for_renditions"] == "failed"
    assert states["delete_source"] == "upstream_failed"
    assert run.source_is_there
    assert "IMSJobFailedError" in said(airflow, *run.task("wait_for_renditions"))


def test_source_stays_if_a_state_is_not_known(airflow: LocalAirflow, early: dict[str, Any]) -> None:
    run = early["unknown"]
    states = run.end()
    assert states["wait_for_renditions"] == "failed"
    assert states["delete_source"] == "upstream_failed"
    assert run.source_is_there
    assert "AirflowSensorTimeout" in said(airflow, *run.task("wait_for_renditions"))


def test_time_out_and_soft_fail(airflow: LocalAirflow, early: dict[str, Any]) -> None:
    run_id = early["impatient"]
    assert airflow.wait("impatient", run_id) == "failed"
    assert airflow.task_states("impatient", run_id) == {"fails": "failed", "is_skipped": "skipped"}
    # A sensor's time-out is final, however many retries are left.
    assert airflow.task("impatient", run_id, "fails")["try_number"] == 1
    assert "AirflowSensorTimeout" in said(airflow, "impatient", run_id, "fails")


def test_retry_after_a_deferral(airflow: LocalAirflow, ims: Emulator, hook: IMSHook) -> None:
    (media_id,) = ims.seed([{"url": "oss://media-team/retry.mp4"}])
    run_id = airflow.trigger("deferred", {"media_ids": [media_id], "conn": "ims_team"})
    airflow.wait_for_task("deferred", run_id, "wait", "deferred")
    ims.add_key(**TEAM_KEY, status="inactive")
    airflow.wait_for_task("deferred", run_id, "wait", "up_for_retry")
    ims.add_key(**TEAM_KEY)
    first = said(airflow, "deferred", run_id, "wait", try_number=1)
    assert "IMSAuthError" in first
    assert "InvalidAccessKeyId.Inactive" in first
    refused = [request for request in ims.requests() if request["code"] == "InvalidAccessKeyId.Inactive"]
    assert refused[0]["request_id"] in first
    hook.delete_media_infos(media_ids=[media_id])
    assert airflow.wait("deferred", run_id) == "success"
    assert airflow.task("deferred", run_id, "wait")["try_number"] == 2


def test_cleared_while_deferred(airflow: LocalAirflow, ims: Emulator, hook: IMSHook) -> None:
    (media_id,) = ims.seed([{"url": "oss://media-team/cleared.mp4"}])
    run_id = airflow.trigger("deferred", {"media_ids": [media_id]})
    airflow.wait_for_task("deferred", run_id, "wait", "deferred")
    time.sleep(3)
    airflow.clear("deferred", run_id, "wait")
    airflow.wait_for_task("deferred", run_id, "wait", "scheduled", "queued", "running", "success")
    airflow.wait_for_task("deferred", run_id, "wait", "deferred")
    hook.delete_media_infos(media_ids=[media_id])
    assert airflow.wait("deferred", run_id) == "success"
    assert airflow.xcom("deferred", run_id, "wait")["media"] == 1
    before = len(ims.requests("BatchGetMediaInfos"))
    time.sleep(5)
    assert len(ims.requests("BatchGetMediaInfos")) == before


def test_killed_triggerer(airflow: LocalAirflow, ims: Emulator, hook: IMSHook) -> None:
    gone, stays = ims.seed([{"url": f"oss://media-team/killed/{number}.mp4"} for number in range(2)])
    waits = airflow.trigger("deferred", {"media_ids": [gone]})
    times_out = airflow.trigger("with_deadline", {"media_ids": [stays]})
    airflow.wait_for_task("deferred", waits, "wait", "deferred")
    airflow.wait_for_task("with_deadline", times_out, "wait", "deferred")
    airflow.kill("triggerer")
    hook.delete_media_infos(media_ids=[gone])
    airflow.restart("triggerer")
    assert airflow.wait("deferred", waits) == "success"
    assert airflow.wait("with_deadline", times_out) == "failed"
    began, ended = (datetime.fromisoformat(airflow_time) for airflow_time in run_times(airflow, times_out))
    assert 45 <= (ended - began).total_seconds() <= 75
    assert "AirflowSensorTimeout" in said(airflow, "with_deadline", times_out, "wait")


def test_a_trigger_that_is_not_found(airflow: LocalAirflow, ims: Emulator) -> None:
    """The last test: on SQLite the next trigger has this one's id, which the triggerer takes for running."""
    (media_id,) = ims.seed([{"url": "oss://media-team/misplaced.mp4"}])
    run_id = airflow.trigger("misplaced", {"media_ids": [media_id]})
    assert airflow.wait("misplaced", run_id) == "failed"
    assert "TaskDeferralError" in said(airflow, "misplaced", run_id, "wait")


def run_times(airflow: LocalAirflow, run_id: str) -> tuple[str, str]:
    run = airflow.request("GET", f"dags/with_deadline/dagRuns/{run_id.replace('+', '%2B')}").json()
    return run["start_date"], run["end_date"]
