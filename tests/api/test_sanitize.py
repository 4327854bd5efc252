"""Whatever a peer says is short, printable and free of secrets before anybody repeats it."""

from __future__ import annotations

import json
import logging
import pickle
import re
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_ims.api.errors import IMSAPIError
from airflow_provider_ims.api.sanitize import MAX_ID, MAX_MESSAGE, sanitize, sanitize_id
from airflow_provider_ims.files.storage import to_line

SECRET = "kP9xQ2vL8mN4bR7tY1wZ5cF3"
TOKEN = "CAIS+token/with=signs" + "Ab3dEf6h" * 40
SIGNATURE = "0123456789abcdef" * 4
SECRETS = (SECRET, TOKEN, SIGNATURE)

texts = st.text(st.characters(), max_size=60)
spelled = st.sampled_from(
    [
        one
        for plain in SECRETS
        for one in (plain, quote(plain, safe="~"), quote_plus(plain), plain.upper(), plain.lower())
    ]
)


@given(st.lists(st.one_of(texts, spelled), max_size=60).map("".join))
def test_any_text_is_bounded_printable_and_without_secrets(text):
    said = sanitize(text, secrets=SECRETS)
    assert len(said) <= MAX_MESSAGE
    assert said.isprintable()
    for plain in SECRETS:
        for one in (plain, quote(plain, safe="~"), plain.upper(), plain.lower()):
            assert not any(one[at : at + 8] in said for at in range(len(one) - 7))


@given(st.integers(0, 300), st.integers(9, 360))
def test_a_part_of_a_secret_is_cut_out_as_well(start, length):
    part = TOKEN[start : start + length]
    said = sanitize(f"x-acs-security-token is {part} today", secrets=SECRETS)
    assert part[:8] not in said or len(part) < 8
    assert said.endswith("today")


@pytest.mark.parametrize(
    "url",
    [
        "https://b.oss-cn-shanghai.aliyuncs.com/a b.mp4?Expires=1&OSSAccessKeyId=k&Signature=XYZ%2B",
        "b.oss-cn-shanghai.aliyuncs.com/a.mp4?Expires=1&Signature=XYZ%2B",
        "oss://b/a.mp4?x-oss-signature=XYZ%2B",
        "https%3A%2F%2Fb%2Fa.mp4%3FExpires%3D1%26Signature%3DXYZ%252B",
        "/?MediaIds=a&Signature=XYZ",
        "Signature=XYZ",
        "'Authorization': 'Basic XYZ'",
        "http://user:XYZ@proxy.example:8080/",
    ],
)
def test_the_query_of_a_url_and_whatever_is_named_a_secret_is_cut_out(url):
    said = sanitize(f"Not found: {url}, sorry")
    assert "XYZ" not in said
    assert said.startswith("Not found: ")


@pytest.mark.parametrize(
    "plain", ["Is it there?", "a=b", "The specified bucket (b?) does not exist.", "a?b c=d"]
)
def test_plain_words_stay_as_they_are(plain):
    assert sanitize(plain, secrets=SECRETS) == plain


@pytest.mark.parametrize("one", "\x00\x07\x1b\r\n\x7f\x85\u200b\u202e\u2028\u2029\u2066\ufeff\ud800")
def test_what_forges_a_line_is_shown(one):
    assert sanitize(f"a{one}b") == f"a\\u{ord(one):04x}b"


def test_request_ids():
    assert (
        sanitize_id("4E84BE44-58A7-4C2E-8A55-0123456789AB", secrets=SECRETS)
        == "4E84BE44-58A7-4C2E-8A55-0123456789AB"
    )
    assert sanitize_id(SIGNATURE, secrets=SECRETS) == "***"
    assert len(sanitize_id("R" * 2**20)) == MAX_ID
    assert sanitize_id(7) is sanitize_id("") is sanitize_id(None) is None


@given(st.text(st.characters()))
def test_a_line_of_a_file_is_one_line_for_every_reader(text):
    line = to_line({"reason": text})
    assert json.loads(line) == {"reason": text}
    assert line.decode()[:-1].isprintable()
    assert len(line.decode().splitlines()) == 1


EVIL = "\x1b[31m\r\nERROR forged line\u202e\u2028"


def echoes(wire):
    """What could stand in an answer: a copy of the request's head, a link, a mass of text, control characters."""

    def head(request):
        return (
            "\n".join(f"{name}: {value}" for name, value in request.headers.items()) + f"\n{request.target}"
        )

    def answer(say, where):
        def step(request):
            said = say(request)
            fields = {"RequestId": "R", "Code": "Strange", "Message": "m", where: said}
            if where == "header":
                return wire.http(
                    400, {"Code": "Strange"}, x_acs_request_id=re.sub(r"[\r\n]", " ", said)[:9000]
                )
            if where == "status line":
                return wire.Hangup(b"HTTP/1.1 " + said.encode("utf-8", "replace") + b"\r\n\r\n")
            if where == "no HTTP":
                return wire.Hangup(said.encode("utf-8", "replace"))
            if where == "chunk size":
                return wire.Hangup(
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                    + said.encode("utf-8", "replace")
                    + b"\r\n"
                )
            if where == "broken header":
                return wire.Hangup(
                    b"HTTP/1.1 400 No\r\nA: b\r\n" + said.encode("utf-8", "replace") + b"\r\n\r\n{}"
                )
            if where == "AuthAction":
                fields = {
                    "RequestId": "R",
                    "Code": "Forbidden.RAM",
                    "AccessDeniedDetail": {"AuthAction": said},
                }
            if where == "success":
                return wire.http(200, {"RequestId": said})
            return wire.http(400, fields)

        return step

    says = {
        "head": head,
        "signed URL": lambda _: "https://b.oss/a.mp4?OSSAccessKeyId=k&Signature=SIGNEDbySOMEBODY",
        "mass": lambda _: "x" * 2**20,
        "evil": lambda _: EVIL,
    }
    wheres = [
        "Message",
        "Code",
        "RequestId",
        "header",
        "status line",
        "no HTTP",
        "chunk size",
        "broken header",
    ]
    return {
        f"{what} in {where}": answer(say, where)
        for what, say in says.items()
        for where in [*wheres, "AuthAction", "success"]
    }


WHERES = ["Message", "Code", "RequestId", "header", "status line", "no HTTP", "chunk size", "broken header"]


@pytest.mark.parametrize("what", ["head", "signed URL", "mass", "evil"])
@pytest.mark.parametrize("where", [*WHERES, "AuthAction", "success"])
def test_wherever_it_is_said(start, connect, pauses, wire, caplog, where, what):
    caplog.set_level(logging.DEBUG)
    service = start(default=echoes(wire)[f"{what} in {where}"])
    try:
        shown = repr(
            connect(service, min_tries=2).call("DeleteMediaInfos", {"MediaIds": "a"}, dict).request_id
        )
    except IMSAPIError as error:
        shown = f"{error} {error.request_id} {error.code} {error.message} {pickle.dumps(error).decode('latin-1')!r}"
    signatures = [request.headers["authorization"].partition("Signature=")[2] for request in service.requests]
    assert signatures
    ours = [one.getMessage() for one in caplog.records]
    for text in (shown, *ours):
        assert text.isprintable()
        assert len(text) < 4000
        for secret in (wire.secret, wire.token, quote(wire.token, safe=""), "SIGNEDbySOMEBODY", *signatures):
            assert secret not in text
    for record in caplog.records:
        assert not record.exc_info
