"""Waiting in a real triggerer: worker processes, the execution API, and a triggerer that is killed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from local_airflow import LocalAirflow

from airflow_provider_ims.emulator import Emulator
from airflow_provider_ims.hooks.ims import IMSHook

TEAM_KEY = {"key_id": "team", "secret": "the-team-s-secret", "actions": ["*"]}


@pytest.fixture(scope="module")
def ims(ims_emulator_session: Emulator, airflow: LocalAirflow) -> Emulator:
    """The emulator, which keeps its books from one of these tests to the next: their runs overlap."""
    ims_emulator_session.reset()
    ims_emulator_session.drop_faults()
    ims_emulator_session.add_key(**TEAM_KEY)
    # In the database, where a triggerer has to ask for it.
    airflow.create_connection(
        "ims_team",
        conn_type="alibaba_ims",
        host=ims_emulator_session.endpoint,
        login=TEAM_KEY["key_id"],
        password=TEAM_KEY["secret"],
        extra=json.dumps({"region": "cn-shanghai"}),
    )
    return ims_emulator_session


@pytest.fixture(scope="module")
def hook(ims: Emulator, environment: dict[str, str]) -> Iterator[IMSHook]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("AIRFLOW_CONN_IMS_DEFAULT", environment["AIRFLOW_CONN_IMS_DEFAULT"])
        yield IMSHook()


class Transcoding:
    """A run of the example, for a job of two sub-jobs and its source."""

    def __init__(self, airflow: LocalAirflow, ims: Emulator, number: int) -> None:
        self._airflow = airflow
        self._ims = ims
        (self.source,) = ims.seed([{"url": f"oss://media-team/masters/{number}.mov"}])
        # Renditions that are media too: no store is up here.
        self.renditions = ims.seed(
            {"url": f"oss://media-team/renditions/{number}-{size}.mp4"} for size in ("hd", "sd")
        )
        outputs = [
            {"media_id": media_id, "url": f"oss://media-team/renditions/{number}-{size}/stream.mp4"}
            for media_id, size in zip(self.renditions, ("hd", "sd"), strict=True)
        ]
        job = ims.add_job(kind="convert", outputs=outputs, source=self.source, state="Running")
        self.job = job["JobId"]
        conf = {"job_id": self.job, "source_media_id": self.source}
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


class Deletions:
    """A run that deletes in both ways, and waits for media that reads go on to show."""

    def __init__(self, airflow: LocalAirflow, ims: Emulator, dag_id: str, *, shown_seconds: float) -> None:
        self.dag_id = dag_id
        self._airflow = airflow
        deleted = len(ims.deleted())
        self._ids = {
            way: ims.seed({"url": f"oss://media-team/{dag_id}/{way}/{number}.mp4"} for number in range(3))
            for way in ("here", "deferred")
        }
        ims.add_fault("lagging_reads", action="DeleteMediaInfos", milliseconds=1000 * shown_seconds, times=2)
        self.run_id = airflow.trigger(dag_id, self._ids)
        deadline = time.monotonic() + 60
        while len(ims.deleted()) < deleted + 6:
            assert time.monotonic() < deadline, airflow.task_states(dag_id, self.run_id)
            time.sleep(0.2)
        airflow.wait_for_task(dag_id, self.run_id, "deferred", "deferred")
        assert airflow.task_state(dag_id, self.run_id, "here") == "running"

    def end(self, state: str) -> list[dict[str, Any]]:
        """Wait for the end; give the results without times and ids, which can't be the same."""
        assert self._airflow.wait(self.dag_id, self.run_id) == state
        states = self._airflow.task_states(self.dag_id, self.run_id)
        assert states == {"here": state, "deferred": state}
        results = []
        for way in states:
            result = self._airflow.xcom(self.dag_id, self.run_id, way)
            assert result.pop("seconds") > 0
            result["request_ids"] = len(set(result["request_ids"]))
            result["samples"] = {
                # In the order of the ids, which are made up.
                outcome: sorted(self._ids[way].index(media_id) for media_id in media_ids)
                for outcome, media_ids in result["samples"].items()
            }
            results.append(result)
        return results


@pytest.fixture(scope="module")
def early(airflow: LocalAirflow, ims: Emulator) -> dict[str, Any]:
    """Runs that take their time by themselves, started before all others."""
    deletions = Deletions(airflow, ims, "deletions", shown_seconds=20)
    in_vain = Deletions(airflow, ims, "deletions_in_vain", shown_seconds=600)
    unknown, succeeds, fails = (Transcoding(airflow, ims, number) for number in range(3))
    ims.put_job(unknown.job, ["Success", "Success"], "Suspended")
    (media_id,) = ims.seed([{"url": "oss://media-team/never-deleted.mp4"}])
    return {
        "deletions": deletions,
        "deletions_in_vain": in_vain,
        "unknown": unknown,
        "succeeds": succeeds,
        "fails": fails,
        "impatient": airflow.trigger("impatient", {"media_ids": [media_id]}),
    }


def said(airflow: LocalAirflow, *task: str, try_number: int | None = None) -> str:
    """All that a task logged, errors with their types included."""
    return json.dumps(airflow.log(*task, try_number=try_number))


def test_transcoded_source_goes(airflow: LocalAirflow, ims: Emulator, early: dict[str, Any]) -> None:
    run = early["succeeds"]
    run.wait_until_deferred()
    ims.put_job(run.job, ["Success", "Success"], "Complete")
    assert set(run.end().values()) == {"success"}
    assert not run.source_is_there
    outputs = airflow.xcom(*run.task("wait_for_renditions"))["outputs"]
    assert [output["media_id"] for output in outputs] == run.renditions
    assert set(run.renditions) <= set(ims.media_ids())
    assert [one["media_id"] for one in ims.deleted() if one["media_id"] == run.source] == [run.source]


def test_source_stays_if_an_output_failed(
    airflow: LocalAirflow, ims: Emulator, early: dict[str, Any]
) -> None:
    run = early["fails"]
    run.wait_until_deferred()
    ims.put_job(run.job, ["Success", "Failed"], "Complete")
    states = run.end()
    assert states["wait_for_renditions"] == "failed"
    assert states["delete_source"] == "upstream_failed"
    assert run.source_is_there
    assert "IMSJobFailedError" in said(airflow, *run.task("wait_for_renditions"))


def test_every_mode_gives_the_same_result(airflow: LocalAirflow, ims: Emulator, hook: IMSHook) -> None:
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


def test_deleting_gives_the_same_result_deferred_or_not(early: dict[str, Any]) -> None:
    here, deferred = early["deletions"].end("success")
    for result in (here, deferred):  # in the order of the ids, which the library made up
        assert result["samples"].pop("deleted") == [0, 1, 2]
    assert deferred == here
    assert (here["requested"], here["deleted"], here["request_ids"]) == (3, 3, 1)


def test_media_that_do_not_go_in_time_fail_the_task_with_its_result(
    airflow: LocalAirflow, early: dict[str, Any]
) -> None:
    run = early["deletions_in_vain"]
    here, deferred = run.end("failed")
    assert deferred == here
    assert (here["requested"], here["deleted"]) == (3, 3)
    for way in ("here", "deferred"):
        log = said(airflow, run.dag_id, run.run_id, way)
        assert "IMSDeletionError" in log
        assert "3 were still pending" in log
        # Another try would only bury the result.
        assert airflow.task(run.dag_id, run.run_id, way)["try_number"] == 1


def test_time_out_and_soft_fail(airflow: LocalAirflow, early: dict[str, Any]) -> None:
    run_id = early["impatient"]
    assert airflow.wait("impatient", run_id) == "failed"
    assert airflow.task_states("impatient", run_id) == {"fails": "failed", "is_skipped": "skipped"}
    # A sensor's time-out is final, however many retries are left.
    assert airflow.task("impatient", run_id, "fails")["try_number"] == 1
    assert "AirflowSensorTimeout" in said(airflow, "impatient", run_id, "fails")


@pytest.fixture(scope="module")
def killed(airflow: LocalAirflow, ims: Emulator, hook: IMSHook) -> dict[str, str]:
    """Runs whose triggerer was killed and started again: one waits for media that went meanwhile, one times out."""
    gone, stays = ims.seed([{"url": f"oss://media-team/killed/{number}.mp4"} for number in range(2)])
    run_ids = {
        "deferred": airflow.trigger("deferred", {"media_ids": [gone]}),
        "with_deadline": airflow.trigger("with_deadline", {"media_ids": [stays]}),
    }
    for dag_id, run_id in run_ids.items():
        airflow.wait_for_task(dag_id, run_id, "wait", "deferred")
    airflow.kill("triggerer")
    hook.delete_media_infos(media_ids=[gone])
    airflow.restart("triggerer")
    return run_ids


def test_a_killed_triggerer_loses_nothing(airflow: LocalAirflow, killed: dict[str, str]) -> None:
    assert airflow.wait("deferred", killed["deferred"]) == "success"


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
    began = airflow.task("deferred", run_id, "wait")["start_date"]
    airflow.clear("deferred", run_id, "wait")
    # Its states in between may last for less than a look takes.
    deadline = time.monotonic() + 60
    while (task := airflow.task("deferred", run_id, "wait"))["start_date"] in (None, began):
        assert time.monotonic() < deadline, task
        time.sleep(0.5)
    airflow.wait_for_task("deferred", run_id, "wait", "deferred")
    hook.delete_media_infos(media_ids=[media_id])
    assert airflow.wait("deferred", run_id) == "success"
    assert airflow.xcom("deferred", run_id, "wait")["media"] == 1
    before = looks(ims, media_id)
    time.sleep(5)
    assert looks(ims, media_id) == before > 1


def test_a_deadline_survives_a_killed_triggerer(airflow: LocalAirflow, killed: dict[str, str]) -> None:
    run_id = killed["with_deadline"]
    assert airflow.wait("with_deadline", run_id) == "failed"
    began, ended = (datetime.fromisoformat(time) for time in run_times(airflow, run_id))
    assert 45 <= (ended - began).total_seconds() <= 75
    assert "AirflowSensorTimeout" in said(airflow, "with_deadline", run_id, "wait")


def test_source_stays_if_a_state_is_not_known(airflow: LocalAirflow, early: dict[str, Any]) -> None:
    run = early["unknown"]
    states = run.end()
    assert states["wait_for_renditions"] == "failed"
    assert states["delete_source"] == "upstream_failed"
    assert run.source_is_there
    assert "AirflowSensorTimeout" in said(airflow, *run.task("wait_for_renditions"))


def test_a_trigger_that_is_not_found(airflow: LocalAirflow, ims: Emulator) -> None:
    """The last test: on SQLite the next trigger has this one's id, which the triggerer takes for running."""
    (media_id,) = ims.seed([{"url": "oss://media-team/misplaced.mp4"}])
    run_id = airflow.trigger("misplaced", {"media_ids": [media_id]})
    assert airflow.wait("misplaced", run_id) == "failed"
    assert "TaskDeferralError" in said(airflow, "misplaced", run_id, "wait")


def looks(ims: Emulator, media_id: str) -> int:
    return sum(media_id in request["targets"] for request in ims.requests("BatchGetMediaInfos"))


def run_times(airflow: LocalAirflow, run_id: str) -> tuple[str, str]:
    run = airflow.request("GET", f"dags/with_deadline/dagRuns/{run_id.replace('+', '%2B')}").json()
    return run["start_date"], run["end_date"]
