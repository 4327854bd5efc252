"""The hook's operations against the emulator, which its connection leads to."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest

from airflow_provider_ims.api.times import write_time
from airflow_provider_ims.deletion.targets import read_targets
from airflow_provider_ims.emulator import Emulator
from airflow_provider_ims.exceptions import IMSAPIError, IMSGuardError, IMSPermissionError
from airflow_provider_ims.hooks.ims import IMSHook

BUCKET = "https://team.oss-cn-shanghai.aliyuncs.com"
HIGH, LOW = f"{BUCKET}/1/1080p.m3u8", f"{BUCKET}/1/480p.m3u8"


@pytest.fixture
def media_id(ims_emulator: Emulator) -> str:
    [media_id] = ims_emulator.seed([{"url": f"{BUCKET}/1.mp4", "streams": [HIGH, LOW]}])
    return media_id


def test_delete_play_info(hook: Callable[..., IMSHook], ims_emulator: Emulator, media_id: str) -> None:
    answer = hook().delete_play_info(media_id, file_urls=[HIGH, f"{BUCKET}/1.mp4", "oss://team/unknown"])
    assert answer.ignored == ("oss://team/unknown",)
    assert answer.forbidden == (f"{BUCKET}/1.mp4",)
    assert ims_emulator.medium(media_id)["streams"] == [LOW]
    assert ims_emulator.requests()[-1]["delete_physical_files"] is False


def test_delete_play_info_with_files(
    hook: Callable[..., IMSHook], ims_emulator: Emulator, media_id: str
) -> None:
    hook().delete_play_info(media_id, file_urls=[HIGH, LOW], delete_physical_files=True)
    assert ims_emulator.medium(media_id)["streams"] == []
    assert ims_emulator.requests()[-1]["delete_physical_files"] is True


def test_delete_play_info_needs_its_own_permission(
    hook: Callable[..., IMSHook], ims_emulator: Emulator, media_id: str
) -> None:
    ims_emulator.add_key("media-only", "s", actions=["ice:DeleteMediaInfos"])
    with pytest.raises(IMSPermissionError, match="ice:DeletePlayInfo"):
        hook(login="media-only", password="s").delete_play_info(media_id, file_urls=[HIGH])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"on_missing": "Fail"}, "on_missing is 'Fail'"),
        ({"delete_physical_files": "false"}, "delete_physical_files is 'false'"),
        ({"max_concurrency": 65}, "max_concurrency is 65"),
        ({"max_media": "1"}, "max_media is '1'"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_the_first_request(
    hook: Callable[..., IMSHook], ims_emulator: Emulator, media_id: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        hook().delete_media([media_id], **options)
    assert ims_emulator.stats()["requests"] == 0


def test_guards_hold_for_the_hook_too(
    hook: Callable[..., IMSHook], ims_emulator: Emulator, media_id: str, tmp_path: Path
) -> None:
    manifest = tmp_path / "ids.txt"
    manifest.write_text(media_id)
    with pytest.raises(IMSGuardError, match="more than max_media=0"):
        hook().delete_media([media_id], max_media=0)
    with pytest.raises(IMSGuardError, match="not the one that was approved"):
        hook().delete_media(read_targets(manifest=str(manifest)), manifest_digest="0" * 64)
    assert ims_emulator.media_ids() == [media_id]


@pytest.mark.parametrize(
    "named",
    [
        {"input_urls": ["oss://bucket/show/part,2.mp4"]},
        {"input_urls": ["oss://bucket"]},
        {"media_ids": ["a,b"]},
        {"media_ids": [None]},
    ],
)
def test_what_would_name_another_medium_is_refused_before_the_first_request(
    hook: Callable[..., IMSHook], ims_emulator: Emulator, named: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=next(iter(named))):
        hook().delete_media_infos(**named)
    assert ims_emulator.stats()["requests"] == 0


def at(seconds: int) -> str:
    return write_time(datetime.fromtimestamp(seconds, UTC))


@pytest.mark.parametrize("sort_by", ["asc", "desc", None])
@pytest.mark.parametrize("pages", ["whole", "first_100"])
def test_a_listing_is_whole_whatever_page_tokens_are_good_for(
    hook: Callable[..., IMSHook], ims_emulator: Emulator, sort_by: str | None, pages: str
) -> None:
    # A minute apart, and some seconds in which several were created.
    crowds = [
        {"url": f"oss://b/{n}-{one}", "created": at(n * 60)} for n in (99, 100, 299) for one in range(40)
    ]
    single = [{"url": f"oss://b/{n}", "created": at(n * 60)} for n in range(300)]
    ids = ims_emulator.seed([*single, *crowds])
    ims_emulator.add_fault("otherwise", pages=pages)
    listed = [medium.media_id for medium in hook().list_media_basic_infos(sort_by=sort_by)]
    assert sorted(listed) == sorted(ids)


def test_a_listing_that_cant_be_whole_says_so(hook: Callable[..., IMSHook], ims_emulator: Emulator) -> None:
    ims_emulator.seed([{"url": f"oss://b/{n}", "created": at(60)} for n in range(130)])
    ims_emulator.add_fault("otherwise", pages="first_100")
    listed = []
    with pytest.raises(IMSAPIError, match=r"counts 130 media .* shows 100; .*IncompleteListing"):
        listed.extend(hook().list_media_basic_infos())
    ims_emulator.reset()


def test_a_listing_goes_on_while_media_come_and_go(
    hook: Callable[..., IMSHook], ims_emulator: Emulator
) -> None:
    ids = ims_emulator.seed([{"url": f"oss://b/{n}", "created": at(n * 60)} for n in range(250)])
    ims_emulator.add_fault("otherwise", pages="first_100")
    listed = hook().list_media_basic_infos()
    seen = [next(listed).media_id]
    ims_emulator.seed([{"url": f"oss://b/new-{n}", "created": at(10**9 + n)} for n in range(30)])
    hook().delete_media_infos(media_ids=ids[100:115])
    seen += [medium.media_id for medium in listed]
    assert len(seen) == len(set(seen))
    assert {*ids[:100], *ids[115:]} <= {*seen}


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (None, "exactly one of media_ids and input_urls"),
        (7, r"media_ids is 7 \(int\), not a list of texts"),
        (b"aaaa", r"\(bytes\), not a list of texts"),
        ("a" * 32, "is the text"),
        ({"a": 1}, r"\(dict\), not a list of texts"),
        (pandas.DataFrame({"media_id": ["a"]}), r"\(DataFrame\), not a list of texts"),
        (numpy.array("a"), r"\(ndarray\), not a list of texts"),
        (numpy.array([]), "exactly one of media_ids and input_urls"),
    ],
    ids=repr,
)
def test_one_request_takes_lists_alone(
    hook: Callable[..., IMSHook], ims_emulator: Emulator, ids: Any, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        hook().delete_media_infos(media_ids=ids)
    if said.startswith("exactly"):
        said = "1 to 20 can be named|not a list of texts"
    with pytest.raises(ValueError, match=said):
        hook().batch_get_media_infos(ids)
    assert ims_emulator.stats()["requests"] == 0


@pytest.mark.parametrize("make", [list, tuple, iter, numpy.array, pandas.Series])
def test_one_request_takes_every_kind_of_list(
    hook: Callable[..., IMSHook], ims_emulator: Emulator, make: Any
) -> None:
    ids = ims_emulator.generate(2)
    assert [medium.media_id for medium in hook().batch_get_media_infos(make(ids))] == ids
    assert hook().delete_media_infos(media_ids=make(ids)).ignored == ()
    assert ims_emulator.media_ids() == []


@pytest.mark.parametrize("action", [None, "", 7, "Get Media", "GetMédia", "Get\ud800"], ids=repr)
def test_what_is_no_operation_is_refused(hook: Callable[..., IMSHook], action: Any) -> None:
    with pytest.raises(ValueError, match="not the name of an operation"):
        hook().call(action)
