"""The guard lets a run name what it made, and nothing else, however it is spelled or wherever it stands."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_ims.api import operations
from airflow_provider_ims.api.responses import Response
from tests.live.guard import _ALLOWED, ForeignTargetError, Guard
from tests.live.local import LocalService
from tests.live.media import SECOND, Media, make_media

RUN = "0123456789abcdef"
FOLDER = f"oss://media-team/ims-live/ims-live-{RUN}"
URL = f"https://media-team.oss-cn-shanghai.aliyuncs.com/ims-live/ims-live-{RUN}/a.mp4"
OWN = "a" * 32
FOREIGN = "b" * 32
FOREIGN_URL = "https://media-team.oss-cn-shanghai.aliyuncs.com/masters/a.mp4"


@pytest.fixture
def guard() -> Guard:
    guard = Guard(RUN, FOLDER)
    guard.adopt(OWN, URL)
    return guard


OWN_REQUESTS = [
    ("BatchGetMediaInfos", {"MediaIds": OWN}),
    ("GetMediaInfo", {"MediaId": OWN}),
    ("GetMediaInfo", {"InputURL": URL}),
    ("DeleteMediaInfos", {"MediaIds": OWN, "DeletePhysicalFiles": True}),
    ("DeleteMediaInfos", {"InputURLs": URL}),
    ("DeletePlayInfo", {"MediaId": OWN, "FileURLs": URL}),
    ("RegisterMediaInfo", {"InputURL": URL}),
    ("GetMediaConvertJob", {"JobId": OWN}),
    ("GetMediaProducingJob", {"JobId": OWN}),
    ("GetWorkflowTask", {"TaskId": OWN}),
    ("GetTranscodeJob", {"ParentJobId": OWN}),
    (
        "SubmitMediaConvertJob",
        {"Config": json.dumps({"Inputs": [{"InputFile": {"Media": OWN}}], "OutputFileBase": {"Media": URL}})},
    ),
    (
        "SubmitMediaProducingJob",
        {"Timeline": json.dumps({"T": [{"MediaId": OWN}]}), "OutputMediaConfig": f'{{"MediaURL": "{URL}"}}'},
    ),
    ("StartWorkflow", {"TaskInput": json.dumps({"Type": "Media", "Media": OWN}), "WorkflowId": "w"}),
]


def foreign(params: dict[str, object], own: str, other: str) -> dict[str, object]:
    return {
        name: value.replace(own, other) if isinstance(value, str) else value for name, value in params.items()
    }


@pytest.mark.parametrize(("action", "params"), OWN_REQUESTS)
def test_what_is_its_own_may_be_named(guard: Guard, action: str, params: dict[str, object]) -> None:
    guard.check(action, params)


@pytest.mark.parametrize(("action", "params"), OWN_REQUESTS)
@pytest.mark.parametrize("together", [False, True])
def test_what_is_foreign_may_not(
    guard: Guard, action: str, params: dict[str, object], together: bool
) -> None:
    for own, other in ((OWN, FOREIGN), (URL, FOREIGN_URL)):
        changed = foreign(params, own, f"{own},{other}" if together else other)
        if changed != params:
            with pytest.raises(
                ForeignTargetError, match=r"was not made by this run|is not in this run's folder"
            ):
                guard.check(action, changed)


@pytest.mark.parametrize("name", _ALLOWED)
def test_every_operation_was_tried(name: str) -> None:
    plain = {"ListMediaBasicInfos", "NoSuchOperationOfIMS"}
    assert name in {action for action, _ in OWN_REQUESTS} | plain


@pytest.mark.parametrize(
    ("action", "params"),
    [
        ("DeleteMediaInfos", {}),
        ("DeleteMediaInfos", {"MediaIds": ""}),
        ("DeleteMediaInfos", {"MediaIds": f"{OWN},"}),
        ("DeletePlayInfo", {"MediaId": OWN}),
        ("RegisterMediaInfo", {"InputURL": URL, "Overwrite": True}),
        ("ListMediaBasicInfos", {"MediaId": FOREIGN}),
        ("UpdateMediaInfo", {"MediaId": OWN}),
        ("DropSearchLib", {}),
        ("SetEventCallback", {}),
    ],
)
def test_what_nobody_thought_of_is_refused(guard: Guard, action: str, params: dict[str, object]) -> None:
    with pytest.raises(ForeignTargetError):
        guard.check(action, params)


@pytest.mark.parametrize(
    "url",
    [
        FOREIGN_URL,
        URL.replace("media-team", "other-team"),
        URL.replace("a.mp4", "../a.mp4"),
        URL.replace("a.mp4", "%2e%2e/a.mp4"),
        URL.replace("a.mp4", "%252e%252e%252Fa.mp4"),
        URL.replace("/a.mp4", "-other/a.mp4"),
        URL.replace("/a.mp4", ""),
        URL.replace("/a.mp4", "/"),
        f"oss://media-team/{RUN}/a.mp4",
        f"https://{RUN}.example.com/ims-live/ims-live-{RUN}/a.mp4",
        f"https://example.com/?{URL}",
        "vod://1",
        "",
    ],
)
def test_no_spelling_leads_out_of_the_folder(guard: Guard, url: str) -> None:
    assert not guard.owns_url(url)


@pytest.mark.parametrize(
    "config",
    [
        "{broken",
        "[" * 100_000,
        f'["{OWN}"]',
        f'{{"Media": "{OWN}", "Media": "{FOREIGN}"}}',
        f'{{"Media": "{FOREIGN}", "Media": "{OWN}"}}',
        f'{{"Media": "{OWN},{FOREIGN}"}}',
        f'{{"Media": ["{OWN}", "{FOREIGN}"]}}',
        '{"Media": 7}',
        '{"MediaId": null}',
        f'{{"MediaIds": "{OWN}"}}',
        f'{{"Url": "{URL}"}}',
        '{"OutputFileName": "../a.mp4"}',
        '{"OutputFileName": "a/b.mp4"}',
        '{"OutputFileName": "%2e%2e"}',
        '{"OutputFileName": ".."}',
        f'{{"ManifestName": "{OWN}"}}',
    ],
)
def test_what_nobody_thought_of_in_a_configuration_is_refused(guard: Guard, config: str) -> None:
    for action, name in (("SubmitMediaConvertJob", "Config"), ("SubmitMediaProducingJob", "Timeline")):
        with pytest.raises(ForeignTargetError):
            guard.check(action, {name: config})


NAMES = (
    st.sampled_from(["Media", "MediaId", "Inputs", "OutputFile", "MediaURL", "Outputs", "Other"]) | st.text()
)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from([FOREIGN, FOREIGN_URL]),
    lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner),
)


@given(DOCUMENTS, st.booleans())
def test_no_configuration_names_what_is_foreign(document: object, escaped: bool) -> None:
    """Wherever it stands, and however its characters are written."""
    guard = Guard(RUN, FOLDER)
    text = json.dumps(document)
    if escaped:
        text = text.replace("masters", r"\u006dasters").replace("bbbb", r"\u0062bbb")
    if FOREIGN in json.dumps(document) or FOREIGN_URL in json.dumps(document):
        with pytest.raises(ForeignTargetError):
            guard.check("SubmitMediaConvertJob", {"Config": text})


@given(st.text())
def test_no_id_that_was_not_made_passes(media_id: str) -> None:
    guard = Guard(RUN, FOLDER)
    guard.adopt(OWN, URL)
    made_up = guard.make_up("no.id")
    if media_id.strip().casefold() not in (OWN, made_up):
        with pytest.raises(ForeignTargetError):
            guard.check("DeleteMediaInfos", {"MediaIds": media_id})


@pytest.mark.parametrize(
    ("run_id", "folder"), [("", "oss://b/f"), ("0123", "oss://b/0123"), (RUN, "oss://b/f")]
)
def test_a_folder_that_is_not_the_run_s_alone_is_refused(run_id: str, folder: str) -> None:
    with pytest.raises(ValueError, match="must end in its id"):
        Guard(run_id, folder)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalService]:
    with LocalService() as service:
        for name, value in service.environment.items():
            monkeypatch.setenv(name, value)
        yield service


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection for what is refused before anything is sent."""
    connection = {
        "conn_type": "alibaba_ims",
        "login": "k",
        "password": "s",
        "extra": {"region": "cn-shanghai"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_IMS_LIVE", json.dumps({**connection, "host": "http://127.0.0.1:9"}))


def new_media(folder: str = LocalService.folder) -> Media:
    return make_media("ims_live", folder, RUN, 100, lambda said: None)


def test_no_part_of_the_provider_gets_past_it(service: LocalService) -> None:
    """The hook, and a whole run with its threads: each of 200 foreign media is refused before anything is sent."""
    hook, ids = new_media().hook, list(service.foreign)
    urls = [medium["url"] for medium in service.foreign.values()]
    calls = [
        lambda: hook.delete_media(ids),
        *(lambda one=one: hook.delete_media_infos(media_ids=[one]) for one in ids),
        *(lambda one=one: hook.delete_media_infos(input_urls=[one]) for one in urls),
        lambda: hook.delete_play_info(ids[0], file_urls=[urls[0]]),
        lambda: hook.get_media_info(ids[0]),
        lambda: hook.batch_get_media_infos(ids[:20]),
        lambda: hook.call("UpdateMediaInfo", MediaId=ids[0]),
    ]
    for call in calls:
        with pytest.raises(ForeignTargetError):
            call()
    assert service.emulator.requests() == []
    service.check_foreign()


def test_a_medium_that_is_shown_for_another_url_is_not_adopted(service: LocalService) -> None:
    """A service that takes one URL for another would have the run delete what is foreign."""
    media, foreign = new_media(), next(iter(service.foreign.values()))
    lost = media.url("lost.mp4")
    media.expect(lost)
    shown = operations._media(
        {"MediaId": foreign["media_id"], "MediaBasicInfo": {"InputURL": foreign["url"]}}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operations, "get_media_info", lambda *_, **__: Response(shown, "id", False))
        left = media.clean_up()
    assert [lost in one.what for one in left] == [True]
    service.check_foreign()


def test_cleaning_up_knows_only_its_own(service: LocalService) -> None:
    """Also with a foreign file beside the run's folder, and a medium whose id nobody heard of."""
    media = new_media()
    service.oss.put(service.bucket, f"ims-live/ims-live-{RUN}-other/a.mp4", b"foreign")
    media.make("a.mp4")
    lost = media.url("lost.mp4")
    media.path("lost.mp4").write_bytes(SECOND.read_bytes())
    media.expect(lost)
    service.emulator.seed([{"url": lost}])
    assert len(service.own_media()) == 2
    assert media.clean_up() == []
    assert service.own_media() == []
    assert service.own_files() == [f"ims-live/ims-live-{RUN}-other/a.mp4"]
    service.check_foreign()


@pytest.mark.parametrize("name", ["../a.mp4", "..", "", "/a.mp4/../../a.mp4"])
@pytest.mark.usefixtures("nowhere")
def test_no_file_outside_of_the_folder_is_written(name: str) -> None:
    with pytest.raises(ValueError, match="leads out"):
        new_media().path(name)


@pytest.mark.parametrize("folder", ["/tmp/here", "oss://bucket", "oss://bucket/", "s3://bucket/folder"])
@pytest.mark.usefixtures("nowhere")
def test_a_folder_must_be_one_in_oss(folder: str) -> None:
    with pytest.raises(ValueError, match=re.escape(folder.rstrip("/"))):
        new_media(folder)


def test_the_film_is_small() -> None:
    assert SECOND.stat().st_size < 4096
