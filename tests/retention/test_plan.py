"""The plan's file: its bytes, its caps, and what is refused of it at deletion."""

from __future__ import annotations

import hashlib
import json
import random
import resource
import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_ims.api import operations
from airflow_provider_ims.api.errors import GuardError
from airflow_provider_ims.api.operations import MediaInfo
from airflow_provider_ims.deletion.targets import read_targets
from airflow_provider_ims.exceptions import IMSTransientError
from airflow_provider_ims.files.manifest import ManifestReader
from airflow_provider_ims.files.storage import StorageError
from airflow_provider_ims.retention.page import write_page
from airflow_provider_ims.retention.plan import Plan, check_plan, file_size, read_caps, write_plan
from airflow_provider_ims.retention.policy import make_policy

AS_OF = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
REGION, HOST = "cn-shanghai", "ice.cn-shanghai.aliyuncs.com"


def medium(age_days: int, number: int = 0, **fields: Any) -> MediaInfo:
    media_id = f"{age_days:016d}{number:016d}"
    return replace(
        MediaInfo(
            media_id=media_id,
            input_url=f"https://bucket.oss-cn-shanghai.aliyuncs.com/{media_id}.mp4",
            title=f"Take {number}",
            media_type="video",
            source="oss",
            business_type="general",
            status="Normal",
            created=(AS_OF - timedelta(days=age_days)).strftime("%Y-%m-%dT%H:%M:%SZ"),
            deleted=None,
            tags=("b", "a"),
            size=1000,
        ),
        **fields,
    )


def plan(
    path: Path, media: list[MediaInfo], *, max_media: Any = None, max_percent: Any = None, **given: Any
) -> Plan:
    return write_plan(
        str(path),
        media,
        policy=make_policy(as_of=AS_OF, **({"older_than": "P90D"} | given)),
        caps=read_caps(max_media, max_percent),
        as_of=AS_OF,
        region=REGION,
        host=HOST,
    )


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


LIBRARY = [medium(age, number) for age in (10, 100, 200, 300) for number in range(5)]


def test_first_line_and_rows(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "plan.jsonl"
    written = plan(path, LIBRARY, exclude_tags="hold")
    header, *rows = lines(path)
    assert header == written.header
    assert "media_id" not in header
    assert (header["plan"], header["refused"], header["region"], header["host"]) == (1, None, REGION, HOST)
    assert header["as_of"] == "2026-11-23T12:00:00Z"
    assert header["policy"]["exclude_tags"] == ["hold"]
    counts = {
        name: header[name] for name in ("population", "selected", "percent", "bytes", "kept", "undecided")
    }
    assert counts == {
        "population": 20,
        "selected": 15,
        "percent": 75.0,
        "bytes": 15000,
        "kept": {"older_than": 5},
        "undecided": 0,
    }
    assert len(rows) == 15
    assert rows[0] == {
        "media_id": f"{300:016d}{0:016d}",
        "input_url": f"https://bucket.oss-cn-shanghai.aliyuncs.com/{300:016d}{0:016d}.mp4",
        "title": "Take 0",
        "media_type": "video",
        "created": "2026-01-27T12:00:00Z",
        "size": 1000,
        "tags": ["a", "b"],
        "reason": "300 days old",
    }


def test_the_same_library_gives_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    digests = set()
    for seed in range(10):
        media = LIBRARY.copy()
        random.Random(seed).shuffle(media)
        written = plan(tmp_path / "plan.jsonl", media, keep_latest=3)
        assert written.digest == hashlib.sha256((tmp_path / "plan.jsonl").read_bytes()).hexdigest()
        digests.add(written.digest)
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("kept_from", "changed"),
    [
        (medium(300, 0), medium(300, 0, size=1001)),
        (medium(300, 0), medium(300, 0, tags=("a", "hold"))),
        (medium(10, 0), medium(10, 0, status="Blocked")),
    ],
)
def test_a_changed_library_gives_another_digest(
    tmp_path: Path, kept_from: MediaInfo, changed: MediaInfo
) -> None:
    media = [changed if one == kept_from else one for one in LIBRARY]
    assert media != LIBRARY
    assert plan(tmp_path / "1", LIBRARY).digest != plan(tmp_path / "2", media).digest


def test_the_deletion_reads_what_was_written(tmp_path: Path) -> None:
    written = plan(tmp_path / "plan.jsonl", LIBRARY)
    targets = read_targets(manifest=str(tmp_path / "plan.jsonl"))
    assert targets.manifest_digest == written.digest
    assert targets.plan_header == written.header
    assert [target.columns for target in targets] == lines(tmp_path / "plan.jsonl")[1:]
    check_plan(targets.plan_header, region=REGION, host=HOST, rows=len(targets))


HOSTILE = [
    "\ud800",
    "a\nb\r\n{}",
    '"},{"media_id":"x"}',
    "\u202egpj.exe",
    "\u2028\x00\x1b[2J",
    "字幕",
    "x" * 10_000,
    "",
]


def test_hostile_titles_stay_in_their_line(tmp_path: Path) -> None:
    media = [medium(200, number, title=title) for number, title in enumerate(HOSTILE)]
    plan(tmp_path / "plan.jsonl", media)
    raw = (tmp_path / "plan.jsonl").read_bytes()
    assert raw.count(b"\n") == len(HOSTILE) + 1
    rows = [row for row in ManifestReader(str(tmp_path / "plan.jsonl")) if row.columns]
    assert [row.columns["title"] for row in rows if row.columns] == HOSTILE
    assert "字幕".encode() in raw
    columns = [target.columns for target in read_targets(manifest=str(tmp_path / "plan.jsonl"))]
    assert [row["title"] for row in columns if row] == HOSTILE


# --- one medium must not spoil the plan ---


@pytest.mark.parametrize(
    ("fields", "by"),
    [
        ({"title": "x" * 2**20}, "undecided: too long a title, URL or tags"),
        ({"tags": ("x" * 2**19, "y" * 2**19)}, "undecided: too long a title, URL or tags"),
        ({"input_url": "https://b/" + "\u2028" * 2**19}, "undecided: too long a title, URL or tags"),
        ({"media_id": "\ud800"}, "undecided: media id"),
        ({"media_id": "a,b"}, "undecided: media id"),
        ({"media_id": "a" * 129}, "undecided: media id"),
        ({"media_type": "\ud800"}, None),
        ({"title": "x" * 2**19, "tags": ("y" * 2**18,)}, None),
    ],
)
def test_a_medium_that_would_spoil_the_plan_is_kept(
    tmp_path: Path, fields: dict[str, Any], by: str | None
) -> None:
    path = tmp_path / "plan.jsonl"
    written = plan(path, [*LIBRARY, medium(200, 99, **fields)])
    assert written.header["kept"] == {"older_than": 5} | ({by: 1} if by else {})
    assert written.header["selected"] == 15 + (by is None)
    assert written.header["undecided"] == (by is not None)
    targets = read_targets(manifest=str(path))
    check_plan(targets.plan_header or {}, region=REGION, host=HOST, rows=len(targets))
    write_page(written)


@pytest.mark.parametrize(
    "size", ["9" * 400, "9" * 5000, int("9" * 400), -1, "-1", 2**63, "1e3", 1.5, True, None, "٣" * 30]
)
def test_an_absurd_size_is_unknown(tmp_path: Path, size: Any) -> None:
    shown = {"MediaId": "a" * 32, "FileInfoList": [{"FileBasicInfo": {"FileSize": size}}]}
    assert operations._media(shown).size is None
    written = plan(tmp_path / "plan.jsonl", [medium(200, number, size=2**63 - 1) for number in range(3)])
    write_page(written)
    assert "EB" in written.describe()[0]


# --- where it is written ---


def never_listed() -> Iterator[MediaInfo]:
    pytest.fail("the library was listed before the plan's path was tried")
    yield


def test_a_place_that_can_not_be_written_is_told_before_the_library_is_listed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "target").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("file/plan.jsonl", "folder", "link", "dangling"):
        with pytest.raises(GuardError, match=f"manifest: .*{name.partition('/')[0]}.* No request was sent"):
            plan(tmp_path / name, never_listed())  # type: ignore[arg-type]
    assert (tmp_path / "target").read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


def test_what_goes_wrong_on_the_way_leaves_the_plan_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "plan.jsonl"
    plan(path, LIBRARY)
    before = path.read_bytes()

    def broken() -> Iterator[MediaInfo]:
        yield from LIBRARY
        raise IMSTransientError("gone", code="x", action="x")

    with pytest.raises(IMSTransientError):
        plan(path, broken())  # type: ignore[arg-type]
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_plan_that_is_there(tmp_path: Path) -> None:
    """As far as a process can't write files of more than a megabyte."""
    path = tmp_path / "plan.jsonl"
    plan(path, LIBRARY)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))
        with pytest.raises(StorageError, match=r"plan\.jsonl can't be written: File too large"):
            plan(path, [medium(200, number, title="x" * 10_000) for number in range(120)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# --- caps ---


@pytest.mark.parametrize(
    ("caps", "says"),
    [
        ({"max_media": 14}, "15 media are selected, more than max_media=14"),
        ({"max_media": 0}, "more than max_media=0"),
        ({"max_percent": 74.9}, r"15 of 20 media are selected \(75.0%\), more than max_percent=74.9"),
        ({"max_percent": 0}, "more than max_percent=0"),
        ({"max_media": 15, "max_percent": 75}, None),
        ({"max_media": "15", "max_percent": "75.0"}, None),
        ({"max_media": None, "max_percent": None}, None),
    ],
)
def test_caps_mark_the_whole_plan(tmp_path: Path, caps: dict[str, Any], says: str | None) -> None:
    path = tmp_path / "plan.jsonl"
    written = plan(path, LIBRARY, **caps)
    assert len(lines(path)) == 16, "nothing is cut: the whole selection is there to be looked at"
    if says is None:
        assert written.header["refused"] is None
        return
    targets = read_targets(manifest=str(path))
    with pytest.raises(GuardError, match=f"not to be deleted: .*{says}"):
        check_plan(targets.plan_header or {}, region=REGION, host=HOST, rows=len(targets))


@pytest.mark.parametrize(
    "caps",
    [
        *({"max_media": value} for value in (-1, 1.5, True, "", "many", "1e3")),
        *(
            {"max_percent": value}
            for value in (-0.1, 100.1, True, "", "all", "1_0", float("nan"), float("inf"))
        ),
    ],
)
def test_caps_that_make_no_sense_are_refused_by_name(caps: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(caps))):
        read_caps(caps.get("max_media"), caps.get("max_percent"))


# --- guards at deletion ---


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, None),
        ({"plan": 2}, "format 2"),
        ({"plan": None}, "format None"),
        ({"refused": "too many"}, "not to be deleted: too many"),
        ({"refused": ""}, "not to be deleted"),
        ({"refused": False}, "not to be deleted"),
        ({"region": "cn-beijing"}, "made for cn-beijing"),
        ({"region": None}, "made for ice.cn-shanghai.aliyuncs.com, but"),
        ({"host": "ice-vpc.cn-shanghai.aliyuncs.com"}, "but the connection is to cn-shanghai"),
        ({"selected": 14}, "says that it names 14 media, but it names 15"),
        ({"selected": None}, "says that it names None"),
        ({"policy": {}}, "policy can't be read"),
        ({"policy": None}, "policy can't be read"),
    ],
)
def test_guards(tmp_path: Path, change: dict[str, Any], says: str | None) -> None:
    header = plan(tmp_path / "plan.jsonl", LIBRARY).header | change
    if says is None:
        check_plan(header, region=REGION, host=HOST, rows=15)
        return
    with pytest.raises(GuardError, match=says):
        check_plan(header, region=REGION, host=HOST, rows=15)


@pytest.mark.parametrize("name", ["plan", "refused", "region", "host", "selected", "policy"])
def test_a_plan_that_lacks_a_part_is_refused(tmp_path: Path, name: str) -> None:
    header = plan(tmp_path / "plan.jsonl", LIBRARY).header
    del header[name]
    with pytest.raises(GuardError):
        check_plan(header, region=REGION, host=HOST, rows=15)


@pytest.mark.parametrize("cut", [2, 100, 1000, 2000, 4000])
def test_a_plan_that_is_cut_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "plan.jsonl"
    plan(path, LIBRARY)
    whole = path.read_bytes()
    for keep in (len(whole) - cut, whole.rfind(b"\n", 0, len(whole) - cut) + 1):
        path.write_bytes(whole[:keep])
        with pytest.raises((GuardError, ValueError)):  # noqa: PT012 - either may notice
            targets = read_targets(manifest=str(path))
            check_plan(targets.plan_header or {}, region=REGION, host=HOST, rows=len(targets))


# --- in words ---


def test_the_first_line_of_the_log(tmp_path: Path) -> None:
    path = tmp_path / "plan.jsonl"
    written = plan(path, [*LIBRARY, medium(400, status=None), medium(150, size=None)])
    assert written.describe() == [
        "Selected 16 of 22 media (72.73%), 15.0 kB or more, created 2026-01-27T12:00:00Z to 2026-08-15T12:00:00Z: "
        f"{path}, SHA-256 {written.digest}.",
        "Kept 5 by older_than",
        "Kept 1 by undecided: status",
    ]


def test_nothing_selected_has_a_line_of_its_own(tmp_path: Path) -> None:
    written = plan(tmp_path / "plan.jsonl", LIBRARY, title_pattern="^Take.*$")
    assert written.describe()[0] == "Selected 0 of 20 media. Most were kept by title_pattern: 20."
    assert plan(tmp_path / "plan.jsonl", []).describe() == ["Selected 0 of 0 media."]


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (1_700_000_000, "1.7 GB"),
        (10**19, "10.0 EB"),
    ],
)
def test_sizes_in_words(count: int, words: str) -> None:
    assert file_size(count) == words


def test_months_and_types(tmp_path: Path) -> None:
    written = plan(tmp_path / "plan.jsonl", [*LIBRARY, medium(500, media_type="audio", size=7)])
    assert written.header["months"]["2026-01"] == [5, 5]
    assert written.header["months"]["2026-11"] == [5, 0]
    assert written.header["types"] == {"audio": [1, 7], "video": [15, 15000]}
