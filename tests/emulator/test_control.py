"""The control API."""

from __future__ import annotations

import urllib.request

import pytest

from airflow_provider_ims.emulator.records import Entry, Records
from airflow_provider_ims.emulator.server import ControlError


def test_the_front_page_explains_itself(emulator):
    page = emulator.ask("GET", "/")
    assert "POST /seed" in page
    assert "cn-shanghai" in page


def test_seed_and_show(emulator):
    [media_id] = emulator.seed([{"url": "oss://b/k.mp4", "tags": ["a"], "created": "2024-01-31T08:00:00Z"}])
    medium = emulator.medium(media_id)
    assert medium["url"] == "oss://b/k.mp4"
    assert medium["title"] == "k.mp4"
    assert medium["created"] == "2024-01-31T08:00:00Z"
    assert medium["registered"]
    assert medium["file"]
    assert medium["deletion"] is None


def test_seed_json_lines(emulator):
    request = urllib.request.Request(
        f"{emulator.control}/seed",
        b'{"url": "oss://b/1"}\n\n{"url": "oss://b/2"}\n',
        {"content-type": "application/x-ndjson"},
    )
    with urllib.request.urlopen(request, timeout=5) as response:
        assert response.status == 201
    assert sorted(medium["url"] for medium in emulator.library()) == ["oss://b/1", "oss://b/2"]


def test_a_bad_medium_leaves_the_library_as_it_was(emulator):
    with pytest.raises(ControlError, match="needs a 'url'"):
        emulator.seed([{"url": "oss://b/1"}, {}])
    with pytest.raises(ControlError, match="is taken"):
        emulator.seed(
            [{"url": "oss://b/1", "media_id": "0" * 32}, {"url": "oss://b/2", "media_id": "0" * 32}]
        )
    assert emulator.library() == []
    emulator.generate(3)
    with pytest.raises(ControlError, match="another seed"):
        emulator.generate(3)
    assert len(emulator.generate(3, seed=1)) == 6


def test_the_library_is_paged_and_filtered(emulator):
    ids = emulator.generate(2500, protected=0.1, twice=0.1)
    media = emulator.library()
    assert [medium["media_id"] for medium in media] == ids
    videos = [medium for medium in media if medium["media_type"] == "video"]
    assert emulator.library(media_type="video") == videos
    middle = media[1000]["created"]
    assert emulator.library(start=middle) == [medium for medium in media if medium["created"] > middle]
    assert emulator.library(end=middle) == [medium for medium in media if medium["created"] <= middle]


def test_protect(emulator):
    ids = emulator.generate(3)
    emulator.protect(ids[:1])
    emulator.protect(ids[1:2], undeletable=True)
    assert [medium["protected"] for medium in emulator.library()] == [True, False, False]
    assert [medium["undeletable"] for medium in emulator.library()] == [False, True, False]
    emulator.protect(ids[:1], protected=False)
    assert not emulator.medium(ids[0])["protected"]
    with pytest.raises(ControlError, match="not found: unknown"):
        emulator.protect([ids[0], "unknown"])
    assert not emulator.medium(ids[0])["protected"]


def test_deletions_and_requests_are_paged(emulator, raw):
    ids = emulator.generate(1010)
    for start in range(0, 1010, 20):
        assert raw("DeleteMediaInfos", MediaIds=",".join(ids[start : start + 20])).status == 200
    assert [deletion["media_id"] for deletion in emulator.deleted()] == ids
    assert [request["number"] for request in emulator.requests()] == list(range(1, 52))
    page = emulator.ask("GET", "/requests", after=49, limit=1)
    assert page["total"] == 51
    assert [request["number"] for request in page["requests"]] == [50]


def test_requests_are_kept_in_bounded_memory_and_counted_all_the_same():
    records = Records(keep=2)
    for number in range(1, 6):
        entry = Entry(number=number, at=0.0, request_id="", action="GetMediaInfo", status=200)
        records.open(entry)
        records.close(entry)
    assert [entry.number for entry in records.requests] == [4, 5]
    assert records.stats()["by_action"] == {"GetMediaInfo": 5}
    assert (records.stats()["in_flight"], records.stats()["peak_in_flight"]) == (0, 1)


def test_keys_are_shown_without_secrets(emulator):
    emulator.add_key("other", "very-secret", security_token="very-secret-token", expires_in=60)
    keys = emulator.ask("GET", "/keys")
    assert [key["key_id"] for key in keys["keys"]] == ["emulator", "other"]
    assert "very-secret" not in str(keys)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"key_id": "", "secret": "s"}, "'key_id'"),
        ({"key_id": "k", "secret": "s", "colour": 1}, "'colour'"),
        ({"key_id": "k", "secret": "s", "status": "asleep"}, "'status'"),
        ({"key_id": "k", "secret": "s", "actions": "all"}, "'actions'"),
        ({"key_id": "k", "secret": "s", "expires_in": 5}, "security_token"),
        ({"key_id": "k", "secret": "s", "expires_in": "soon"}, "'expires_in'"),
        ({"key_id": "k", "secret": "s", "expires": 5}, "UTC time"),
        (["k", "s"], "JSON object"),
    ],
)
def test_bad_keys_are_refused(emulator, fields, complaint):
    with pytest.raises(ControlError, match=complaint):
        emulator.ask("POST", "/keys", fields)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/seed", {}),
        ("POST", "/seed", {"count": 1, "colour": "red"}),
        ("POST", "/seed", []),
        ("POST", "/seed", {"media": 5}),
        ("POST", "/seed", {"count": "many"}),
        ("POST", "/seed", {"count": 1, "protected": 2}),
        ("POST", "/seed", {"count": 1, "until": 5}),
        ("POST", "/protect", {"media_ids": [], "protected": "yes"}),
        ("POST", "/protect", {"media_ids": [[]], "protected": True}),
        ("POST", "/protect", {"media_ids": []}),
        ("POST", "/jobs", {"statuses": "Success"}),
        ("POST", "/jobs", {"outputs": []}),
        ("POST", "/jobs", {"outputs": ["oss://b/1"], "statuses": ["Success", "Fail"]}),
        ("POST", "/jobs", {"seconds": "few"}),
        ("GET", "/media/unknown", None),
        ("GET", "/jobs/unknown", None),
        ("GET", "/library?start=yesterday", None),
        ("GET", "/deleted?after=x", None),
    ],
)
def test_bad_questions_are_refused(emulator, method, path, body):
    with pytest.raises(ControlError, match="error"):
        emulator.ask(method, path, body)


def test_reset(emulator, raw):
    ids = emulator.generate(3)
    raw("DeleteMediaInfos", MediaIds=ids[0])
    emulator.add_key("other", "secret")
    emulator.add_fault("html")
    emulator.reset()
    stats = emulator.stats()
    assert (stats["media"], stats["requests"], stats["deleted"]) == (0, 0, 0)
    assert [key["key_id"] for key in emulator.ask("GET", "/keys")["keys"]] == ["emulator"]
    assert emulator.ask("GET", "/faults")["rules"] == []
