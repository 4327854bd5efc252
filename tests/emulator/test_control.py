"""The control API."""

from __future__ import annotations

import re
import urllib.request

import pytest

from airflow_provider_ims.emulator import ControlError
from airflow_provider_ims.emulator.records import Entry, Records


def ask(url, accept):
    with urllib.request.urlopen(urllib.request.Request(url, headers={"accept": accept}), timeout=5) as answer:
        return answer.headers, answer.read().decode()


def test_the_front_page_explains_itself(ims_emulator):
    page = ims_emulator.ask("GET", "/")
    assert "POST /seed" in page
    assert "cn-shanghai" in page
    assert "POST /seed" in ims_emulator.ask("GET", "/guide")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/html"),
        ("*/*", "text/plain"),
        ("application/json", "text/plain"),
    ],
)
def test_browsers_get_a_page_and_others_do_not(ims_emulator, accept, kind):
    headers, body = ask(f"{ims_emulator.control}/", accept)
    assert headers["content-type"].startswith(kind)
    assert headers["vary"] == "accept"
    assert body.startswith("<!doctype html>") == (kind == "text/html")


def test_nothing_but_the_page_itself_can_run_in_it(ims_emulator):
    headers, body = ask(f"{ims_emulator.control}/", "text/html")
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert re.findall(r"https?://|//\w+\.\w+", body) == []


def test_the_overview_is_small_whatever_there_is(ims_emulator, raw):
    ids = ims_emulator.generate(3000)
    for start in range(0, 2000, 20):
        assert raw("DeleteMediaInfos", MediaIds=",".join(ids[start : start + 20])).status == 200
    ims_emulator.add_fault("echo")
    overview = ims_emulator.ask("GET", "/overview")
    assert overview["stats"] == ims_emulator.stats()
    assert overview["service"] == ims_emulator.endpoint
    assert [entry["number"] for entry in overview["requests"]] == list(range(100, 50, -1))
    assert [deletion["media_id"] for deletion in overview["deletions"]] == ids[1999:1949:-1]
    assert [medium["media_id"] for medium in overview["library"]["media"]] == ids[2000:2050]
    assert overview["library"]["total"] == 1000
    assert [rule["kind"] for rule in overview["rules"]] == ["echo"]
    following = ims_emulator.ask("GET", "/overview", after=overview["library"]["next"])
    assert following["library"]["media"][0]["media_id"] == ids[2050]


def test_seed_and_show(ims_emulator):
    [media_id] = ims_emulator.seed(
        [{"url": "oss://b/k.mp4", "tags": ["a"], "created": "2024-01-31T08:00:00Z"}]
    )
    medium = ims_emulator.medium(media_id)
    assert medium["url"] == "oss://b/k.mp4"
    assert medium["title"] == "k.mp4"
    assert medium["created"] == "2024-01-31T08:00:00Z"
    assert medium["registered"]
    assert medium["file"]
    assert medium["deletion"] is None


def test_seed_json_lines(ims_emulator):
    request = urllib.request.Request(
        f"{ims_emulator.control}/seed",
        b'{"url": "oss://b/1"}\n\n{"url": "oss://b/2"}\n',
        {"content-type": "application/x-ndjson"},
    )
    with urllib.request.urlopen(request, timeout=5) as response:
        assert response.status == 201
    assert sorted(medium["url"] for medium in ims_emulator.library()) == ["oss://b/1", "oss://b/2"]


def test_a_bad_medium_leaves_the_library_as_it_was(ims_emulator):
    with pytest.raises(ControlError, match="needs a 'url'"):
        ims_emulator.seed([{"url": "oss://b/1"}, {}])
    with pytest.raises(ControlError, match="is taken"):
        ims_emulator.seed(
            [{"url": "oss://b/1", "media_id": "0" * 32}, {"url": "oss://b/2", "media_id": "0" * 32}]
        )
    assert ims_emulator.library() == []
    ims_emulator.generate(3)
    with pytest.raises(ControlError, match="another seed"):
        ims_emulator.generate(3)
    assert len(ims_emulator.generate(3, seed=1)) == 6


def test_the_library_is_paged_and_filtered(ims_emulator):
    ids = ims_emulator.generate(2500, protected=0.1, twice=0.1)
    media = ims_emulator.library()
    assert [medium["media_id"] for medium in media] == ids
    videos = [medium for medium in media if medium["media_type"] == "video"]
    assert ims_emulator.library(media_type="video") == videos
    middle = media[1000]["created"]
    assert ims_emulator.library(start=middle) == [medium for medium in media if medium["created"] > middle]
    assert ims_emulator.library(end=middle) == [medium for medium in media if medium["created"] <= middle]


def test_protect(ims_emulator):
    ids = ims_emulator.generate(3)
    ims_emulator.protect(ids[:1])
    ims_emulator.protect(ids[1:2], undeletable=True)
    assert [medium["protected"] for medium in ims_emulator.library()] == [True, False, False]
    assert [medium["undeletable"] for medium in ims_emulator.library()] == [False, True, False]
    ims_emulator.protect(ids[:1], protected=False)
    assert not ims_emulator.medium(ids[0])["protected"]
    with pytest.raises(ControlError, match="not found: unknown"):
        ims_emulator.protect([ids[0], "unknown"])
    assert not ims_emulator.medium(ids[0])["protected"]


def test_deletions_and_requests_are_paged(ims_emulator, raw):
    ids = ims_emulator.generate(1010)
    for start in range(0, 1010, 20):
        assert raw("DeleteMediaInfos", MediaIds=",".join(ids[start : start + 20])).status == 200
    assert [deletion["media_id"] for deletion in ims_emulator.deleted()] == ids
    assert [request["number"] for request in ims_emulator.requests()] == list(range(1, 52))
    page = ims_emulator.ask("GET", "/requests", after=49, limit=1)
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


def test_keys_are_shown_without_secrets(ims_emulator):
    ims_emulator.add_key("other", "very-secret", security_token="very-secret-token", expires_in=60)
    keys = ims_emulator.ask("GET", "/keys")
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
def test_bad_keys_are_refused(ims_emulator, fields, complaint):
    with pytest.raises(ControlError, match=complaint):
        ims_emulator.ask("POST", "/keys", fields)


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
def test_bad_questions_are_refused(ims_emulator, method, path, body):
    with pytest.raises(ControlError, match="error"):
        ims_emulator.ask(method, path, body)


def test_reset(ims_emulator, raw):
    ids = ims_emulator.generate(3)
    raw("DeleteMediaInfos", MediaIds=ids[0])
    ims_emulator.add_key("other", "secret")
    ims_emulator.add_fault("html")
    ims_emulator.reset()
    stats = ims_emulator.stats()
    assert (stats["media"], stats["requests"], stats["deleted"]) == (0, 0, 0)
    assert [key["key_id"] for key in ims_emulator.ask("GET", "/keys")["keys"]] == ["emulator"]
    assert ims_emulator.ask("GET", "/faults")["rules"] == []
