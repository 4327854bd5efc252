"""What a policy selects: held against a naive selection that was written for this test alone."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pendulum
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_ims.api.operations import MediaInfo
from airflow_provider_ims.retention.filters import read_duration
from airflow_provider_ims.retention.plan import read_caps, write_plan
from airflow_provider_ims.retention.policy import (
    RetentionPolicy,
    Selection,
    make_policy,
    read_policy,
    why_kept,
)

AS_OF = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
DAY = timedelta(days=1)


def medium(media_id: str = "a" * 32, **fields: Any) -> MediaInfo:
    """A medium that the simplest policy selects."""
    return replace(
        MediaInfo(
            media_id=media_id,
            input_url=f"https://bucket.oss-cn-shanghai.aliyuncs.com/{media_id}.mp4",
            title="Trailer",
            media_type="video",
            source="oss",
            business_type="general",
            status="Normal",
            created="2026-01-01T00:00:00Z",
            deleted=None,
            tags=(),
            size=1000,
        ),
        **fields,
    )


def policy(**given: Any) -> RetentionPolicy:
    if "created_before" not in given:
        given.setdefault("older_than", "P90D")
    return make_policy(as_of=AS_OF, **given)


def selected(media: list[MediaInfo], chosen: RetentionPolicy) -> list[str]:
    return sorted(found.media_id for _, found in Selection(chosen).pick(media))


def kept_by(one: MediaInfo, **given: Any) -> str | None:
    """By which filter a medium is kept; None if it is selected."""
    selection = Selection(policy(**given))
    found = list(selection.pick([one]))
    assert selection.kept.total() + len(found) == selection.population == 1
    return next(iter(selection.kept), None)


# --- the filters ---


@pytest.mark.parametrize(
    ("fields", "by"),
    [
        ({}, None),
        ({"created": "2026-08-25T11:59:59Z"}, None),
        ({"created": "2026-08-25T12:00:00Z"}, "older_than"),
        ({"created": "2026-08-25T19:59:59+08:00"}, None),
        ({"created": "2026-08-25T20:00:00+08:00"}, "older_than"),
        ({"created": "2027-01-01T00:00:00Z"}, "older_than"),
        ({"status": "Transcoding"}, "status"),
        ({"status": "Preparing"}, "status"),
        ({"status": "normal"}, None),
        ({"deleted": "2026-11-01T00:00:00Z", "status": "Deleted"}, "already deleted"),
        ({"deleted": "2026-11-01T00:00:00Z"}, None),
        ({"deleted": "2026-01-01T00:00:00Z", "status": "Deleted"}, "status"),
    ],
)
def test_age_and_status(fields: dict[str, Any], by: str | None) -> None:
    assert kept_by(medium(**fields)) == by


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"created": None}, "creation time"),
        ({"created": "last year"}, "creation time"),
        ({"created": "2026-01-01"}, "creation time"),
        ({"created": "2026-01-01T00:00:00"}, "creation time"),
        ({"tags": None}, "tags"),
        ({"status": None}, "status"),
        ({"media_type": None}, "media_type"),
    ],
)
def test_what_cannot_be_read_is_kept_under_every_policy(fields: dict[str, Any], what: str) -> None:
    assert kept_by(medium(**fields)) == f"undecided: {what}"
    selection = Selection(policy())
    assert not list(selection.pick([medium(**fields)]))
    assert selection.undecided == 1


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("source", {"source": "oss"}),
        ("business_type", {"business_type": "general"}),
        ("title", {"title_pattern": "*"}),
    ],
)
def test_what_cannot_be_read_and_is_asked_for_is_kept(field: str, given: dict[str, Any]) -> None:
    assert kept_by(medium(**{field: None})) is None
    assert kept_by(medium(**{field: None}), **given) == f"undecided: {field}"


@pytest.mark.parametrize(
    ("tags", "by"),
    [
        (("draft",), None),
        (("draft", "legal-hold"), "exclude_tags"),
        (("draft", "Legal-Hold"), "exclude_tags"),
        (("draft", "ｌｅｇａｌ－ｈｏｌｄ"), "exclude_tags"),
        (("draft", "legal-hold\u200f"), "exclude_tags"),
        (("draft", "\ufefflegal\u00ad-hold\ufe0f"), "exclude_tags"),
        (("draft", "legal-hold\u3000"), "exclude_tags"),
        (("draft", "legal-hold-lifted"), None),
        (("Draft",), "require_tags"),
        ((), "require_tags"),
        (("legal-hold",), "exclude_tags"),
    ],
)
def test_denials_beat_everything(tags: tuple[str, ...], by: str | None) -> None:
    assert kept_by(medium(tags=tags), require_tags=["draft"], exclude_tags="legal-hold") == by


@pytest.mark.parametrize("tags", [("a",), ("b",), ("c",), ("a", "c"), ("A", "b")])
def test_every_required_tag_is_required(tags: tuple[str, ...]) -> None:
    assert kept_by(medium(tags=tags), require_tags=["a", "b"]) == "require_tags"
    assert kept_by(medium(tags=("a", "b", *tags)), require_tags=["a", "b"]) is None


def test_a_denial_counts_even_if_nothing_else_can_be_read() -> None:
    hidden = medium(tags=("keep",), status=None, created=None, media_type=None)
    assert kept_by(hidden, exclude_tags=["keep"]) == "exclude_tags"


@pytest.mark.parametrize(
    ("pattern", "takes"),
    [("Trailer", True), ("T*", True), ("*ail*", True), ("trailer", False), ("rail", False), ("^T.*$", False)],
)
def test_a_title_has_to_fit_as_a_whole(pattern: str, takes: bool) -> None:
    assert (kept_by(medium(), title_pattern=pattern) is None) == takes


# --- the newest are kept ---


def aged(*days: int, **fields: Any) -> list[MediaInfo]:
    """Media so many days old, with ids that sort against their age."""
    return [
        medium(f"{1000 - age:032d}", created=(AS_OF - age * DAY).strftime("%Y-%m-%dT%H:%M:%SZ"), **fields)
        for age in days
    ]


def ages_selected(media: list[MediaInfo], **given: Any) -> list[int]:
    return sorted(1000 - int(media_id) for media_id in selected(media, policy(**given)))


@pytest.mark.parametrize("order", [1, -1])
def test_the_newest_are_kept_whatever_the_order(order: int) -> None:
    media = aged(100, 200, 300, 400, 500)[::order]
    assert ages_selected(media, keep_latest=2) == [300, 400, 500]
    assert ages_selected(media, keep_latest=5) == []
    assert ages_selected(media, keep_latest=50) == []


def test_the_too_young_are_among_the_newest() -> None:
    assert ages_selected(aged(1, 2, 100, 200), keep_latest=3) == [200]
    assert ages_selected(aged(1, 2, 100, 200), keep_latest=2) == [100, 200]


def test_what_other_filters_keep_does_not_count_as_newest() -> None:
    media = (
        aged(100, 110, tags=("hold",)) + aged(120, status="Blocked") + aged(130, tags=None) + aged(200, 300)
    )
    assert ages_selected(media, keep_latest=1, exclude_tags="hold") == [300]


def test_equal_times_are_told_apart_by_id_and_times_by_their_moment() -> None:
    same = [medium(f"{number:032d}", created="2026-01-01T00:00:00Z") for number in (3, 1, 2)]
    assert selected(same, policy(keep_latest=1)) == [f"{number:032d}" for number in (1, 2)]
    # As text, the first would be the newer one.
    zones = [
        medium("1" * 32, created="2026-01-01T09:00:00+10:00"),
        medium("2" * 32, created="2026-01-01T01:00:00Z"),
    ]
    assert selected(zones, policy(keep_latest=1)) == ["1" * 32]


# --- what makes no sense is refused ---


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"older_than": None}, "older_than and created_before"),
        ({"older_than": "P1D", "created_before": "2026-01-01"}, "older_than and created_before"),
        *(
            ({"older_than": value}, "older_than")
            for value in ("", "None", "90", 90, True, "P0D", "-P1D", "PT0S")
        ),
        *(
            ({"older_than": value}, "older_than")
            for value in ("now", "2026-01-01", timedelta(0), -DAY, "P9999Y")
        ),
        *(
            ({"created_before": value}, "created_before")
            for value in ("", "None", "now", "12:00", "P90D", 20260101)
        ),
        ({"created_before": "2026-01-01T00:00:00"}, "time zone"),
        ({"created_before": datetime(2026, 1, 1)}, "time zone"),
        *(
            ({name: value}, name)
            for name in ("media_type", "source", "business_type", "status", "require_tags", "exclude_tags")
            for value in ("", "None", "[]", [], (), "[None]", ["a", ""], [None], {"a": 1}, 7, "['a'", "a,,b")
        ),
        ({"status": None}, "status"),
        *(({"title_pattern": value}, "title_pattern") for value in ("", " ", "None", 7)),
        *(({"keep_latest": value}, "keep_latest") for value in (0, -1, True, 1.5, "", "none", "²")),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_by_name(given: dict[str, Any], names: str) -> None:
    with pytest.raises(ValueError, match=names):
        policy(**given)


@pytest.mark.parametrize(
    ("given", "limit"),
    [
        ({"older_than": "P90D"}, "2026-08-25T12:00:00Z"),
        ({"older_than": timedelta(days=90)}, "2026-08-25T12:00:00Z"),
        ({"older_than": pendulum.duration(days=90)}, "2026-08-25T12:00:00Z"),
        ({"older_than": " P3M "}, "2026-08-23T12:00:00Z"),
        ({"older_than": pendulum.duration(years=1, months=1)}, "2025-10-23T12:00:00Z"),
        ({"older_than": "PT36H"}, "2026-11-22T00:00:00Z"),
        ({"created_before": "2026-01-01"}, "2026-01-01T00:00:00Z"),
        ({"created_before": date(2026, 1, 1)}, "2026-01-01T00:00:00Z"),
        ({"created_before": pendulum.date(2026, 1, 1)}, "2026-01-01T00:00:00Z"),
        ({"created_before": "2026-01-01T08:00:00+08:00"}, "2026-01-01T00:00:00Z"),
        (
            {"created_before": datetime(2026, 1, 1, 8, tzinfo=timezone(8 * timedelta(hours=1)))},
            "2026-01-01T00:00:00Z",
        ),
        ({"created_before": pendulum.datetime(2026, 1, 1)}, "2026-01-01T00:00:00Z"),
        ({"created_before": "2099-01-01"}, "2026-11-23T12:00:00Z"),
    ],
)
def test_limits(given: dict[str, Any], limit: str) -> None:
    assert policy(**given).as_json()["created_before"] == limit


@pytest.mark.parametrize(
    "tags", ["a,b", " a , b ", ["a", "b"], ("b", "a"), {"a", "b"}, "['a', 'b']", '["a", "b"]']
)
def test_spellings_of_a_list(tags: Any) -> None:
    assert policy(exclude_tags=tags).exclude_tags == ("a", "b")


def test_durations_are_spelled_alike() -> None:
    for spelling in ("P90D", "PT2160H", timedelta(days=90), pendulum.duration(weeks=12, days=6)):
        assert policy(older_than=spelling).older_than == "P90D"
    assert policy(older_than="P1Y2M3DT4H5M6S").older_than == "P1Y2M3DT4H5M6S"


def test_a_policy_survives_its_plan() -> None:
    chosen = policy(
        media_type="video",
        source=["oss", "vod"],
        title_pattern="T*",
        require_tags="a",
        exclude_tags="b",
        keep_latest=3,
    )
    assert read_policy(json.loads(json.dumps(chosen.as_json()))) == chosen


@pytest.mark.parametrize("broken", [None, [], {}, "policy"])
def test_a_policy_that_lacks_filters_is_not_guessed(broken: Any) -> None:
    with pytest.raises(ValueError, match="policy"):
        read_policy(broken)
    whole = policy().as_json()
    for name in whole:
        with pytest.raises(ValueError, match="policy"):
            read_policy({key: value for key, value in whole.items() if key != name})


# --- a planned medium is looked at again ---


@pytest.mark.parametrize(
    ("now", "why"),
    [
        ({}, None),
        ({"size": None, "input_url": None}, None),
        ({"deleted": "2026-11-22T00:00:00Z", "status": "Deleted"}, None),
        # A DeletedTime alone is no proof, and must not spare a medium the second look.
        ({"deleted": "2026-11-22T00:00:00Z"}, None),
        ({"deleted": "2026-11-22T00:00:00Z", "tags": ("draft", "hold")}, "carries the tag"),
        ({"deleted": "2026-11-22T00:00:00Z", "status": "Blocked"}, "status is Blocked"),
        ({"tags": ("draft", "hold")}, "carries the tag"),
        ({"tags": ()}, "lacks the tag"),
        ({"tags": None}, "tags can't be read"),
        ({"status": "Transcoding"}, "status is Transcoding"),
        ({"status": None}, "status can't be read"),
        ({"media_type": "audio"}, "media_type is audio"),
        ({"title": "Feature"}, "title does not match"),
        ({"created": "2026-11-20T00:00:00Z"}, "was created 2026-11-20"),
        ({"created": "2026-01-01T00:00:01Z"}, "was created 2026-01-01T00:00:01Z"),
        ({"created": None}, "at an unknown time"),
        ({"created": "soon"}, "was created soon"),
    ],
)
def test_a_planned_medium_that_changed_is_left_alone(now: dict[str, Any], why: str | None) -> None:
    given = policy(require_tags="draft", exclude_tags="hold", title_pattern="T*", media_type="video")
    planned = medium(tags=("draft",))
    row = {"media_id": planned.media_id, "created": planned.created}
    found = why_kept(read_policy(given.as_json()), row, replace(planned, **now))
    assert (found is None) == (why is None)
    assert (why or "") in (found or "")


# --- against a naive selection ---


def naive(media: list[MediaInfo], given: dict[str, Any]) -> list[MediaInfo]:
    """The policy once more, as plainly as can be: sort all, throw out what must stay."""

    def utc(one: MediaInfo) -> float:
        return datetime.strptime(one.created, "%Y-%m-%dT%H:%M:%S%z").timestamp()  # type: ignore[arg-type]

    def passes(one: MediaInfo) -> bool:
        if one.tags is None or not one.status or not one.media_type:
            return False
        try:
            utc(one)
        except (TypeError, ValueError):
            return False
        for name in ("media_type", "source", "business_type"):
            if given.get(name) and (getattr(one, name) or "").lower() not in [x.lower() for x in given[name]]:
                return False
        if one.status.lower() not in [status.lower() for status in given["status"]]:
            return False
        if given.get("title_pattern") and not (one.title and fnmatchcase(one.title, given["title_pattern"])):
            return False
        if any(tag.lower() in [x.lower() for x in one.tags] for tag in given.get("exclude_tags") or []):
            return False
        return all(tag in one.tags for tag in given.get("require_tags") or [])

    candidates = sorted(filter(passes, media), key=lambda one: (utc(one), one.media_id))
    keep = given.get("keep_latest") or 0
    old = candidates[: max(0, len(candidates) - keep)]
    return [one for one in old if utc(one) < AS_OF.timestamp() - given["days"] * 86400]


TAGS = ["keep", "legal-hold", "draft", "transcoded", "Draft"]
pool_media = st.builds(
    medium,
    media_id=st.uuids().map(lambda value: value.hex),
    title=st.sampled_from([None, "Trailer", "tmp-1", "tmp-2", "[x]", "<b>"]),
    media_type=st.sampled_from(["video", "video", "Video", "audio", "image", None]),
    source=st.sampled_from(["oss", "oss", "vod", None]),
    business_type=st.sampled_from(["general", "cover", None]),
    status=st.sampled_from(["Normal"] * 6 + ["Preparing", "Transcoding", None]),
    created=st.one_of(
        st.integers(0, 40).map(lambda days: (AS_OF - days * DAY).strftime("%Y-%m-%dT%H:%M:%SZ")),
        st.integers(0, 40 * 24).map(
            lambda hours: (
                (AS_OF - timedelta(hours=hours))
                .astimezone(timezone(timedelta(hours=hours % 25 - 12)))
                .isoformat()
            )
        ),
        st.sampled_from([None, "", "2026-01-01", "soon"]),
    ),
    deleted=st.sampled_from([None] * 9 + ["2026-11-01T00:00:00Z"]),
    tags=st.one_of(st.lists(st.sampled_from(TAGS), max_size=3).map(tuple), st.none()),
    size=st.one_of(st.none(), st.integers(0, 10**12)),
)
policies = st.fixed_dictionaries(
    {
        "days": st.integers(1, 41),
        "status": st.sampled_from([["Normal"], ["Normal", "Preparing"], ["transcoding"]]),
    },
    optional={
        "media_type": st.sampled_from([["video"], ["audio", "VIDEO"], ["text"]]),
        "source": st.sampled_from([["oss"], ["vod", "oss"]]),
        "business_type": st.sampled_from([["general"], ["cover"]]),
        "title_pattern": st.sampled_from(["tmp-*", "*", "T*r", "[[]x]"]),
        "require_tags": st.lists(st.sampled_from(TAGS), min_size=1, max_size=2),
        "exclude_tags": st.lists(st.sampled_from(TAGS), min_size=1, max_size=2),
        "keep_latest": st.integers(1, 60),
    },
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plans")


@given(
    shapes=st.lists(pool_media, min_size=1, max_size=40, unique_by=lambda one: one.media_id),
    given_policy=policies,
    copies=st.sampled_from([1, 1, 10, 3000]),
    order=st.randoms(use_true_random=False),
)
@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_plan_is_what_a_naive_selection_gives(
    shapes: list[MediaInfo], given_policy: dict[str, Any], copies: int, order: Any, folder: Path
) -> None:
    media = [
        one if number < len(shapes) else replace(one, media_id=f"{number:032x}")
        for number, one in enumerate(shapes * -(-max(copies, len(shapes)) // len(shapes)))
    ]
    order.shuffle(media)
    filters = {name: value for name, value in given_policy.items() if name != "days"}
    chosen = policy(older_than=timedelta(days=given_policy["days"]), **filters)
    plan = write_plan(
        str(folder / "plan.jsonl"),
        media,
        policy=chosen,
        caps=read_caps(None, None),
        as_of=AS_OF,
        region="cn-shanghai",
        host="ice.cn-shanghai.aliyuncs.com",
    )
    rows = [json.loads(line) for line in (folder / "plan.jsonl").read_text(encoding="utf-8").splitlines()]
    expected = naive(media, given_policy)
    assert [row["media_id"] for row in rows[1:]] == [one.media_id for one in expected]
    header = plan.header
    assert header["selected"] == len(expected)
    assert header["population"] == len(media) == header["selected"] + sum(header["kept"].values())
    assert header["bytes"] == sum(one.size or 0 for one in expected)
    assert Counter(row["media_type"] for row in rows[1:]) == Counter(
        {k: n for k, (n, _) in header["types"].items()}
    )


@pytest.mark.parametrize(
    "text",
    [
        "P12M4M",
        "P4M12M",
        "P4D3M",
        "P4294967297D",
        "2026-01-01/P30D",
        "P30D/2026-01-01",
        "P",
        "PT",
        "P1YT",
        "P-1D",
        "p90d",
        "90",
        "P1W2D",
        "PT5M5M",
        "P٩D",
        "P90D P1D",
        "None",
        "P0D",
    ],
)
def test_what_is_not_one_duration_in_order_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^older_than is"):
        make_policy(as_of=AS_OF, older_than=text)


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-01/P30D",
        "2026-13-01",
        "2026-01-01T12:00:00",
        "2026-01-01T25:00Z",
        "now",
        "2026",
        "20260101",
        "2026-01-01x",
        "0001-01-01T00:00:00+14:00",
    ],
)
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^created_before is"):
        make_policy(as_of=AS_OF, created_before=text)


@given(
    st.lists(st.tuples(st.integers(0, 99), st.sampled_from("YMWDHS")), min_size=1, max_size=5), st.booleans()
)
def test_a_duration_is_taken_in_full_or_refused(parts: list[tuple[int, str]], clock: bool) -> None:
    text = ("PT" if clock else "P") + "".join(f"{number}{unit}" for number, unit in parts)
    units = [unit for _, unit in parts]
    order = "HMS" if clock else "YMD"
    whole = (units == ["W"] and not clock) or (
        all(unit in order for unit in units) and units == sorted(set(units), key=order.index)
    )
    try:
        read = read_duration(text)
    except ValueError:
        assert not whole
        return
    assert whole
    named = dict(zip(units, (number for number, _ in parts), strict=True))
    wanted = pendulum.duration(
        years=named.get("Y", 0),
        months=0 if clock else named.get("M", 0),
        weeks=named.get("W", 0),
        days=named.get("D", 0),
        hours=named.get("H", 0),
        minutes=named.get("M", 0) if clock else 0,
        seconds=named.get("S", 0),
    )
    assert read == wanted
