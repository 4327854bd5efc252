"""The operator as a DAG author meets it: arguments, templates, XCom, failures."""

from __future__ import annotations

import copy
import json
import pickle
import re
from collections.abc import Callable
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_ims.emulator import Emulator
from airflow_provider_ims.exceptions import IMSAuthError, IMSDeletionError, IMSGuardError
from airflow_provider_ims.operators.ims import IMSDeleteMediaInfosOperator
from airflow_provider_ims.pytest_plugin import MakeConnection
from tests.operators.conftest import Ran

pytestmark = pytest.mark.usefixtures("ims_connection")

RunDag = Callable[..., Ran]
UNKNOWN_IDS = [f"{number:032x}" for number in range(10)]


class Task:
    """What a run needs of a task instance, and what it pushed."""

    def __init__(self, try_number: int = 1, map_index: int = -1) -> None:
        self.dag_id, self.run_id, self.task_id = "clean up", "manual__2026-01-01T00:00:00+00:00", "it"
        self.try_number, self.map_index = try_number, map_index
        self.pushed: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


def execute(task: Task | None = None, **arguments: Any) -> Any:
    return IMSDeleteMediaInfosOperator(task_id="it", **arguments).execute({"ti": task or Task()})  # type: ignore[typeddict-item]


def test_a_real_run_by_airflow(ims_emulator: Emulator, run_dag: RunDag) -> None:
    library = ims_emulator.generate(137)
    ims_emulator.protect(library[:5])
    ran = run_dag("delete_by_conf_and_warn", {"media_ids": library + UNKNOWN_IDS + library[:3]})
    assert ran.state == "success"
    wanted = {"requested": 147, "duplicates": 3, "deleted": 132, "missing": 10, "forbidden": 5}
    assert {name: ran.xcom[name] for name in wanted} == wanted
    assert set(ims_emulator.media_ids()) == set(library[:5])


def test_with_default_policies_the_same_run_fails_after_every_batch_was_tried(
    ims_emulator: Emulator, run_dag: RunDag
) -> None:
    library = ims_emulator.generate(137)
    ims_emulator.protect(library[:5])
    ran = run_dag("delete_by_conf", {"media_ids": library + UNKNOWN_IDS})
    assert ran.state == "failed"  # at once, though it has retries: a retry would bury the result
    assert (ran.xcom["deleted"], ran.xcom["forbidden"], ran.xcom["missing"]) == (132, 5, 10)
    assert set(ims_emulator.media_ids()) == set(library[:5])


def test_the_error_carries_the_result_and_survives_pickling(ims_emulator: Emulator) -> None:
    library = ims_emulator.generate(30)
    ims_emulator.protect(library[:5])
    task = Task()
    with pytest.raises(IMSDeletionError, match="5 of 30 forbidden") as failed:
        execute(task, media_ids=library)
    assert failed.value.result["deleted"] == 25
    assert task.pushed == {"return_value": failed.value.result}
    again = pickle.loads(pickle.dumps(failed.value))
    assert (type(again), str(again), again.result) == (
        IMSDeletionError,
        str(failed.value),
        failed.value.result,
    )


@pytest.mark.parametrize(
    ("name", "nothing"),
    [
        *product(("media_ids", "input_urls"), (None, [], "", "[]", "None")),
        *product(("manifest",), (None, "", "[]", "None")),
    ],
)
def test_nothing_to_delete_is_a_success_with_a_warning_and_no_request(
    ims_emulator: Emulator, name: str, nothing: Any, caplog: pytest.LogCaptureFixture
) -> None:
    ims_emulator.generate(5)
    result = execute(**{name: nothing})
    assert result["requested"] == result["deleted"] == result["requests"] == 0
    assert ims_emulator.stats()["requests"] == 0
    assert len(ims_emulator.media_ids()) == 5
    assert "Nothing to delete" in caplog.text


def test_an_empty_file_deletes_nothing(ims_emulator: Emulator, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").touch()
    assert execute(manifest=str(tmp_path / "ids.txt"))["requested"] == 0
    assert ims_emulator.stats()["requests"] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"media_ids": "a b"}, "'a b' is not a media id"),
        ({"media_ids": ["a,b"]}, "'a,b' is not a media id"),
        ({"input_urls": ["https://bucket/a,b"]}, "'https://bucket/a,b' has a comma"),
        ({"input_urls": "ftp://bucket/a"}, "'ftp://bucket/a' is not"),
        ({"media_ids": "a", "on_forbidden": "explode"}, "on_forbidden is 'explode'"),
        ({"media_ids": "a", "on_missing": None}, "on_missing is None"),
        ({"media_ids": "a", "max_media": -1}, "max_media is -1"),
        ({"media_ids": "a", "max_media": "many"}, "max_media is 'many'"),
        ({"media_ids": "a", "max_concurrency": 0}, "max_concurrency is 0"),
        ({"media_ids": "a", "delete_physical_files": "no"}, "delete_physical_files is 'no'"),
        ({"media_ids": "a", "preview": 1}, "preview is 1"),
        ({"media_ids": "a", "deferrable": "no"}, "deferrable is 'no'"),
    ],
)
def test_bad_input_is_refused_by_name_before_the_first_request(
    ims_emulator: Emulator, arguments: dict[str, Any], said: str
) -> None:
    ims_emulator.generate(5)
    with pytest.raises(ValueError, match=re.escape(said)):
        execute(**arguments)
    assert ims_emulator.stats()["requests"] == 0


def test_two_inputs_are_refused_when_the_dag_is_parsed() -> None:
    with pytest.raises(ValueError, match="media_ids and input_urls are given"):
        IMSDeleteMediaInfosOperator(task_id="it", media_ids=["a"], input_urls=["oss://b/k"])


@pytest.mark.parametrize(
    ("connection", "said"),
    [
        ({"host": None, "extra": {"region": None}}, "region"),
        ({"extra": {"read_timeout": "soon"}}, "'read_timeout' is 'soon'"),
        ({"login": None}, "login"),
        ({"password": ""}, "password"),
    ],
)
def test_a_connection_that_makes_no_sense_is_refused_with_its_field(
    ims_emulator: Emulator, make_ims_connection: MakeConnection, connection: dict[str, Any], said: str
) -> None:
    make_ims_connection(**{"extra": {}, **connection})
    with pytest.raises(ValueError, match="connection 'ims_default'") as refused:
        execute(media_ids="a")
    assert said in str(refused.value)
    assert ims_emulator.stats()["requests"] == 0


def test_a_connection_that_does_not_exist_is_named() -> None:
    with pytest.raises(Exception, match="nowhere"):
        execute(media_ids="a", ims_conn_id="nowhere")


def test_a_cap_is_a_guard_and_never_a_truncated_run(ims_emulator: Emulator) -> None:
    library = ims_emulator.generate(5)
    with pytest.raises(IMSGuardError, match="5 media are named, more than max_media=4"):
        execute(media_ids=library, max_media=4)
    assert ims_emulator.stats()["requests"] == 0
    assert execute(media_ids=library, max_media=5)["deleted"] == 5


def test_a_manifest_of_another_digest_is_not_deleted(ims_emulator: Emulator, tmp_path: Path) -> None:
    library = ims_emulator.generate(3)
    (tmp_path / "ids.txt").write_text("\n".join(library))
    with pytest.raises(IMSGuardError, match="not the one that was approved"):
        execute(manifest=str(tmp_path / "ids.txt"), manifest_digest="0" * 64)
    assert ims_emulator.deleted() == []


def test_a_report_lies_where_airflows_own_logs_would(ims_emulator: Emulator, tmp_path: Path) -> None:
    library = ims_emulator.generate(3)
    result = execute(Task(try_number=2, map_index=4), media_ids=library, report=str(tmp_path))
    folder = (
        tmp_path / "dag_id=clean~20up" / "run_id=manual__2026-01-01T00~3A00~3A00~2B00~3A00" / "task_id=it"
    ) / "map_index=4/attempt=2"
    assert result["report"] == str(folder)
    lines = [json.loads(line) for line in (folder / "part-00001.jsonl").read_text().splitlines()]
    assert {line["media_id"] for line in lines} == set(library)
    assert all(line["outcome"] == "deleted" and not line["inferred"] for line in lines)


def test_a_dry_run_deletes_nothing(ims_emulator: Emulator, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    IMSDeleteMediaInfosOperator(task_id="it", media_ids=ims_emulator.generate(3)).dry_run()
    assert ims_emulator.deleted() == []
    assert "3 would be deleted" in caplog.text


def test_a_dry_run_leaves_nothing_behind(ims_emulator: Emulator, tmp_path: Path) -> None:
    IMSDeleteMediaInfosOperator(
        task_id="it", media_ids=ims_emulator.generate(3), report=str(tmp_path), wait_for_completion=True
    ).dry_run()
    assert len(ims_emulator.media_ids()) == 3
    assert {request["action"] for request in ims_emulator.requests()} == {"BatchGetMediaInfos"}
    assert list(tmp_path.iterdir()) == []


def test_airflow_may_copy_the_operator() -> None:
    operator = IMSDeleteMediaInfosOperator(task_id="it", media_ids=["a"])
    operator.on_kill()
    assert copy.deepcopy(operator).media_ids == ["a"]


def test_the_log_says_what_where_and_how_it_ended(
    ims_emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    library = ims_emulator.generate(30)
    caplog.set_level("INFO")
    execute(media_ids=library + library[:2], delete_physical_files=True)
    messages = [record.message for record in caplog.records if "airflow_provider_ims" in record.name]
    last = messages[-1]
    assert f"region cn-shanghai, {ims_emulator.host}" in caplog.text
    assert "Deleting 30 media by media id" in caplog.text
    assert "files in the bucket are deleted too" in caplog.text
    assert "2 named more than once were dropped" in caplog.text
    assert last.startswith("All 30 targets have an outcome: 30 deleted. 2 requests in ")


def test_it_waits_until_what_it_deleted_is_gone_from_reads(ims_emulator: Emulator) -> None:
    library = ims_emulator.generate(30)
    ims_emulator.protect(library[:2])
    ims_emulator.add_fault("lagging_reads", milliseconds=1500)
    result = execute(media_ids=library, on_forbidden="warn", wait_for_completion=True, poll_interval=0.3)
    assert result["deleted"] == 28
    looks = ims_emulator.requests("BatchGetMediaInfos")
    assert len(looks) > 2
    assert not {*library[:2]} & {media_id for look in looks for media_id in look["targets"]}


def test_with_a_report_it_waits_for_what_the_report_calls_deleted(
    ims_emulator: Emulator, tmp_path: Path
) -> None:
    library = ims_emulator.generate(5)
    ims_emulator.add_fault("lagging_reads", milliseconds=500)
    result = execute(media_ids=library, report=str(tmp_path), wait_for_completion=True, poll_interval=0.2)
    assert result["deleted"] == 5
    assert ims_emulator.stats()["by_action"]["BatchGetMediaInfos"] > 1


def test_media_that_dont_go_within_the_time_out_fail_with_the_result(ims_emulator: Emulator) -> None:
    library = ims_emulator.generate(3)
    ims_emulator.add_fault("lagging_reads", milliseconds=60_000)
    task = Task()
    with pytest.raises(IMSDeletionError, match="3 were still pending") as late:
        execute(
            task,
            media_ids=library,
            wait_for_completion=True,
            poll_interval=0.3,
            execution_timeout=timedelta(seconds=1),
        )
    assert late.value.result["deleted"] == 3
    assert task.pushed == {"return_value": late.value.result}


def test_a_refusal_while_it_waits_leaves_the_result_behind(ims_emulator: Emulator) -> None:
    library = ims_emulator.generate(3)
    ims_emulator.add_fault(
        "refuse", code="InvalidAccessKeyId.Inactive", status=400, action="BatchGetMediaInfos"
    )
    task = Task()
    with pytest.raises(IMSAuthError):
        execute(task, media_ids=library, wait_for_completion=True)
    assert task.pushed["return_value"]["deleted"] == 3


def test_it_defers_only_while_something_is_still_there(ims_emulator: Emulator) -> None:
    library = ims_emulator.generate(3)
    arguments: dict[str, Any] = {"wait_for_completion": True, "deferrable": True}
    assert execute(media_ids=library[:1], **arguments)["deleted"] == 1
    ims_emulator.add_fault("lagging_reads", milliseconds=60_000)
    operator = IMSDeleteMediaInfosOperator(task_id="it", media_ids=library[1:], **arguments)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute({"ti": Task()})  # type: ignore[typeddict-item]
    _, carried = deferred.value.trigger.serialize()
    assert sorted(carried["media_ids"]) == sorted(library[1:])
    result = deferred.value.kwargs["result"]
    assert result["deleted"] == 2
    context: Any = {"ti": Task()}
    assert operator.execute_complete(context, {"status": "over"}, result) == result
    with pytest.raises(IMSDeletionError, match="2 were still pending"):
        operator.execute_complete(context, {"status": "timed_out", "pending": 2}, result)
