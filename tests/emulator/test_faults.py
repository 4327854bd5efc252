"""Each kind of misbehaviour, as a caller sees it and as the books tell it."""

from __future__ import annotations

import http.client
import json
import socket
import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import pytest
from alibabacloud_ice20201109 import models
from alibabacloud_tea_openapi.exceptions import ClientException

from airflow_provider_ims.emulator import ControlError
from airflow_provider_ims.emulator.faults import FAULT_KINDS


@pytest.fixture
def ids(ims_emulator):
    return ims_emulator.generate(10)


@pytest.fixture
def delete(raw):
    def delete(*media_ids, timeout=10.0):
        return raw("DeleteMediaInfos", timeout=timeout, MediaIds=",".join(media_ids))

    return delete


def last(emulator):
    return emulator.requests()[-1]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("kind", "options", "error"),
    [
        ("reset", {}, ConnectionResetError),
        ("timeout", {"seconds": 0.2}, http.client.RemoteDisconnected),
        ("timeout", {}, TimeoutError),
    ],
)
def test_no_answer(ims_emulator, ids, delete, when, kind, options, error):
    ims_emulator.add_fault(kind, when=when, **options)
    with pytest.raises(error):
        delete(ids[0], timeout=0.5)
    assert (ids[0] in ims_emulator.media_ids()) is (when == "before")
    assert ims_emulator.stats()["faults"] == {f"{kind}_{when}": 1}
    deadline = time.monotonic() + 60
    while ims_emulator.stats()["in_flight"]:
        assert time.monotonic() < deadline
    entry = last(ims_emulator)
    assert entry["faults"] == [f"{kind}_{when}"]
    assert entry["done"] is (when == "after")
    assert entry["answered"] is False
    assert entry["status"] == 0


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("body", ["json", "html", "none"])
@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_server_errors(ims_emulator, ids, delete, when, status, body):
    ims_emulator.add_fault("error", when=when, status=status, body=body)
    reply = delete(ids[0])
    assert reply.status == status
    if body == "json":
        assert reply.json["Code"] in ("InternalError", "ServiceUnAvailable")
        assert reply.json["RequestId"]
    elif body == "html":
        assert reply.body.startswith(b"<html>")
        assert reply.headers["content-type"] == "text/html"
    else:
        assert reply.body == b""
    assert (ids[0] in ims_emulator.media_ids()) is (when == "before")
    assert last(ims_emulator)["answered"] is False


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_page_with_status_200(ims_emulator, ids, delete, when):
    ims_emulator.add_fault("html", when=when)
    reply = delete(ids[0])
    assert reply.status == 200
    assert reply.body.startswith(b"<html>")
    assert (ids[0] in ims_emulator.media_ids()) is (when == "before")


@pytest.mark.parametrize(
    ("shape", "looks_right"),
    [
        ("array", lambda answer: answer == []),
        ("text", lambda answer: answer == "ok"),
        ("empty", lambda answer: answer == {}),
        ("texts_for_lists", lambda answer: answer["IgnoredList"] == "none"),
        ("objects_in_lists", lambda answer: answer["IgnoredList"] == [{"Value": 1}]),
    ],
)
def test_json_of_the_wrong_shape(ims_emulator, ids, delete, shape, looks_right):
    ims_emulator.add_fault("wrong_shape", shape=shape, when="after")
    reply = delete(ids[0])
    assert reply.status == 200
    assert looks_right(reply.json)
    assert ids[0] not in ims_emulator.media_ids()


def test_a_truncated_answer(ims_emulator, ids, delete):
    ims_emulator.add_fault("truncated", share=0.3)
    with pytest.raises(http.client.IncompleteRead) as caught:
        delete(ids[0])
    assert caught.value.partial.startswith(b'{"RequestId"')
    assert caught.value.expected
    assert ids[0] not in ims_emulator.media_ids()
    assert last(ims_emulator)["answered"] is False


def test_an_overlong_body(ims_emulator, ids, delete):
    ims_emulator.add_fault("overlong", declared=True)
    reply = delete(ids[0])
    assert reply.body.endswith(b"}<!-- surplus -->")
    assert last(ims_emulator)["answered"] is False


def test_bytes_beyond_the_body(ims_emulator, ids, raw):
    ims_emulator.add_fault("overlong")
    method, url, headers, _ = raw.sign("DeleteMediaInfos", {"MediaIds": ids[0]})
    lines = [f"{method} {url} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    with socket.create_connection(ims_emulator.host.split(":"), timeout=5) as connection:
        connection.sendall("\r\n".join(lines).encode())
        received = b""
        while not received.endswith(b"-->"):
            received += connection.recv(65536)
    head, _, rest = received.partition(b"\r\n\r\n")
    length = int(head.partition(b"content-length: ")[2].split()[0])
    assert json.loads(rest[:length])["IgnoredList"] == []
    assert rest[length:] == b"<!-- surplus -->"


@pytest.mark.parametrize(
    ("status", "code"), [(400, "Throttling.User"), (403, "RequestsTooFrequent"), (429, "Throttling")]
)
@pytest.mark.parametrize("retry_after", [0, 1500])
def test_throttling(ims_emulator, ids, delete, status, code, retry_after):
    ims_emulator.add_fault("throttle", status=status, retry_after=retry_after)
    reply = delete(ids[0])
    assert (reply.status, reply.json["Code"]) == (status, code)
    assert reply.headers.get("x-acs-retry-after") == (str(retry_after) if retry_after else None)
    assert ids[0] in ims_emulator.media_ids()


def test_any_refusal(ims_emulator, ids, delete):
    ims_emulator.add_fault("refuse")
    reply = delete(ids[0])
    assert (reply.status, reply.json["Code"]) == (403, "OperationDenied")
    ims_emulator.drop_faults()
    ims_emulator.add_fault("refuse", status=400, code="Forbidden.RiskControl", message="No.")
    assert delete(ids[0]).json["Message"] == "No."
    assert ids[0] in ims_emulator.media_ids()


def test_a_real_limit(ims_emulator, raw):
    ims_emulator.add_fault("limit", rate=50, burst=5, retry_after=True)
    started = time.monotonic()
    passed = refused = 0
    while (elapsed := time.monotonic() - started) < 1.5:
        reply = raw("ListMediaBasicInfos")
        passed += reply.status == 200
        if reply.status != 200:
            refused += 1
            assert 1 <= int(reply.headers["x-acs-retry-after"]) <= 20
    assert refused > 0
    # A busy machine asks less often than that, and what was not asked for does not gather beyond the burst.
    assert 0.4 * min(50 * elapsed, passed + refused) <= passed <= 5 + 50 * elapsed + 1
    assert ims_emulator.stats()["faults"] == {"limit": refused}


def test_a_limit_counts_all_keys_together(ims_emulator, sdk):
    ims_emulator.add_fault("limit", rate=0.001, burst=2)
    ims_emulator.add_key("other", "secret")
    request = models.ListMediaBasicInfosRequest()
    sdk().list_media_basic_infos(request)
    sdk("other", "secret").list_media_basic_infos(request)
    with pytest.raises(ClientException) as caught:
        sdk().list_media_basic_infos(request)
    assert caught.value.code == "Throttling.User"


@pytest.mark.parametrize("when", ["before", "after"])
def test_delay(ims_emulator, ids, delete, when):
    ims_emulator.add_fault("delay", milliseconds=600, when=when)
    with pytest.raises(TimeoutError):
        delete(ids[0], timeout=0.2)
    assert (ids[0] in ims_emulator.media_ids()) is (when == "before")
    deadline = time.monotonic() + 60
    while ids[0] in ims_emulator.media_ids() or ims_emulator.stats()["in_flight"]:
        assert time.monotonic() < deadline
    assert last(ims_emulator)["answered"] is False
    assert last(ims_emulator)["seconds"] > 0.5


def test_an_expired_token(ims_emulator, sdk, raw):
    ims_emulator.add_fault("expired_token", times=1)
    assert raw("ListMediaBasicInfos").status == 200  # a permanent key has no token
    ims_emulator.add_key("STS.key", "secret", security_token="token")
    client = sdk("STS.key", "secret", "token")
    with pytest.raises(ClientException) as caught:
        client.list_media_basic_infos(models.ListMediaBasicInfosRequest())
    assert caught.value.code == "InvalidSecurityToken.Expired"
    assert client.list_media_basic_infos(models.ListMediaBasicInfosRequest()).status_code == 200


def test_a_wrong_clock(ims_emulator, raw):
    ims_emulator.add_fault("wrong_clock", seconds=-3600)
    reply = raw("ListMediaBasicInfos")
    assert reply.json["Code"] == "InvalidTimeStamp.Expired"
    off = (parsedate_to_datetime(reply.headers["date"]) - datetime.now(UTC)).total_seconds()
    assert -3605 < off < -3595
    assert raw.send(raw.sign("ListMediaBasicInfos", {}, clock_error=timedelta(seconds=off))).status == 200


def test_echoes(ims_emulator, delete):
    ims_emulator.add_fault("echo")
    assert delete("unknown").json["IgnoredList"] == ["unknown\n"]
    ims_emulator.drop_faults()
    ims_emulator.add_fault("echo", before=" ", after="  ")
    assert delete("unknown").json["IgnoredList"] == [" unknown  "]


def test_absent_and_null_lists_only_stand_for_empty_ones(ims_emulator, ids, delete):
    ims_emulator.add_fault("absent_lists")
    assert delete(ids[0], "unknown").json.keys() == {"RequestId", "IgnoredList"}
    ims_emulator.drop_faults()
    ims_emulator.add_fault("null_lists")
    answer = delete(ids[1], "unknown").json
    assert answer["ForbiddenList"] is None
    assert answer["IgnoredList"] == ["unknown"]


def test_reads_that_lag(ims_emulator, ids, delete, raw):
    ims_emulator.add_fault("lagging_reads", milliseconds=500, times=1)
    assert delete(ids[0]).json["IgnoredList"] == []
    assert raw("BatchGetMediaInfos", MediaIds=ids[0]).json["IgnoredList"] == []
    assert raw("ListMediaBasicInfos").json["TotalCount"] == 10
    assert delete(ids[0]).json["IgnoredList"] == [ids[0]]
    assert ims_emulator.medium(ids[0])["deleted"] is True
    time.sleep(0.55)
    assert raw("BatchGetMediaInfos", MediaIds=ids[0]).json["IgnoredList"] == [ids[0]]
    assert raw("ListMediaBasicInfos").json["TotalCount"] == 9
    assert len(ims_emulator.deleted()) == 1


def test_a_medium_that_can_never_be_deleted(ims_emulator, ids, delete, raw):
    ims_emulator.add_fault("undeletable", times=1)
    assert delete(*ids[:3]).json["IgnoredList"] == [ids[0]]
    assert delete(ids[0]).json["IgnoredList"] == [ids[0]]
    assert raw("BatchGetMediaInfos", MediaIds=ids[0]).json["IgnoredList"] == []
    assert ims_emulator.requests()[0]["outcomes"] == {ids[0]: "ignored", ids[1]: "deleted", ids[2]: "deleted"}


def test_a_spurious_ignore_hits_a_medium_once(ims_emulator, ids, delete):
    ims_emulator.add_fault("spurious_ignore")
    assert delete(*ids[:3]).json["IgnoredList"] == [ids[0]]
    assert ids[0] in ims_emulator.media_ids()
    assert delete(ids[0]).json["IgnoredList"] == []
    assert ids[0] not in ims_emulator.media_ids()


class TestSchedules:
    def pattern(self, raw, count=12):
        return "".join("x" if raw("ListMediaBasicInfos").status == 503 else "." for _ in range(count))

    def test_every_nth(self, ims_emulator, raw):
        ims_emulator.add_fault("error", every=3)
        assert self.pattern(raw) == "..x..x..x..x"

    def test_skip_and_times(self, ims_emulator, raw):
        ims_emulator.add_fault("error", skip=2, times=3)
        assert self.pattern(raw) == "..xxx......."

    def test_a_probability_is_decided_by_the_seed(self, ims_emulator, raw):
        seen = []
        for seed in (1, 1, 2):
            ims_emulator.drop_faults()
            ims_emulator.add_fault("error", probability=0.4, seed=seed)
            seen.append(self.pattern(raw, 40))
        assert seen[0] == seen[1] != seen[2]
        assert 5 < seen[0].count("x") < 30

    def test_one_action_only(self, ims_emulator, raw):
        ims_emulator.add_fault("error", action="DeleteMediaInfos")
        assert raw("ListMediaBasicInfos").status == 200
        assert raw("DeleteMediaInfos", MediaIds="x").status == 503

    def test_at_most_one_replaces_the_answer_and_the_others_keep_their_count(self, ims_emulator, raw):
        ims_emulator.add_fault("error", every=2, status=503)
        ims_emulator.add_fault("error", every=3, status=500)
        statuses = [raw("ListMediaBasicInfos").status for _ in range(6)]
        assert statuses == [200, 503, 500, 503, 200, 503]
        assert [rule["fired"] for rule in ims_emulator.ask("GET", "/faults")["rules"]] == [3, 1]

    def test_refused_callers_meet_no_faults(self, ims_emulator, raw):
        ims_emulator.add_fault("error")
        method, _, headers, body = raw.sign("ListMediaBasicInfos", {})
        assert raw.send((method, "/?MaxResults=2", headers, body)).status == 400
        assert ims_emulator.stats()["faults"] == {}


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        ({"kind": "earthquake"}, "earthquake"),
        ({"kind": "reset", "when": "during"}, "'when'"),
        ({"kind": "reset", "status": 500}, "'status'"),
        ({"kind": "delay"}, "'milliseconds'"),
        ({"kind": "delay", "milliseconds": -1}, "'milliseconds'"),
        ({"kind": "limit", "rate": 0}, "'rate'"),
        ({"kind": "limit", "rate": 5, "every": 2}, "alone"),
        ({"kind": "limit", "rate": 5, "burst": 0.5}, "'burst'"),
        ({"kind": "error", "every": 0}, "'every'"),
        ({"kind": "error", "every": 2, "probability": 0.5}, "not both"),
        ({"kind": "error", "probability": 1.5}, "'probability'"),
        ({"kind": "error", "action": "DropEverything"}, "'action'"),
    ],
)
def test_bad_rules_are_refused(ims_emulator, rule, complaint):
    with pytest.raises(ControlError, match=complaint):
        ims_emulator.ask("POST", "/faults", rule)
    assert ims_emulator.ask("GET", "/faults")["rules"] == []


def test_every_kind_can_be_a_rule(ims_emulator):
    needed = {"limit": {"rate": 1}, "delay": {"milliseconds": 1}, "wrong_clock": {"seconds": 1}}
    needed["lagging_reads"] = {"milliseconds": 1}
    for kind in FAULT_KINDS:
        ims_emulator.add_fault(kind, **needed.get(kind, {}))
    assert [rule["kind"] for rule in ims_emulator.ask("GET", "/faults")["rules"]] == list(FAULT_KINDS)


OTHER_SIDES = [
    ({"unknown_ids": "refused"}, "BatchGetMediaInfos", {"MediaIds": "0" * 32}, 400),
    ({"unknown_ids": "refused"}, "DeleteMediaInfos", {"MediaIds": "{id},none"}, 400),
    ({"malformed_ids": "refused"}, "BatchGetMediaInfos", {"MediaIds": "{id},no.id"}, 400),
    ({"malformed_ids": "refused"}, "DeleteMediaInfos", {"MediaIds": "no.id"}, 400),
    ({"malformed_ids": "refused"}, "GetMediaInfo", {"MediaId": "no.id"}, 400),
    ({"white_space": "kept"}, "DeleteMediaInfos", {"MediaIds": " {id}"}, {"IgnoredList": [" {id}"]}),
    ({"duplicates": "silent"}, "DeleteMediaInfos", {"MediaIds": "{id},{id}"}, {"IgnoredList": []}),
    ({"over_20": "taken"}, "DeleteMediaInfos", {"MediaIds": ",".join(["{id}"] * 21)}, 200),
    (
        {"over_20": "cut"},
        "DeleteMediaInfos",
        {"MediaIds": ",".join(["none"] * 21)},
        {"IgnoredList": ["none"] * 20},
    ),
    ({"missing": "empty"}, "GetMediaInfo", {"MediaId": "none"}, {}),
    ({"missing": "empty"}, "GetMediaConvertJob", {"JobId": "none"}, {}),
    ({"registered_again": "same_id"}, "RegisterMediaInfo", {"InputURL": "{url}"}, {"MediaId": "{id}"}),
]


@pytest.mark.parametrize(("sides", "action", "params", "answer"), OTHER_SIDES)
def test_another_side_is_taken_only_if_asked_for(ims_emulator, ids, raw, sides, action, params, answer):
    medium = {"{id}": ids[0], "{url}": ims_emulator.medium(ids[0])["url"]}

    def filled(text):
        for name, value in medium.items():
            text = text.replace(name, value)
        return text

    params = {name: filled(value) for name, value in params.items()}
    wanted = answer if isinstance(answer, int) else json.loads(filled(json.dumps(answer)))

    def reply():
        came = raw(action, **params)
        body = json.loads(came.body)
        return (
            came.status
            if isinstance(wanted, int)
            else {name: body.get(name) for name in body} | {"RequestId": 0}
        )

    ims_emulator.add_fault("otherwise", **sides)
    other = reply()
    if isinstance(wanted, int):
        assert other == wanted
    else:
        assert wanted.items() <= other.items()
    ims_emulator.reset()
    ids = ims_emulator.generate(10)
    assert reply() != other


def test_a_listing_may_end_at_a_hundred_media(ims_emulator, raw):
    ims_emulator.generate(250)

    def listed(size):
        media, token = [], ""
        while True:
            page = json.loads(raw("ListMediaBasicInfos", MaxResults=str(size), NextToken=token).body)
            media += page["MediaInfos"]
            token = page.get("NextToken", "")
            if not token:
                return len(media), page["TotalCount"]

    assert listed(100) == (250, 250)
    ims_emulator.add_fault("otherwise", pages="first_100")
    assert [listed(size) for size in (100, 30, 10, 1)] == [(100, 250)] * 4


def test_a_file_may_go_with_its_medium_by_default(ims_emulator, ids, delete):
    delete(ids[0])
    ims_emulator.add_fault("otherwise", file_by_default=True)
    delete(ids[1])
    assert [deletion["files"] for deletion in ims_emulator.deleted()] == [False, True]
