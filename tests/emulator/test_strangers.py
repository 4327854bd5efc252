"""What the emulator's two ports do with requests from a browser's other pages, and with bytes nobody meant well."""

from __future__ import annotations

import http.client
import json
from string import ascii_letters
from urllib.parse import urlencode, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_ims.emulator import bounded_json, control, faults, keys, seeding
from airflow_provider_ims.emulator.operations import OPERATIONS

SHOWN = (
    "/",
    "/overview",
    "/stats",
    "/library",
    "/ids",
    "/deleted",
    "/requests",
    "/keys",
    "/faults",
    "/guide",
)
TAKING = ("/seed", "/protect", "/keys", "/faults", "/jobs", "/reset")
JSON = {"content-type": "application/json"}
UNHURRIED = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def send(emulator, method, path, body=None, headers=None):
    """One request as it is, on a connection of its own; gives status and answer."""
    connection = http.client.HTTPConnection(urlsplit(emulator.control).netloc, timeout=10)
    try:
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


@pytest.fixture
def own(ims_emulator):
    return {"host": urlsplit(ims_emulator.control).netloc}


FOREIGN = (
    {"host": "evil.example"},
    {"host": "evil.example:{port}"},
    {"host": "127.0.0.1.evil.example"},
    {"host": "localhost@evil.example"},
    {"host": "evil.example#localhost"},
    {"host": "localhost/evil.example"},
    {"host": "127.0.0.1:x"},
    {"host": "[::1"},
    {"host": ""},
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": ""},
    {"origin": "http://localhost:3000"},
    {"origin": "http://evil.example, http://{own}"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
)


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
@pytest.mark.parametrize(
    ("method", "path"),
    [*(("GET", path) for path in SHOWN), *(("POST", path) for path in TAKING), ("DELETE", "/faults")],
)
def test_no_other_page_reads_or_changes_anything(ims_emulator, own, method, path, headers):
    ids = ims_emulator.generate(3)
    ims_emulator.add_fault("echo")
    port = own["host"].rpartition(":")[2]
    filled = {name: value.format(port=port, own=own["host"]) for name, value in headers.items()}
    body = json.dumps({"count": 1, "seed": 5, "key_id": "k", "secret": "s", "kind": "echo"})
    status, answer = send(
        ims_emulator, method, path, body if method == "POST" else None, {**own, **JSON, **filled}
    )
    assert status == 403
    assert list(json.loads(answer)) == ["error"]
    assert ids[0] not in answer
    assert ims_emulator.media_ids() == ids
    assert len(ims_emulator.ask("GET", "/keys")["keys"]) == 1
    assert len(ims_emulator.ask("GET", "/faults")["rules"]) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
def test_this_machine_has_several_names_and_a_tunnel_another_port(ims_emulator, host):
    for name in (host, f"{host}:{urlsplit(ims_emulator.control).port}", f"{host}:1234"):
        assert send(ims_emulator, "GET", "/stats", headers={"host": name})[0] == 200
        own_page = {"host": name, "origin": f"http://{name}", "sec-fetch-site": "same-origin", **JSON}
        assert send(ims_emulator, "POST", "/reset", "{}", own_page)[0] == 200


def test_a_link_from_elsewhere_can_be_followed_but_not_embedded(ims_emulator, own):
    link = {**own, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "accept": "text/html"}
    assert send(ims_emulator, "GET", "/", headers=link)[0] == 200
    assert send(ims_emulator, "POST", "/reset", "{}", {**link, **JSON})[0] == 403
    connection = http.client.HTTPConnection(own["host"], timeout=10)
    connection.request("GET", "/", headers=link)
    assert "frame-ancestors 'none'" in connection.getresponse().headers["content-security-policy"]
    connection.close()


@pytest.mark.parametrize("path", TAKING)
@pytest.mark.parametrize(
    "kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_what_a_form_can_send_is_refused(ims_emulator, own, path, kind):
    ids = ims_emulator.generate(3)
    status, answer = send(
        ims_emulator, "POST", path, '{"count": 1, "seed": 5}', {**own, "content-type": kind}
    )
    assert status == 415
    assert "application/json" in answer
    assert ims_emulator.media_ids() == ids


def test_a_body_that_is_too_long_is_refused_before_it_is_all_there(ims_emulator, own):
    connection = http.client.HTTPConnection(own["host"], timeout=30)
    connection.putrequest("POST", "/seed", skip_host=True)
    for name, value in {**own, **JSON, "content-length": str(control._LONGEST_BODY * 4)}.items():
        connection.putheader(name, value)
    connection.endheaders()
    sent = 0
    try:
        while sent < control._LONGEST_BODY * 2:
            connection.send(b" " * 2**20)
            sent += 2**20
    except ConnectionError:
        pass
    assert control._LONGEST_BODY < sent < control._LONGEST_BODY * 2
    connection.close()
    assert ims_emulator.media_ids() == []


DEEP = ("[" * 5000 + "]" * 5000, '{"a":' * 200_000, "[" * 40 + "]" * 40)


@pytest.mark.parametrize(
    "text", [*DEEP, "NaN", "[Infinity]", "1e999", f"1{'0' * 400}", "9" * 6000, "", "{", "\ud800"]
)
def test_json_beyond_the_bounds(text):
    with pytest.raises(ValueError, match=r"."):
        bounded_json.loads(text)


@pytest.mark.parametrize("text", ["[" * 31 + "]" * 31, "-9223372036854775807", "1e300", '"\\ud800"', "{}"])
def test_json_within_them(text):
    assert bounded_json.loads(text) == json.loads(text)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(), max_size=20)
    | st.sampled_from(["reset", "delay", "wrong_clock", "GetMediaInfo", "Success", "0001-01-01T00:00:00Z"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(ascii_letters, max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
ODD = st.sampled_from(
    [float("nan"), float("inf"), 1e300, -1e300, 2**62, 10**30, -1, True, "\ud800", [[]], {}]
)


def about(**required):
    """Objects that an endpoint would take, but for some of their fields."""
    names = ["count", "undeletable", *seeding._FIELDS, *control._GENERATOR_OPTIONS, *keys._FIELDS]
    return st.builds(
        lambda sensible, *odd: {**sensible, **dict(odd)},
        st.fixed_dictionaries({name: st.just(value) for name, value in required.items()}),
        st.tuples(st.sampled_from([*required, *names]), ODD | VALUES),
    )


def rules():
    """A rule of any kind with an odd option."""
    options = [(name, option) for name, kind in faults.FAULT_KINDS.items() for option in kind.options]
    return st.builds(
        lambda kind_and_option, value: {"kind": kind_and_option[0], kind_and_option[1]: value},
        st.sampled_from([*options, *(("delay", name) for name in faults.SCHEDULE)]),
        ODD | VALUES,
    )


BODIES = st.one_of(
    st.tuples(st.just("/keys"), about(key_id="k", secret="s", security_token="t", expires_in=5)),
    st.tuples(st.just("/faults"), rules() | about(kind="delay", milliseconds=1)),
    st.tuples(st.just("/jobs"), about(seconds=5, statuses=["Success"], outputs=["oss://b/k"])),
    st.tuples(st.just("/seed"), about(count=3, days=5, seed=1)),
    st.tuples(
        st.just("/seed"), about(url="oss://b/k", tags=["a"], size=1).map(lambda medium: {"media": [medium]})
    ),
    st.tuples(st.just("/protect"), about(media_ids=[], protected=True)),
    st.tuples(st.sampled_from(TAKING), VALUES),
)


@UNHURRIED
@given(asked=BODIES)
def test_no_body_breaks_it_or_what_it_shows_afterwards(ims_emulator, asked):
    path, body = asked
    status, answer = send(ims_emulator, "POST", path, json.dumps(body), JSON)
    assert status in (200, 201, 400, 404), answer
    if status >= 400:
        assert json.loads(answer)["error"]
    for shown in SHOWN:
        assert send(ims_emulator, "GET", shown)[0] == 200, (shown, body)


@UNHURRIED
@given(
    body=st.binary(max_size=40) | st.sampled_from([text.encode() for text in DEEP]),
    kind=st.sampled_from(["json", "x-ndjson"]),
)
def test_no_bytes_do_either(ims_emulator, body, kind):
    status, answer = send(ims_emulator, "POST", "/seed", body, {"content-type": f"application/{kind}"})
    assert status in (201, 400), answer


@UNHURRIED
@given(
    path=st.sampled_from(["/library", "/deleted", "/requests", "/overview"]),
    query=st.dictionaries(
        st.sampled_from(["after", "limit", "start", "end", "action", "status"]),
        st.text(max_size=9) | st.integers().map(str),
        max_size=3,
    ),
)
def test_no_question_does_either(ims_emulator, path, query):
    status, answer = send(ims_emulator, "GET", f"{path}?{urlencode(query, errors='replace')}")
    assert status in (200, 400), answer
    json.loads(answer)


PARAMETERS = st.dictionaries(
    st.sampled_from(["MediaIds", "InputURLs", "MediaId", "InputURL", "FileURLs", "ParentJobId", "InputGroup"])
    | st.sampled_from(["OutputGroup", "NextToken", "MaxResults", "PageSize", "PageNo", "SortBy", "StartTime"])
    | st.sampled_from(["EndTime", "AuthTimeout", "DeletePhysicalFiles", "ScheduleConfig"]),
    st.text(max_size=20)
    | st.integers().map(str)
    | VALUES.map(json.dumps)
    | st.sampled_from([*DEEP[::2], "9" * 5000, "٣", "MSAx", "//8=", "9999-99-99T00:00:00Z"]),
    max_size=4,
)


@UNHURRIED
@given(action=st.sampled_from(sorted(OPERATIONS)), params=PARAMETERS)
def test_no_parameter_of_the_service_breaks_it(ims_emulator, raw, action, params):
    sendable = {name: value.encode("utf-8", "replace").decode() for name, value in params.items()}
    reply = raw(action, **sendable)
    assert reply.status in (200, 400, 403, 404), reply.body
    assert "RequestId" in reply.json
    assert send(ims_emulator, "GET", "/overview")[0] == 200


def test_the_service_takes_no_endless_head_or_body(ims_emulator, raw):
    long = raw.sign("GetMediaInfo", {"MediaId": "x" * 2**21})
    assert raw.send(long).status == 400
    method, url, headers, _ = raw.sign("GetMediaInfo", {"MediaId": "x"})
    connection = http.client.HTTPConnection(ims_emulator.host, timeout=30)
    with pytest.raises((ConnectionError, http.client.HTTPException)):  # noqa: PT012
        connection.request(method, url, b" " * 2**26, headers)
        answer = connection.getresponse()
        assert answer.status == 413
        raise ConnectionError
    connection.close()
    ids = ims_emulator.generate(20)
    assert raw("DeleteMediaInfos", MediaIds=",".join(ids)).status == 200
