"""Whether the file is gone too: asked of a real OSS client against the local OSS, through the hook."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_ims.api.identifiers import oss_region
from airflow_provider_ims.deletion.resolve import Outcome, TargetResult
from airflow_provider_ims.deletion.targets import Target, read_targets
from airflow_provider_ims.deletion.verify import FileVerifier
from airflow_provider_ims.emulator import EmulatedOSS, Emulator
from airflow_provider_ims.exceptions import IMSDeletionError
from airflow_provider_ims.files.oss import OSSFileSystem, get_fs
from airflow_provider_ims.files.storage import storage_path
from airflow_provider_ims.hooks.ims import IMSHook
from airflow_provider_ims.pytest_plugin import MakeConnection

BUCKET = "media-team"


@pytest.fixture
def hook(
    ims_oss: EmulatedOSS, make_ims_connection: MakeConnection, monkeypatch: pytest.MonkeyPatch
) -> IMSHook:
    make_ims_connection("ims_default")
    monkeypatch.setattr("airflow_provider_ims.deletion.run.LOOK_AGAIN_SECONDS", (0.1, 0.2))
    return IMSHook()


def seeded(ims: Emulator, keys: Iterable[str], bucket: str = BUCKET) -> dict[str, str]:
    """Register media with their files; return id -> URL."""
    urls = [f"https://{bucket}.oss-cn-shanghai.aliyuncs.com/{key}" for key in keys]
    ids = ims.seed([{"url": url} for url in urls])
    return dict(zip(ids, urls, strict=True))


def lines_of(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(result["report"]) / "part-00001.jsonl").open()]


@pytest.mark.parametrize("named_by", ["media_ids", "input_urls"])
def test_files_that_went_are_seen_to_be_gone(
    ims_emulator: Emulator, ims_oss: EmulatedOSS, hook: IMSHook, tmp_path: Path, named_by: str
) -> None:
    media = seeded(ims_emulator, [f"raw/{number:03}.mp4" for number in range(50)])
    ims_oss.put(BUCKET, "raw/000.mp4.bak", "another file")
    given = list(media if named_by == "media_ids" else media.values())
    result = hook.delete_media(
        read_targets(**{named_by: given}),
        delete_physical_files=True,
        verify_files=True,
        report_base=storage_path(str(tmp_path)),
    )
    assert (result["deleted"], result["files_left"]) == (50, 0)
    assert Counter(line["file"] for line in lines_of(result)) == {"gone": 50}
    assert "raw/000.mp4.bak" in ims_oss.names(BUCKET)


def test_a_file_that_stays_is_named_and_judged(
    ims_emulator: Emulator,
    ims_oss: EmulatedOSS,
    hook: IMSHook,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    media = seeded(ims_emulator, [f"raw/{number:03}.mp4" for number in range(30)])
    ims_oss.leave_files(BUCKET)
    options = {
        "delete_physical_files": True,
        "verify_files": True,
        "report_base": storage_path(str(tmp_path)),
    }
    with pytest.raises(IMSDeletionError, match="30 of 30 files left") as refused:
        hook.delete_media(list(media), on_files_left="fail", **options)
    result = refused.value.result
    assert (result["deleted"], result["files_left"]) == (30, 30)
    assert set(result["samples"]["files_left"]) == set(media.values())
    assert Counter(line["file"] for line in lines_of(result)) == {"left": 30}


def test_what_waits_for_files_is_not_said_to_be_asked_about_again(
    ims_emulator: Emulator,
    ims_oss: EmulatedOSS,
    hook: IMSHook,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("airflow_provider_ims.deletion.progress.FIRST_PAUSE", 0.3)
    monkeypatch.setattr("airflow_provider_ims.deletion.run.LOOK_AGAIN_SECONDS", (0.5, 0.5))
    caplog.set_level("INFO")
    media = list(seeded(ims_emulator, [f"raw/{number:03}.mp4" for number in range(30)]))
    ims_emulator.protect(media[:3], undeletable=True)
    ims_oss.leave_files(BUCKET)
    with pytest.raises(IMSDeletionError, match="3 of 30 failed"):
        hook.delete_media(media, delete_physical_files=True, verify_files=True)
    waits = "asking again about the last 3 targets, looking for the files of the last 27 targets"
    assert f"0 of 30 done (0 %), {waits}: nothing done" in caplog.messages


def test_what_cant_be_looked_at_is_unknown_and_says_why(
    ims_emulator: Emulator, ims_oss: EmulatedOSS, hook: IMSHook, tmp_path: Path
) -> None:
    (elsewhere,) = ims_emulator.seed([{"url": "https://media-team.oss-cn-beijing.aliyuncs.com/a.mp4"}])
    (foreign,) = ims_emulator.seed([{"url": "https://example.com/a.mp4"}])
    ((no_bucket, _),) = seeded(ims_emulator, ["a.mp4"], bucket="not-there-any-more").items()
    ims_oss.add_fault("error", operation="ListObjects", status=404, code="NoSuchBucket")
    result = hook.delete_media(
        [elsewhere, foreign, no_bucket],
        delete_physical_files=True,
        verify_files=True,
        report_base=storage_path(str(tmp_path)),
    )
    lines = {line["media_id"]: line for line in lines_of(result)}
    assert (result["deleted"], result["files_left"]) == (3, 0)
    assert {line["outcome"] for line in lines.values()} == {"deleted"}
    assert "cn-beijing" in lines[elsewhere]["reason"]
    assert "OSS" in lines[foreign]["reason"]
    assert "not-there-any-more" in lines[no_bucket]["reason"]
    assert {line["file"] for line in lines.values()} == {"unknown"}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"verify_files": True}, "verify_files.*delete_physical_files"),
        ({"verify_files": True, "preview": True}, "verify_files.*delete_physical_files"),
        ({"on_files_left": "fail"}, "on_files_left.*verify_files"),
        ({"on_files_left": "fail", "delete_physical_files": True}, "on_files_left.*verify_files"),
    ],
)
def test_what_would_look_at_no_file_is_refused(
    ims_emulator: Emulator, hook: IMSHook, options: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        hook.delete_media(["an-id"], **options)
    assert ims_emulator.requests() == []


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sets(st.text("ab/é中\U0001f600\ud7ff\ue000~!", min_size=1, max_size=6), min_size=1, max_size=25),
    st.data(),
)
def test_one_listing_tells_which_of_many_keys_are_there(
    bucket_of_keys: tuple[OSSFileSystem, EmulatedOSS], keys: set[str], data: st.DataObject
) -> None:
    store, oss = bucket_of_keys
    there = data.draw(st.sets(st.sampled_from(sorted(keys))))
    others = data.draw(st.sets(st.text("ab/é中", min_size=1, max_size=6), max_size=15)) - keys
    for name in oss.names("keys"):
        oss.remove("keys", name)
    for key in there | others:
        oss.put("keys", key, "x")
    assert store.existing("keys", keys) == there


@pytest.fixture
def bucket_of_keys(
    hook: IMSHook, ims_oss: EmulatedOSS, monkeypatch: pytest.MonkeyPatch
) -> tuple[OSSFileSystem, EmulatedOSS]:
    monkeypatch.setattr("airflow_provider_ims.files.oss._FIRST_PAGE", 2)  # so that there are some
    ims_oss.make_bucket("keys")
    return get_fs("ims_default"), ims_oss


def test_each_bucket_is_asked_once_whatever_the_order() -> None:
    asked: list[tuple[str, list[str]]] = []

    class Store:
        def existing(self, bucket: str, keys: Iterable[str]) -> set[str]:
            asked.append((bucket, sorted(keys)))
            return {"left"}

    results = [
        TargetResult(Target(place, str(place)), Outcome.DELETED, url=f"oss://{bucket}/{key}")
        for place, (bucket, key) in enumerate([("a", "left"), ("b", "gone"), ("a", "gone"), ("b", "left")])
    ]
    found = FileVerifier(Store(), None).look(results)
    assert [result.file for result in found] == ["left", "gone", "gone", "left"]
    assert sorted(asked) == [("a", ["gone", "left"]), ("b", ["gone", "left"])]


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://b.oss-cn-shanghai.aliyuncs.com/k", "cn-shanghai"),
        ("http://b.oss-us-west-1-internal.aliyuncs.com/k", "us-west-1"),
        ("oss://b/k", None),
        ("https://example.com/k", None),
    ],
)
def test_the_region_that_a_url_tells(url: str, region: str | None) -> None:
    assert oss_region(url) == region
