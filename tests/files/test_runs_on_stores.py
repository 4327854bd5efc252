"""The whole work on each kind of store: plan, approve, delete, report, wait, kill and resume, split and merge."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_ims.api.errors import GuardError
from airflow_provider_ims.deletion.checkpoint import CheckpointStore
from airflow_provider_ims.deletion.run import DeletionRun
from airflow_provider_ims.deletion.targets import read_targets
from airflow_provider_ims.emulator import Emulator
from airflow_provider_ims.emulator.oss import LocalOSS
from airflow_provider_ims.exceptions import IMSGuardError
from airflow_provider_ims.files.report import column_folder
from airflow_provider_ims.files.storage import StorageError, list_names, read_whole, storage_path, write_whole
from airflow_provider_ims.hooks.ims import IMSHook
from airflow_provider_ims.pytest_plugin import MakeConnection
from airflow_provider_ims.retention.listing import list_whole
from airflow_provider_ims.retention.page import write_page
from airflow_provider_ims.retention.plan import Plan, read_caps, write_plan
from airflow_provider_ims.retention.policy import make_policy
from airflow_provider_ims.sharding import merge_results, split_manifest
from airflow_provider_ims.triggers.wait import MediaWait
from tests.deletion.conftest import MemoryStore
from tests.stores import Store

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def hook(ims_emulator: Emulator, make_ims_connection: MakeConnection) -> IMSHook:
    make_ims_connection("ims_default")
    return IMSHook()


def library(ims: Emulator, count: int) -> list[str]:
    """Register media, half of which are older than 90 days; return the ids of those."""
    old = NOW - timedelta(days=100)
    ids = ims.seed(
        {
            "url": f"oss://media-team/{number}.mp4",
            "created": (old - timedelta(seconds=number) if number % 2 else NOW - timedelta(days=1)).strftime(
                "%Y-%m-%dT%H:%M:%SZ"
            ),
            "title": f"Clip {number} — 片段",
        }
        for number in range(count)
    )
    return [media_id for number, media_id in enumerate(ids) if number % 2]


def plan(hook: IMSHook, path: str) -> Plan:
    written = write_plan(
        path,
        list_whole(hook.client, until=NOW),
        policy=make_policy(as_of=NOW, older_than="P90D"),
        caps=read_caps(None, None),
        as_of=NOW,
        region=hook.region,
        host=hook.host,
    )
    write_page(written)
    return written


def lines_of(report: str) -> list[dict[str, Any]]:
    folder = storage_path(report)
    names = list_names(folder)
    assert all(name.startswith("part-") for name in names), names
    return [json.loads(line) for name in names for line in read_whole(folder / name).splitlines()]


def report_base(store: Store) -> Any:
    return column_folder(
        f"{store.url}/reports", {"dag_id": "d", "run_id": "manual__2026-11-25T01:00:00+00:00", "task_id": "t"}
    )


def test_plan_approve_delete_report_and_wait(ims_emulator: Emulator, hook: IMSHook, store: Store) -> None:
    old = library(ims_emulator, 120)
    planned = plan(hook, f"{store.url}/plans/plan.jsonl")
    assert planned.header["selected"] == len(old)
    assert store.content_type("plans/plan.jsonl.html") in (None, "text/html", "text/html; charset=utf-8")

    with pytest.raises(IMSGuardError, match="not the one that was approved"):
        hook.delete_media(
            read_targets(manifest=str(planned.path)),
            manifest_digest=f"{0:064x}",
            report_base=report_base(store),
        )
    assert not ims_emulator.deleted()

    result = hook.delete_media(
        read_targets(manifest=planned.path, manifest_digest=planned.digest),
        manifest_digest=planned.digest,
        report_base=report_base(store),
    )
    assert (result["deleted"], result["requested"]) == (len(old), len(old))
    report = str(report_base(store) / "attempt=1")
    lines = lines_of(report)
    assert sorted(line["media_id"] for line in lines) == sorted(old)
    assert {line["title"] for line in lines} == {f"Clip {number} — 片段" for number in range(1, 120, 2)}

    named = read_targets(manifest=report, from_report=True)
    wait = MediaWait(hook, named.kind, (target.value for target in named), path=report, digest=named.digest)
    assert wait.is_over()
    assert store.unfinished() == 0


def test_a_list_of_ids_is_deleted_and_a_second_start_has_a_folder_of_its_own(
    ims_emulator: Emulator, hook: IMSHook, store: Store
) -> None:
    ids = ims_emulator.generate(45)
    write_whole(storage_path(f"{store.url}/ids.txt"), ["\n".join(ids).encode()])
    for attempt in (1, 2):
        result = hook.delete_media(
            read_targets(manifest=f"{store.url}/ids.txt"), report_base=report_base(store), on_missing="ignore"
        )
        assert result["report"].endswith(f"attempt={attempt}")
        assert Counter(
            line["outcome"] for line in lines_of(str(report_base(store) / f"attempt={attempt}"))
        ) == {"deleted" if attempt == 1 else "missing": 45}


@pytest.mark.parametrize("saves", [2, 4])
def test_a_killed_run_goes_on_in_its_report(
    ims_emulator: Emulator, hook: IMSHook, store: Store, monkeypatch: pytest.MonkeyPatch, saves: int
) -> None:
    class Killed(BaseException):
        pass

    ids = ims_emulator.generate(400)
    ims_emulator.add_fault("delay", milliseconds=10)
    state, left = MemoryStore(), saves
    save = CheckpointStore.save

    def mortal_save(self: CheckpointStore, *arguments: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        save(self, *arguments)

    def run() -> dict[str, Any]:
        return DeletionRun(
            hook.client,
            read_targets(media_ids=ids),
            report_base=report_base(store),
            store=state,
            max_concurrency=4,
        ).execute()

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointStore, "save", mortal_save)
        with pytest.raises(Killed):
            run()
    result = run()
    assert (result["deleted"], result["resumed"]) == (400, True)
    assert [line["media_id"] for line in lines_of(str(report_base(store) / "attempt=1"))] == sorted(ids)


@pytest.mark.parametrize("faults", [[("late_listing", {"seconds": 60})], [("delay", {"seconds": 0.3})]])
def test_nothing_of_a_journal_is_left(
    ims_emulator: Emulator, hook: IMSHook, local_oss: LocalOSS, faults: list[tuple[str, dict[str, Any]]]
) -> None:
    """Whatever a listing shows, and while the last of its files are being written."""
    local_oss.make_bucket("late")
    for kind, fields in faults:
        local_oss.add_fault(kind, operation="PutObject", **fields)
    ids = ims_emulator.generate(400)
    ims_emulator.add_fault("delay", milliseconds=30)
    hook.delete_media(ids, report_base=storage_path("oss://oss_store@late/reports"), max_concurrency=4)
    written = [one["key"] for one in local_oss.requests if one["operation"] == "PutObject"]
    assert sum("_journal" in key for key in written) >= 2
    assert local_oss.names("late") == ["reports/attempt=1/part-00001.jsonl"]


def test_a_listing_that_is_late_hides_nothing_of_a_report(
    ims_emulator: Emulator, hook: IMSHook, local_oss: LocalOSS
) -> None:
    local_oss.make_bucket("late")
    local_oss.add_fault("late_listing", seconds=60)
    ids = ims_emulator.generate(130)
    base = storage_path("oss://oss_store@late/reports")
    run = hook.deletion_run(read_targets(media_ids=ids), report_base=base)
    result = run.execute()
    assert list(run.gone() or ()) == sorted(ids)
    assert [target.value for target in read_targets(manifest=result["report"], from_report=True)] == sorted(
        ids
    )
    # Nor is another start's report written over.
    again = hook.delete_media(ids, report_base=base, on_missing="ignore")
    assert again["report"] == f"{base}/attempt=2"


def test_a_report_that_lost_lines_is_not_waited_for_as_if_it_were_whole(
    ims_emulator: Emulator, hook: IMSHook, store: Store
) -> None:
    run = hook.deletion_run(read_targets(media_ids=ims_emulator.generate(45)), report_base=report_base(store))
    part = storage_path(run.execute()["report"]) / "part-00001.jsonl"
    write_whole(part, read_whole(part).splitlines(keepends=True)[:40])
    with pytest.raises(StorageError, match=r"has 40 lines, and 45 were written"):
        list(run.gone() or ())
    part.unlink()
    with pytest.raises(StorageError, match=r"has 0 lines, and 45 were written"):
        list(run.gone() or ())


def test_a_folder_that_is_no_report_is_not_taken_for_one_that_names_nobody(store: Store) -> None:
    folder = report_base(store)
    write_whole(folder / "attempt=1" / "part-00001.jsonl", [b'{"media_id": "a", "outcome": "deleted"}\n'])
    with pytest.raises(ValueError, match=r"holds no part-00001\.jsonl"):
        read_targets(manifest=str(folder), from_report=True)


def test_shards_are_split_deleted_and_merged(ims_emulator: Emulator, hook: IMSHook, store: Store) -> None:
    old = library(ims_emulator, 200)
    planned = plan(hook, f"{store.url}/plan.jsonl")
    shards = split_manifest(str(planned.path), f"{store.url}/shards", 3, manifest_digest=planned.digest)
    results = [
        hook.delete_media(
            read_targets(manifest=shard["manifest"]),
            manifest_digest=shard["manifest_digest"],
            max_media=shard["max_media"],
            report_base=report_base(store) / f"map_index={number}",
        )
        for number, shard in enumerate(shards)
    ]
    merged = merge_results(shards, results)
    assert (merged["deleted"], merged["shards"]) == (len(old), 3)


def test_what_cant_be_written_or_read_ends_before_the_first_request(
    ims_emulator: Emulator, hook: IMSHook, store: Store
) -> None:
    ids = ims_emulator.generate(20)
    before = store.buckets()
    requests = ims_emulator.stats()["requests"]
    with pytest.raises(ValueError, match="does not exist"):
        read_targets(manifest=f"{store.url}/nowhere.txt")
    if store.kind != "local":
        with pytest.raises(GuardError, match="No request was sent to IMS"):
            hook.delete_media(ids, report_base=storage_path(f"{store.elsewhere}/reports"))
        with pytest.raises(ValueError, match="does not exist"):
            read_targets(manifest=f"{store.elsewhere}/ids.txt")
    assert ims_emulator.stats()["requests"] == requests
    assert store.buckets() == before
