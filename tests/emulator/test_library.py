"""The library against a naive model of itself, and the media it is filled with."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_ims.emulator import library as library_module
from airflow_provider_ims.emulator import seeding
from airflow_provider_ims.emulator.library import Filter, Library, Medium

TYPES = ("video", "audio")


@st.composite
def steps(draw):
    """Additions (creation time, type, which of a few URLs), deletions (nth medium, lag) and passing time."""
    addition = st.tuples(st.just("add"), st.integers(0, 9), st.sampled_from(TYPES), st.integers(0, 3))
    deletion = st.tuples(st.just("delete"), st.integers(0, 50), st.sampled_from([None, 0, 1, 5]))
    passing = st.tuples(st.just("wait"), st.integers(0, 3))
    return draw(st.lists(st.one_of(addition, addition, deletion, passing), max_size=30))


optional_time = st.none() | st.integers(-1, 10)
filters = st.builds(
    Filter, after=optional_time, until=optional_time, media_type=st.none() | st.sampled_from(TYPES)
)


@settings(max_examples=100, deadline=None)
@given(steps(), st.lists(filters, min_size=1, max_size=3), st.integers(1, 7), st.booleans())
def test_listing_counting_and_finding_agree_with_a_plain_list(plan, wanted, size, descending):
    library = Library("cn-shanghai")
    shown: list[Medium] = []
    leaving: list[tuple[float, Medium]] = []
    now = 0
    for number, step in enumerate(plan):
        if step[0] == "add":
            medium = Medium(
                f"{number * 7919 % 1000:032d}", f"https://b/{step[3]}", step[1], media_type=step[2]
            )
            library.add(medium)
            shown.append(medium)
        elif step[0] == "delete":
            alive = [medium for medium in shown if not medium.deleted]
            if alive:
                medium = alive[step[1] % len(alive)]
                until = None if step[2] is None else now + step[2]
                library.delete(medium, shown_until=until)
                if until is None:
                    shown.remove(medium)
                else:
                    leaving.append((until, medium))
        else:
            now += step[1]
            library.settle(now)
            for until, medium in leaving:
                if until <= now and medium in shown:
                    shown.remove(medium)
        for question in wanted:
            expected = sorted(
                (medium for medium in shown if question.takes(medium)), key=lambda m: m.position
            )
            assert library.count(question) == len(expected)
            listed, after = library.page(question, size, descending=descending)
            while after is not None:
                media, after = library.page(question, size, after=after, descending=descending)
                listed += media
            assert listed == (expected[::-1] if descending else expected)
    assert len(library) == len(shown)
    assert list(library) == sorted(shown, key=lambda medium: medium.position)
    for path in range(4):
        url = f"https://b/{path}"
        assert library.shown_at(url) == [medium for medium in shown if medium.url == url]
        assert library.registered_at(url) == [
            medium for medium in shown if medium.url == url and not medium.deleted
        ]


def test_the_order_is_compacted_without_losing_a_medium(monkeypatch):
    monkeypatch.setattr(library_module, "_COMPACTION_FLOOR", 3)
    library = Library("cn-shanghai")
    media = [Medium(f"{number:032d}", f"https://b/{number}", number) for number in range(40)]
    for medium in media:
        library.add(medium)
    for medium in media[::2]:
        library.delete(medium)
    assert list(library) == media[1::2]
    assert library.page(Filter(after=10, until=20), 100) == (media[11:21:2], None)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://b.oss-cn-shanghai.aliyuncs.com/k", "http://b.oss-cn-shanghai.aliyuncs.com/k", True),
        ("oss://b/k", "https://b.oss-cn-shanghai.aliyuncs.com/k", True),
        ("OSS://b/k", "oss://b/k?", True),
        ("oss://b/K", "oss://b/k", False),
        ("oss://b/a%20b", "oss://b/a b", False),
        ("vod://k", "oss://k", False),
    ],
)
def test_spellings_of_a_url(one, other, same):
    library = Library("cn-shanghai")
    library.add(Medium("0" * 32, one, 0))
    assert bool(library.shown_at(other)) is same


def test_an_id_is_registered_once():
    library = Library("cn-shanghai")
    library.add(Medium("0" * 32, "oss://b/k", 0))
    with pytest.raises(ValueError, match="already registered"):
        library.add(Medium("0" * 32, "oss://b/other", 0))


def test_the_same_seed_makes_the_same_media():
    def make(seed):
        media = seeding.generate(
            count=500, region="cn-shanghai", seed=seed, protected=0.1, twice=0.1, until=10**9
        )
        return [(medium.media_id, medium.url, medium.created, medium.protected) for medium, _ in media]

    assert make(1) == make(1)
    assert make(1) != make(2)
    created = [medium[2] for medium in make(1)]
    assert created == sorted(created)
    assert created[-1] <= 10**9
    assert 20 < sum(medium[3] for medium in make(1)) < 90
    assert 20 < 500 - len({medium[1] for medium in make(1)}) < 90


def test_no_made_up_medium_is_whole_days_old():
    """A policy counts in days: whether it finds a medium must not depend on the second in which it looks."""
    for count, days in ((200, 100), (30, 90), (50, 100), (365, 365)):
        media = seeding.generate(count=count, region="cn-shanghai", days=days, until=10**9)
        ages = [10**9 - medium.created for medium, _ in media]
        assert all(60 < age % 86_400 < 86_340 for age in ages)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({}, "needs a 'url'"),
        ({"url": "oss://b/k", "colour": "red"}, "unknown field 'colour'"),
        ({"url": "oss://b/k", "media_id": "short"}, "'media_id'"),
        ({"url": "oss://b/k", "created": "yesterday"}, "'yesterday'"),
        ({"url": "oss://b/k", "size": -1}, "'size'"),
        ({"url": "oss://b/k", "protected": "yes"}, "'protected'"),
        ({"url": "oss://b/k", "title": 1}, "'title'"),
        ({"url": "oss://b/k", "streams": "oss://b/k.m3u8"}, "'streams'"),
        ([], "must be a JSON object"),
    ],
)
def test_bad_lines_are_named(fields, complaint):
    text = json.dumps({"url": "oss://b/fine"}) + "\n\n" + json.dumps(fields)
    with pytest.raises(ValueError, match=complaint) as caught:
        list(seeding.read_lines(text))
    assert str(caught.value).startswith("line 3: ")
