"""Which files a task says it dropped, and what OpenLineage makes of that where it is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_ims.api.identifiers import stored_object
from airflow_provider_ims.deletion.resolve import Outcome, TargetResult
from airflow_provider_ims.deletion.targets import Target
from airflow_provider_ims.emulator import Emulator
from airflow_provider_ims.exceptions import IMSDeletionError, IMSPermissionError
from airflow_provider_ims.operators.ims import IMSDeleteMediaInfosOperator
from airflow_provider_ims.operators.lineage import MAX_DATASETS, DroppedFiles
from airflow_provider_ims.operators.retention import IMSPlanMediaRetentionOperator
from tests.operators.test_ims import Task
from tests.operators.test_retention import NOW, context

ROOT = Path(__file__).parent.parent.parent
PLANNED = "planned"
# Runs DAGs in a process of its own, where OpenLineage's listener is set up anew.
RUN_DAGS = """
import json, sys
from pathlib import Path
from airflow.utils.db import initdb
from tests.test_example_dags import load, run
initdb()
confs = json.load(sys.stdin)
dags = load(Path(sys.argv[1]))
for dag_id, conf in confs.items():
    (task,) = run(dags[dag_id], conf).get_task_instances()
    print("STATE", dag_id, task.state)
"""

needs_openlineage = pytest.mark.skipif(
    find_spec("openlineage") is None, reason="OpenLineage's provider is not installed: make test-lineage"
)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("oss://media/raw/take 1.mp4", ("oss://media", "raw/take 1.mp4")),
        ("OSS://media/100%25.mp4", ("oss://media", "100%25.mp4")),
        ("https://media.oss-cn-shanghai.aliyuncs.com/raw/take%201.mp4", ("oss://media", "raw/take 1.mp4")),
        ("http://media.oss-cn-shanghai-internal.aliyuncs.com/a.mp4", ("oss://media", "a.mp4")),
        ("http://Media.OSS-cn-shanghai.aliyuncs.com/A#1.mp4", ("oss://media", "A#1.mp4")),
        ("https://media.oss-cn-shanghai.aliyuncs.com/a.mp4?Signature=abc", ("oss://media", "a.mp4")),
        ("https://cdn.example.com/a/b.mp4", ("https://cdn.example.com", "a/b.mp4")),
        ("https://cdn.example.com:8443/a", ("https://cdn.example.com:8443", "a")),
        ("vod://0a1b", None),
        ("oss://media/", None),
        ("oss://media", None),
        ("0123456789abcdef", None),
        ("", None),
    ],
)
def test_names_of_datasets(url: str, name: tuple[str, str] | None) -> None:
    assert stored_object(url) == name


def test_a_hundred_files_are_remembered_and_no_query() -> None:
    dropped = DroppedFiles()
    for number in range(MAX_DATASETS + 50):
        dropped.record(TargetResult(Target(number, f"oss://b/{number}?Signature=s"), Outcome.DELETED))
    assert dropped.urls == [f"oss://b/{number}" for number in range(MAX_DATASETS)]


@pytest.fixture
def library(ims_emulator: Emulator, ims_connection: str) -> list[dict[str, Any]]:
    """60 media, oldest first; a plan takes the third score of them."""
    ims_emulator.seed(
        {
            "url": f"https://media.oss-cn-shanghai.aliyuncs.com/raw/{number}.mp4",
            "created": (NOW - timedelta(days=100 - number)).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "tags": PLANNED if 20 <= number < 40 else "other",
        }
        for number in range(60)
    )
    return ims_emulator.library()


def dropped_by(**arguments: Any) -> set[str]:
    """Run the operator, whatever comes of it; give the files that it says it dropped."""
    operator = IMSDeleteMediaInfosOperator(task_id="it", **arguments)
    with suppress(IMSDeletionError, IMSPermissionError):
        operator.execute({"ti": Task()})  # type: ignore[typeddict-item]
    assert operator._dropped
    return set(operator._dropped.urls)


def removed_files(ims_emulator: Emulator) -> set[str]:
    return {deletion["url"] for deletion in ims_emulator.deleted() if deletion["files"]}


def test_of_urls_those_that_are_deleted_count_whatever_becomes_of_the_others(
    ims_emulator: Emulator, library: list[dict[str, Any]]
) -> None:
    ims_emulator.protect([medium["media_id"] for medium in library[:5]])
    urls = [medium["url"] for medium in library[:40]]
    dropped = dropped_by(input_urls=[*urls, "oss://media-team/never-there.mp4"], delete_physical_files=True)
    assert dropped == removed_files(ims_emulator) == set(urls[5:])


def test_a_lost_answer_makes_no_difference(ims_emulator: Emulator, library: list[dict[str, Any]]) -> None:
    ims_emulator.add_fault("reset", action="DeleteMediaInfos", when="after", times=1)
    urls = [medium["url"] for medium in library[:10]]
    assert dropped_by(input_urls=urls, delete_physical_files=True) == set(urls)


def test_a_run_that_is_cut_tells_what_it_did_until_then(
    ims_emulator: Emulator, library: list[dict[str, Any]]
) -> None:
    ims_emulator.add_fault("refuse", action="DeleteMediaInfos", code="Forbidden.RAM", skip=1)
    urls = [medium["url"] for medium in library]
    dropped = dropped_by(input_urls=urls, delete_physical_files=True)
    assert dropped == removed_files(ims_emulator)
    assert 0 < len(dropped) < len(urls)


@pytest.mark.parametrize(
    "arguments", [{"delete_physical_files": False}, {"delete_physical_files": True, "preview": True}]
)
def test_files_that_stay_are_not_dropped(
    ims_emulator: Emulator, library: list[dict[str, Any]], arguments: dict[str, Any]
) -> None:
    assert dropped_by(input_urls=[medium["url"] for medium in library], **arguments) == set()


def test_ids_alone_tell_no_file(library: list[dict[str, Any]]) -> None:
    assert (
        dropped_by(media_ids=[medium["media_id"] for medium in library], delete_physical_files=True) == set()
    )


def test_what_is_dropped_before_a_deferral_is_known_after_it(
    ims_emulator: Emulator, library: list[dict[str, Any]]
) -> None:
    ims_emulator.add_fault("lagging_reads", milliseconds=60_000)
    urls = [medium["url"] for medium in library[:5]]
    arguments: dict[str, Any] = {
        "task_id": "it",
        "input_urls": urls,
        "delete_physical_files": True,
        "wait_for_completion": True,
        "deferrable": True,
    }
    with pytest.raises(TaskDeferred) as deferred:
        IMSDeleteMediaInfosOperator(**arguments).execute({"ti": Task()})  # type: ignore[typeddict-item]
    kept = json.loads(json.dumps(deferred.value.kwargs))
    later = IMSDeleteMediaInfosOperator(**arguments)
    later.execute_complete({"ti": Task()}, {"status": "over"}, **kept)  # type: ignore[typeddict-item]
    assert later._dropped
    assert sorted(later._dropped.urls) == sorted(urls)


def test_nothing_of_openlineage_is_imported_unless_it_asks() -> None:
    script = (
        "import sys, airflow_provider_ims.operators.ims, airflow_provider_ims.operators.lineage\n"
        "names = ('openlineage', 'airflow.providers.common.compat.openlineage')\n"
        "print([name for name in sys.modules if name.startswith(names)])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.fixture
def events(ims_emulator: Emulator, library: list[dict[str, Any]], tmp_path: Path) -> dict[str, Any]:
    """The last event of each DAG of ``delete_files.py``, run by Airflow with OpenLineage writing to a file."""
    ims_emulator.protect([medium["media_id"] for medium in library[:2]])
    plan = IMSPlanMediaRetentionOperator(
        task_id="plan",
        manifest=str(tmp_path / "plan.jsonl"),
        created_before=NOW,
        require_tags=PLANNED,
        max_percent=None,
    ).execute(context())  # type: ignore[arg-type]
    assert plan["selected"] == 20
    confs = {
        "delete_files_by_input_urls": {"input_urls": [medium["url"] for medium in library[:20]]},
        "delete_files_by_manifest": {"manifest": plan["manifest"]},
        "delete_files_by_media_ids": {"media_ids": [medium["media_id"] for medium in library[40:]]},
    }
    home, log = tmp_path / "home", tmp_path / "events.jsonl"
    home.mkdir()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW__")}
    done = subprocess.run(
        [sys.executable, "-c", RUN_DAGS, str(ROOT / "tests" / "dags" / "delete_files.py")],
        input=json.dumps(confs),
        env=inherited
        | {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "tests" / "dags"),
            "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(
                {"type": "file", "log_file_path": str(log), "append": True}
            ),
            "AIRFLOW__OPENLINEAGE__NAMESPACE": "here",
            "PYTHONPATH": f"{ROOT}:{ROOT / 'dev'}",
        },
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "STATE delete_files_by_input_urls failed" in done.stdout, done.stdout[-3000:]  # 2 are protected
    assert "STATE delete_files_by_manifest success" in done.stdout, done.stdout[-3000:]
    last = {}
    for line in log.read_text().splitlines():
        event = json.loads(line)
        if event["job"]["name"].endswith(".it") and event["eventType"] in ("COMPLETE", "FAIL"):
            last[event["job"]["name"].removesuffix(".it")] = event
    return last


@needs_openlineage
def test_the_event_names_the_files_that_airflow_saw_dropped(
    events: dict[str, Any], ims_emulator: Emulator, library: list[dict[str, Any]]
) -> None:
    def names(event: dict[str, Any]) -> set[tuple[str, str]]:
        for dataset in event["inputs"]:
            change = dataset["facets"]["lifecycleStateChange"]
            assert change["lifecycleStateChange"] == "DROP"
            assert change["previousIdentifier"] == {key: dataset[key] for key in ("namespace", "name")}
        return {(dataset["namespace"], dataset["name"]) for dataset in event["inputs"]}

    removed = removed_files(ims_emulator)
    by_url, by_plan, by_id = (
        events[f"delete_files_by_{name}"] for name in ("input_urls", "manifest", "media_ids")
    )
    assert (by_url["eventType"], by_plan["eventType"], by_id["eventType"]) == ("FAIL", "COMPLETE", "COMPLETE")
    assert names(by_url) == {stored_object(medium["url"]) for medium in library[2:20]}
    assert names(by_plan) == {stored_object(medium["url"]) for medium in library[20:40]}
    assert names(by_id) == set()
    assert {medium["url"] for medium in library[2:]} == removed
