"""The client against a service that misbehaves in every way that a wire allows."""

from __future__ import annotations

import logging
import pickle
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, formatdate
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_ims.api import signing, transport
from airflow_provider_ims.api.client import MIN_TRIES, RequestStats
from airflow_provider_ims.api.credentials import Credentials
from airflow_provider_ims.api.errors import (
    CallAbandoned,
    IMSAPIError,
    IMSAuthError,
    IMSPermissionError,
    IMSThrottlingError,
    IMSTransientError,
)
from airflow_provider_ims.api.responses import read_answer


def failing_call(client, error=IMSAPIError, **options):
    """One call that must fail, and exactly with this type."""
    with pytest.raises(error) as caught:
        client.call("DeleteMediaInfos", {"MediaIds": "a,b"}, dict, **options)
    assert type(caught.value) is error
    return caught.value


class TestOnTheWire:
    def test_method_query_body_and_headers(self, service, connect, wire):
        connect(service).call(
            "DeleteMediaInfos",
            {
                "MediaIds": "a,b",
                "Title": "x y+*~%/&=中",
                "Yes": True,
                "No": False,
                "N": 7,
                "Empty": "",
                "None": None,
            },
            dict,
        )
        (request,) = service.requests
        assert (request.method, request.body) == ("POST", b"")
        assert request.target == (
            "/?Empty=&MediaIds=a%2Cb&N=7&No=false&Title=x%20y%2B%2A~%25%2F%26%3D%E4%B8%AD&Yes=true"
        )
        assert len(request.header_names) == len(set(request.header_names))
        headers = request.headers
        assert headers["host"] == service.host
        assert headers["content-length"] == "0"
        assert headers["accept"] == "application/json"
        assert headers["x-acs-action"] == "DeleteMediaInfos"
        assert headers["x-acs-version"] == "2020-11-09"
        assert headers["x-acs-content-sha256"] == signing.EMPTY_PAYLOAD_HASH
        assert headers["x-acs-accesskey-id"] == wire.key_id
        assert headers["x-acs-security-token"] == wire.token
        assert re.fullmatch(r"[0-9a-f]{32}", headers["x-acs-signature-nonce"])
        dated = datetime.strptime(headers["x-acs-date"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        assert abs(datetime.now(UTC) - dated) < timedelta(seconds=30)
        assert "content-type" not in headers
        assert "cookie" not in headers

    def test_what_arrives_is_what_was_signed(self, service, connect, wire):
        connect(service).call("GetMediaInfo", {"InputURL": "https://b/a b/中~*'().mp4?x=1&y"}, dict)
        (request,) = service.requests
        signed = {
            name: value
            for name, value in request.headers.items()
            if name == "host" or name.startswith("x-acs-")
        }
        canonical = signing.canonical_request(
            "POST", "/", request.target.partition("?")[2], signed, signing.EMPTY_PAYLOAD_HASH
        )
        expected = signing.signature(wire.secret, signing.string_to_sign(canonical))
        assert request.headers["authorization"].endswith(f"Signature={expected}")

    def test_no_parameters(self, service, connect):
        connect(service).call("ListMediaBasicInfos", {}, dict)
        assert service.requests[0].target in ("/", "/?")

    @pytest.mark.parametrize("value", [1.5, ["a"], b"a", {"a": 1}])
    def test_a_parameter_that_has_no_spelling_is_refused(self, service, connect, value):
        with pytest.raises(ValueError, match="parameter Title"):
            connect(service).call("UpdateMediaInfo", {"Title": value}, dict)
        assert not service.requests

    def test_cookies_are_not_kept(self, start, connect, wire):
        service = start(wire.http(200, {"RequestId": "R"}, set_cookie="spy=1; Path=/"))
        client = connect(service)
        client.call("X", {}, dict)
        client.call("X", {}, dict)
        assert "cookie" not in service.requests[1].headers

    def test_connections_are_used_again(self, service, connect):
        client = connect(service)
        for _ in range(5):
            client.call("X", {}, dict)
        assert len(service.connections) == 1

    def test_netrc_does_not_replace_the_signature(self, service, connect, tmp_path, monkeypatch):
        netrc = tmp_path / ".netrc"
        netrc.write_text("machine 127.0.0.1 login someone password else\ndefault login a password b\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        connect(service).call("X", {}, dict)
        assert service.requests[0].headers["authorization"].startswith("ACS3-HMAC-SHA256 Credential=")

    def test_without_a_token_no_header_speaks_of_one(self, service, connect, renewable):
        connect(service, renewable(Credentials("id", "secret"))).call("X", {}, dict)
        assert not {"x-acs-security-token", "x-acs-accesskey-id"} & set(service.requests[0].headers)

    @pytest.mark.parametrize("token", ["TOKEN\nx-acs-action: other", "TOKEN中"])
    def test_a_token_that_no_header_carries_is_an_error_that_does_not_show_it(
        self, service, connect, renewable, token
    ):
        error = failing_call(connect(service, renewable(Credentials("id", "secret", token))), IMSAuthError)
        assert "TOKEN" not in everything_in(error)
        assert not service.requests


class TestNoAnswer:
    """Each is tried 8 times, though the retry time is over at once."""

    def test_refused_connection(self, connect, pauses):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        error = failing_call(client := connect(f"http://127.0.0.1:{port}"), IMSTransientError)
        assert (error.code, error.answer_lost) == ("NoConnection", False)
        assert "could not be reached" in str(error)
        assert (error.http_status, error.request_id) == (None, None)
        assert client.stats.requests == MIN_TRIES
        assert client.stats.lost == 0

    def test_unknown_host(self, connect, pauses):
        error = failing_call(connect("http://nowhere.invalid"), IMSTransientError)
        assert (error.code, error.answer_lost) == ("NoConnection", False)
        assert "the host nowhere.invalid is not known" in str(error)

    def test_no_connection_in_time(self, connect, pauses, monkeypatch):
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(full.getsockname())
            client = connect(f"http://127.0.0.1:{full.getsockname()[1]}", connect_timeout=0.05)
            error = failing_call(client, IMSTransientError)
            for filler in fillers:
                filler.close()
        assert (error.code, error.answer_lost) == ("NoConnection", False)
        assert "accepted no connection within 0.05 s" in str(error)

    @pytest.mark.parametrize(
        ("broken", "words"),
        [
            ("reset", "broke before the whole answer came"),
            ("hangup", "broke before the whole answer came"),
            ("silence", "no whole answer"),
            ("no http", "broke before the whole answer came"),
            ("truncated", "cut short"),
            ("truncated json", "cut short"),
            ("silence within", "no whole answer"),
            ("reset within", "broke before the whole answer came"),
            ("broken gzip", "broke before the whole answer came"),
            ("broken chunks", "cut short|broke before"),
        ],
    )
    def test_the_answer_is_lost(self, start, connect, pauses, wire, broken, words):
        body = wire.ok().partition(b"\r\n\r\n")[2]
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        step = {
            "reset": wire.Hangup(reset=True),
            "hangup": wire.Hangup(),
            "silence": b"",
            "no http": wire.Hangup(b"SSH-2.0-OpenSSH_9.6\r\n"),
            "truncated": wire.Hangup(wire.http(200, body, length=len(body) + 10)),
            "truncated json": wire.Hangup(wire.http(200, body[:-1], length=len(body))),
            "silence within": wire.http(200, body, length=len(body) + 10),
            "reset within": wire.Hangup(wire.http(200, body, length=len(body) + 10), reset=True),
            "broken gzip": wire.http(200, body, content_encoding="gzip"),
            "broken chunks": wire.Hangup(chunked + b'5\r\n{"Req'),
        }[broken]
        service = start(default=step)
        client = connect(service, read_timeout=0.2 if "silence" in broken else 5)
        error = failing_call(client, IMSTransientError)
        assert (error.code, error.answer_lost, error.http_status) == ("NoAnswer", True, None)
        assert re.search(words, str(error))
        assert "MediaIds" not in str(error)
        assert len(service.requests) == MIN_TRIES
        assert client.stats == RequestStats(requests=8, retries=7, throttled=0, lost=8)
        assert client.last_answer_at == float("-inf")

    @pytest.mark.parametrize(
        ("status", "body", "words"),
        [
            (200, "<html>Welcome to the hotel's network</html>", "no JSON"),
            (200, "", "no JSON"),
            (200, '{"RequestId": "R"', "no JSON"),
            (200, b"\xff\xfe\x00", "no JSON"),
            (200, "null", "no JSON"),
            (200, [{"RequestId": "R"}], "no RequestId"),
            (200, "7", "no RequestId"),
            (200, {}, "no RequestId"),
            (200, {"IgnoredList": []}, "no RequestId"),
            (200, {"RequestId": 7}, "no RequestId"),
            (200, {"RequestId": ["R"]}, "no RequestId"),
            (204, "", "status is not 200"),
            (206, {"RequestId": "R"}, "status is not 200"),
        ],
    )
    def test_an_answer_that_cannot_be_believed_is_no_success(
        self, start, connect, pauses, wire, status, body, words
    ):
        service = start(default=wire.http(status, body))
        error = failing_call(connect(service), IMSTransientError)
        assert (error.code, error.http_status, error.answer_lost) == ("BadAnswer", status, True)
        assert words in str(error)
        assert len(service.requests) == MIN_TRIES

    def test_what_the_parser_refuses(self, start, connect, pauses, wire):
        def refuse(body):
            raise ValueError("its List is no list")

        service = start(default=wire.ok("R-7"))
        with pytest.raises(IMSTransientError, match="its List is no list") as error:
            connect(service).call("X", {}, refuse)
        assert error.value.request_id == "R-7"

    def test_an_overlong_answer(self, start, connect, pauses, wire, monkeypatch):
        monkeypatch.setattr(transport, "MAX_ANSWER_BYTES", 2**20)
        service = start(default=wire.http(200, b" " * 2**20 + b'{"RequestId": "R"}'))
        error = failing_call(connect(service), IMSTransientError)
        assert (error.code, error.answer_lost) == ("BadAnswer", True)
        assert "longer than any of IMS" in str(error)

    def test_half_a_head(self, start, connect, pauses, wire):
        service = start(default=wire.Hangup(b"HTTP/1.1 200 OK\r\nContent-Le"))
        error = failing_call(connect(service), IMSTransientError)
        assert (error.code, error.answer_lost) == ("BadAnswer", True)

    def test_a_nested_bomb(self, start, connect, pauses, wire):
        service = start(default=wire.http(200, b"[" * 200_000))
        error = failing_call(connect(service), IMSTransientError)
        assert error.code == "BadAnswer"

    @pytest.mark.parametrize("status", [500, 502, 503, 504])
    def test_an_error_page_of_a_proxy(self, start, connect, pauses, wire, status):
        service = start(default=wire.http(status, "<html>Bad Gateway</html>"))
        error = failing_call(connect(service), IMSTransientError)
        assert (error.code, error.http_status, error.answer_lost) == (f"HTTP{status}", status, True)
        assert "html" not in str(error)
        assert len(service.requests) == MIN_TRIES

    def test_broken_in_the_middle_of_tls(self, start, connect, pauses, certificate):
        """The request had been read, so the work may be done."""
        context, pem = certificate
        service = start(tls=context)

        def not_tls_any_more(_):
            plain = socket.socket(fileno=socket.dup(service.connections[-1].fileno()))
            plain.sendall(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
            plain.close()
            return b""

        service.default = not_tls_any_more
        error = failing_call(connect(service, verify=str(pem)), IMSTransientError)
        assert len(service.requests) == MIN_TRIES
        assert error.answer_lost


class TestRedirects:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_never_followed(self, start, connect, wire, status):
        elsewhere = start()
        service = start(default=wire.http(status, "", location=f"{elsewhere.url}/?Action=X"))
        error = failing_call(connect(service))
        assert (error.http_status, error.answer_lost) == (status, False)
        assert "redirect" in str(error)
        assert elsewhere.url not in str(error)
        assert not elsewhere.requests
        assert not elsewhere.connections
        assert len(service.requests) == 1

    @pytest.mark.parametrize("location", ["http://[", "://", "\x01", "/again", ""])
    def test_wherever_it_points(self, start, connect, wire, location):
        service = start(default=wire.http(302, "", location=location))
        assert "redirect" in str(failing_call(connect(service)))
        assert len(service.requests) == 1


# code, status, type, requests that a call makes when the service never says anything else
REFUSALS = [
    ("MissingParameter", 400, IMSAPIError, 1),
    ("MissingMediaIds", 400, IMSAPIError, 1),
    ("InvalidParameter", 400, IMSAPIError, 1),
    ("InvalidParameter.MediaIds", 400, IMSAPIError, 1),
    ("OperationDenied", 403, IMSPermissionError, 1),
    ("OperationDenied.Suspended", 403, IMSPermissionError, 1),
    ("ResourceNotFound", 404, IMSAPIError, 1),
    ("ProjectNotFound", 404, IMSAPIError, 1),
    ("RequestsTooFrequent", 403, IMSThrottlingError, None),
    ("Forbidden", 403, IMSPermissionError, 1),
    ("Forbidden.RAM", 403, IMSPermissionError, 1),
    ("NoPermission", 403, IMSPermissionError, 1),
    ("Forbidden.RiskControl", 403, IMSPermissionError, 1),
    ("InternalError", 500, IMSTransientError, MIN_TRIES),
    ("ServiceUnAvailable", 503, IMSTransientError, MIN_TRIES),
    ("serviceunavailable", 503, IMSTransientError, MIN_TRIES),
    ("Throttling", 400, IMSThrottlingError, None),
    ("Throttling.User", 429, IMSThrottlingError, None),
    ("throttling.api", 503, IMSThrottlingError, None),
    ("SignatureNonceUsed", 400, IMSTransientError, MIN_TRIES),
    ("InvalidTimeStamp.Expired", 400, IMSAuthError, 2),
    ("InvalidTimeStamp.Format", 400, IMSAuthError, 1),
    ("SignatureDoesNotMatch", 400, IMSAuthError, 1),
    ("IncompleteSignature", 403, IMSAuthError, 1),
    ("InvalidAccessKeyId.NotFound", 404, IMSAuthError, 1),
    ("InvalidAccessKeyId.Inactive", 400, IMSAuthError, 1),
    ("MissingSecurityToken", 400, IMSAuthError, 1),
    ("InvalidSecurityToken.Expired", 400, IMSAuthError, 1),
    ("InvalidSecurityToken.Malformed", 400, IMSAuthError, 1),
    ("InvalidSecurityToken.MismatchWithAccessKey", 400, IMSAuthError, 1),
    ("InvalidApi.NotFound", 404, IMSAPIError, 1),
    ("InvalidAction", 400, IMSAPIError, 1),
    ("InvalidProduct.NotFound", 404, IMSAPIError, 1),
    ("NoSuchVersion", 400, IMSAPIError, 1),
    ("UnsupportedHTTPMethod", 404, IMSAPIError, 1),
    ("NeverHeardOf", 400, IMSAPIError, 1),
    ("NeverHeardOf", 403, IMSPermissionError, 1),
]


class TestRefusals:
    @pytest.mark.parametrize(("code", "status", "kind", "tries"), REFUSALS)
    def test_type_tries_and_details(self, start, connect, pauses, wire, code, status, kind, tries):
        service = start(default=wire.refusal(status, code, "Said so."))
        client = connect(service, retry_seconds=1.5 if tries is None else 0)
        error = failing_call(client, kind)
        assert (error.code, error.http_status, error.request_id) == (code, status, "R-NO")
        assert error.action == "DeleteMediaInfos"
        assert "Said so" in str(error)
        assert len(service.requests) == client.stats.requests
        assert len(service.requests) == tries if tries else len(service.requests) > 1
        assert error.answer_lost == (kind is IMSTransientError)

    def test_lower_case_fields(self, start, connect, wire):
        service = start(wire.http(400, {"requestId": "R-low", "code": "invalidparameter", "message": "No."}))
        error = failing_call(connect(service))
        assert (error.code, error.request_id, error.message) == ("invalidparameter", "R-low", "No")

    def test_a_status_of_success_with_a_code_is_none(self, start, connect, pauses, wire):
        service = start(wire.refusal(200, "Forbidden.RAM"))
        assert failing_call(connect(service), IMSPermissionError).http_status == 200
        service.default = wire.refusal(200, "InternalError")
        assert failing_call(connect(service), IMSTransientError).answer_lost

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 407, 413, 414])
    def test_a_page_instead_of_a_code(self, start, connect, wire, status):
        service = start(wire.http(status, "<html>Login</html>", x_acs_request_id="R-head"))
        kind = {401: IMSAuthError, 403: IMSPermissionError}.get(status, IMSAPIError)
        error = failing_call(connect(service), kind)
        assert (error.code, error.request_id, error.answer_lost) == (f"HTTP{status}", "R-head", False)
        assert "without an IMS code" in str(error)

    @pytest.mark.parametrize(
        "odd",
        [
            {"Code": None, "Message": None},
            {"Code": 404, "Message": 7},
            {"Code": ["Forbidden"], "Message": {"a": 1}, "RequestId": 7},
            {"Code": {}, "AccessDeniedDetail": "text"},
        ],
    )
    def test_refusals_of_an_odd_shape(self, start, connect, wire, odd):
        service = start(wire.http(400, odd))
        assert failing_call(connect(service)).http_status == 400

    def test_a_missing_permission_names_the_action(self, start, connect, wire):
        service = start(
            wire.refusal(403, "NoPermission", "Not authorized."),
            wire.refusal(403, "Forbidden.RAM", AccessDeniedDetail={"AuthAction": "ice:Whatever"}),
        )
        assert "ice:DeleteMediaInfos" in str(failing_call(connect(service), IMSPermissionError))
        assert "ice:Whatever" in str(failing_call(connect(service), IMSPermissionError))

    @pytest.mark.parametrize(
        ("header", "seconds"),
        [("1500", 1.5), ("0", 0), ("99999999", 60), ("-5", None), ("1.5", None), ("soon", None), ("", None)],
    )
    def test_retry_after_is_in_milliseconds(self, start, connect, pauses, wire, header, seconds):
        refusal = wire.refusal(400, "Throttling.User", headers={"x_acs_retry_after": header})
        client = connect(start(refusal, refusal), retry_seconds=60)
        client.call("X", {}, dict)
        assert all(pause >= (seconds or 0) for pause in pauses)
        client = connect(start(default=refusal))
        assert failing_call(client, IMSThrottlingError).retry_after == seconds


class TestRetries:
    def test_each_try_is_signed_anew(self, start, connect, pauses, wire):
        def a_second_later(_):
            time.sleep(1.01)
            return wire.Hangup(reset=True)

        service = start(a_second_later, wire.http(502, ""))
        connect(service).call("X", {"A": "b"}, dict)
        for header in ("x-acs-signature-nonce", "authorization"):
            assert len({request.headers[header] for request in service.requests}) == 3
        assert service.requests[0].headers["x-acs-date"] < service.requests[1].headers["x-acs-date"]
        assert len({request.target for request in service.requests}) == 1

    def test_a_spent_nonce_is_replaced_at_once_and_only_then_with_pauses(self, start, connect, pauses, wire):
        spent = wire.refusal(400, "SignatureNonceUsed")
        service = start(spent, spent, spent)
        answer = connect(service).call("X", {}, dict)
        assert pauses[0] == 0
        assert all(pauses[1:])
        # Something on the way had sent the request twice, so the first may have been answered.
        assert answer.answer_lost

    def test_pauses_grow_with_full_jitter_up_to_a_cap(self, start, connect, pauses, wire):
        service = start(*[wire.http(500, "")] * 40)
        connect(service, retry_seconds=60).call("X", {}, dict)
        assert len(pauses) == 40
        assert all(0 <= pause <= min(0.25 * 2**n, 20) for n, pause in enumerate(pauses))
        assert len(set(pauses)) == 40
        assert max(pauses) > 5

    def test_throttling_is_borne_for_the_retry_time_and_no_longer(self, start, connect, wire):
        service = start(default=wire.refusal(400, "Throttling.User"))
        began = time.monotonic()
        failing_call(connect(service, retry_seconds=0.5), IMSThrottlingError)
        assert 0.5 <= time.monotonic() - began < 60

    def test_at_least_eight_tries_however_short_the_time(self, start, connect, pauses, wire):
        service = start(*[wire.http(502, "")] * (MIN_TRIES - 1))
        connect(service, retry_seconds=0).call("X", {}, dict)
        assert len(service.requests) == MIN_TRIES

    def test_throttles_do_not_count_as_tries(self, start, connect, pauses, wire):
        throttle = wire.refusal(400, "Throttling.User")
        service = start(*[throttle] * 20, *[wire.http(502, "")] * (MIN_TRIES - 1))
        client = connect(service, retry_seconds=60)
        client.call("X", {}, dict)
        assert client.stats == RequestStats(requests=28, retries=27, throttled=20, lost=7, answered=21)

    def test_throttling_after_a_lost_answer_ends_with_the_retry_time_too(self, start, connect, pauses, wire):
        service = start(wire.Hangup(reset=True), default=wire.refusal(400, "Throttling.User"))
        error = failing_call(connect(service, retry_seconds=0.1), IMSThrottlingError)
        assert error.answer_lost  # by the first try

    def test_long_beyond_the_eighth_try_while_there_is_time(self, start, connect, pauses, wire):
        service = start(*[wire.http(503, "")] * 30)
        connect(service, retry_seconds=60).call("X", {}, dict)
        assert len(service.requests) == 31

    def test_a_lost_try_marks_the_later_success(self, start, connect, pauses, wire):
        service = start(
            wire.refusal(400, "Throttling"), wire.Hangup(reset=True), wire.refusal(429, "Throttling")
        )
        client = connect(service, retry_seconds=60)
        assert client.call("X", {}, dict).answer_lost
        assert not client.call("X", {}, dict).answer_lost, "the next call starts anew"

    def test_a_lost_try_marks_the_later_refusal(self, start, connect, pauses, wire):
        service = start(wire.Hangup(reset=True), wire.refusal(403, "Forbidden.RAM"))
        assert failing_call(connect(service), IMSPermissionError).answer_lost

    def test_throttles_and_refused_connections_mark_nothing(self, start, connect, pauses, wire):
        client = connect(
            start(wire.refusal(400, "Throttling"), wire.refusal(503, "Throttling")), retry_seconds=60
        )
        assert not client.call("X", {}, dict).answer_lost
        assert client.last_answer_at == pytest.approx(time.monotonic(), abs=5)


class TestClock:
    @pytest.mark.parametrize("off", [timedelta(minutes=30), timedelta(minutes=-30)])
    def test_taken_over_once(self, start, connect, wire, caplog, off):
        service_now = datetime.now(UTC) + off

        def judge(request):
            dated = datetime.strptime(request.headers["x-acs-date"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
            if abs(dated - service_now) > timedelta(minutes=15):
                return wire.refusal(
                    400,
                    "InvalidTimeStamp.Expired",
                    headers={"date": format_datetime(service_now, usegmt=True)},
                )
            return wire.ok()

        service = start(default=judge)
        client = connect(service)
        assert not client.call("X", {}, dict).answer_lost
        assert len(service.requests) == 2
        client.call("X", {}, dict)
        assert len(service.requests) == 3, "the next call is right from the start"
        (said,) = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert "30 minutes " + ("behind" if off > timedelta() else "ahead of") in said.getMessage()

    @pytest.mark.parametrize("date", ["", "yesterday", "Mon, 99 Foo 2026 99:99:99 GMT", "0"])
    def test_a_date_that_is_none_corrects_nothing(self, start, connect, wire, date):
        service = start(default=wire.refusal(400, "InvalidTimeStamp.Expired", headers={"date": date}))
        failing_call(connect(service), IMSAuthError)
        assert len(service.requests) == 1

    def test_a_date_in_utc_by_another_name(self, start, connect, wire):
        date = formatdate(time.time() + 1800)
        assert date.endswith("-0000")
        service = start(wire.refusal(400, "InvalidTimeStamp.Expired", headers={"date": date}))
        connect(service).call("X", {}, dict)
        assert len(service.requests) == 2


class TestCredentials:
    RENEWABLE = (
        "SignatureDoesNotMatch",
        "IncompleteSignature",
        "InvalidAccessKeyId.NotFound",
        "InvalidSecurityToken.Expired",
    )

    @pytest.mark.parametrize("code", RENEWABLE)
    def test_renewed_once(self, start, connect, wire, renewable, code):
        source = renewable(
            Credentials("old", "s", "t"), Credentials("new", "s2", "t2"), Credentials("newer", "s")
        )
        service = start(wire.refusal(400, code))
        assert not connect(service, source).call("X", {}, dict).answer_lost
        assert [request.headers["x-acs-accesskey-id"] for request in service.requests] == ["old", "new"]
        assert source.renewed == 1

    @pytest.mark.parametrize("code", RENEWABLE)
    def test_only_once(self, start, connect, wire, renewable, code):
        source = renewable(*(Credentials(f"id{n}", "secret") for n in range(5)))
        service = start(default=wire.refusal(400, code))
        failing_call(connect(service, source), IMSAuthError)
        assert (len(service.requests), source.renewed) == (2, 1)

    def test_not_at_all_when_there_is_nothing_newer(self, start, connect, wire, renewable):
        source = renewable(Credentials("id", "secret"))
        service = start(default=wire.refusal(400, "InvalidSecurityToken.Expired"))
        failing_call(connect(service, source), IMSAuthError)
        assert (len(service.requests), source.renewed) == (1, 1)

    def test_a_corrected_clock_and_new_credentials_in_one_call(self, start, connect, wire, renewable):
        service = start(
            wire.refusal(400, "InvalidTimeStamp.Expired"),
            wire.refusal(400, "InvalidSecurityToken.Expired"),
        )
        connect(service, renewable(Credentials("a", "s"), Credentials("b", "s"))).call("X", {}, dict)
        assert len(service.requests) == 3


class TestStop:
    def test_set_before(self, service, connect):
        stop = threading.Event()
        stop.set()
        with pytest.raises(CallAbandoned) as error:
            connect(service).call("X", {}, dict, stop=stop)
        assert not error.value.answer_lost
        assert not service.requests

    @pytest.mark.parametrize("lost", [True, False])
    def test_in_a_pause(self, start, connect, wire, lost):
        throttle = wire.refusal(400, "Throttling", headers={"x_acs_retry_after": "30000"})
        service = start(
            wire.Hangup(reset=True) if lost else wire.refusal(400, "Throttling"), default=throttle
        )
        stop = threading.Event()
        threading.Timer(0.7, stop.set).start()
        began = time.monotonic()
        with pytest.raises(CallAbandoned) as error:
            connect(service, retry_seconds=60).call("X", {}, dict, stop=stop)
        assert time.monotonic() - began < 20
        assert error.value.answer_lost == lost
        sent = len(service.requests)
        assert sent == 2
        time.sleep(0.2)
        assert len(service.requests) == sent

    def test_while_a_key_is_fetched(self, service, connect):
        stop = threading.Event()

        class Fetched:
            def current(self):
                stop.set()
                return Credentials("a", "s")

        client = connect(service, Fetched())
        with pytest.raises(CallAbandoned) as error:
            client.call("X", {}, dict, stop=stop)
        assert not error.value.answer_lost
        assert (client.stats.requests, service.requests) == (0, [])

    @pytest.mark.parametrize("over_tls", [False, True])
    def test_while_a_name_is_resolved(self, start, connect, monkeypatch, certificate, over_tls):
        service = start(tls=certificate[0] if over_tls else None)
        stop = threading.Event()
        resolve = socket.getaddrinfo

        def slowly(*args, **options):
            stop.set()
            return resolve(*args, **options)

        client = connect(service, verify=str(certificate[1]))
        monkeypatch.setattr(socket, "getaddrinfo", slowly)
        with pytest.raises(CallAbandoned) as error:
            client.call("X", {}, dict, stop=stop)
        assert not error.value.answer_lost
        # A connection that was made and not used is not left for the next request either.
        assert client.call("X", {}, dict).request_id == "R-OK"
        assert (client.stats.requests, len(service.requests)) == (1, 1)

    def test_an_answer_in_flight_still_counts(self, start, connect, wire):
        stop = threading.Event()

        def stop_while_working(_):
            stop.set()
            return wire.ok("R-done")

        answer = connect(start(stop_while_working)).call("X", {}, dict, stop=stop)
        assert answer.request_id == "R-done"


class TestProxies:
    def test_from_the_environment(self, start, connect, monkeypatch):
        proxy = start()
        monkeypatch.setenv("http_proxy", proxy.url)
        connect("http://ice.nowhere.invalid").call("X", {"A": "b"}, dict)
        (request,) = proxy.requests
        assert request.target == "http://ice.nowhere.invalid/?A=b"
        assert request.headers["host"] == "ice.nowhere.invalid"
        assert request.headers["authorization"].startswith("ACS3-HMAC-SHA256")

    @pytest.mark.parametrize("no_proxy", ["127.0.0.1", "localhost,127.0.0.1", "*"])
    def test_no_proxy_is_respected(self, start, service, connect, monkeypatch, no_proxy):
        proxy = start()
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", no_proxy)
        connect(service).call("X", {}, dict)
        assert len(service.requests) == 1
        assert not proxy.requests

    def test_given(self, start, connect, monkeypatch):
        proxy, other = start(), start()
        monkeypatch.setenv("http_proxy", other.url)
        monkeypatch.setenv("all_proxy", other.url)
        connect("http://ice.nowhere.invalid", proxy=f"http://user:word@{proxy.host}").call("X", {}, dict)
        assert len(proxy.requests) == 1
        assert proxy.requests[0].headers["proxy-authorization"] == "Basic dXNlcjp3b3Jk"
        assert not other.requests

    def test_tls_through_a_tunnel_shows_the_proxy_nothing(self, start, connect, certificate, monkeypatch):
        context, pem = certificate
        proxy = start()
        proxy.tls, tls = None, context
        proxy._wrap = lambda connection: tls.wrap_socket(connection, server_side=True)
        monkeypatch.setenv("https_proxy", proxy.url)
        connect("https://127.0.0.1:4430", verify=str(pem)).call("X", {}, dict)
        (tunnel,) = proxy.tunnels
        assert tunnel.target == "127.0.0.1:4430"
        assert not [name for name in tunnel.headers if name == "authorization" or name.startswith("x-acs")]
        assert len(proxy.requests) == 1

    def test_a_proxy_that_is_not_there(self, connect, pauses):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        client = connect("http://ice.nowhere.invalid", proxy=f"http://user:word@127.0.0.1:{port}")
        error = failing_call(client, IMSTransientError)
        assert (error.code, error.answer_lost) == ("NoConnection", False)
        assert "proxy" in str(error)
        assert "word" not in everything_in(error)

    @pytest.mark.parametrize("proxy", ["http://", "gopher://127.0.0.1:1", "http://user:word@127.0.0.1:port"])
    def test_a_proxy_that_can_never_work_is_tried_once(self, connect, proxy):
        client = connect("http://ice.nowhere.invalid", proxy=proxy)
        error = failing_call(client)
        assert (error.code, error.answer_lost) == ("UnusableAddress", False)
        assert client.stats.requests == 1
        assert "word" not in everything_in(error)


class TestTLS:
    def test_a_certificate_of_nobody_is_refused_at_once(self, start, connect, certificate):
        service = start(tls=certificate[0])
        client = connect(service, retry_seconds=60)
        error = failing_call(client)
        assert (error.code, error.answer_lost, error.http_status) == ("UntrustedCertificate", False, None)
        assert client.stats.requests == 1
        assert not service.requests

    def test_a_certificate_for_another_name(self, start, connect, certificate):
        service = start(tls=certificate[0])
        error = failing_call(connect(f"https://localhost:{service.port}", verify=str(certificate[1])))
        assert error.code == "UntrustedCertificate"

    @pytest.mark.parametrize("how", ["path", "off", "environment"])
    def test_accepted(self, start, connect, certificate, monkeypatch, how, recwarn):
        context, pem = certificate
        import certifi

        service = start(tls=context)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(pem) if how == "environment" else certifi.where())
        client = connect(service, verify={"path": str(pem), "off": False, "environment": True}[how])
        assert client.call("X", {}, dict).request_id == "R-OK"

    def test_a_bundle_that_does_not_exist_is_refused_before_the_first_request(
        self, connect, tmp_path, monkeypatch
    ):
        with pytest.raises(ValueError, match="no CA bundle"):
            connect("https://127.0.0.1", verify=str(tmp_path / "nothing.pem"))
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "nothing.pem"))
        with pytest.raises(ValueError, match=r"nothing\.pem"):
            connect("https://127.0.0.1")

    def test_no_tls_at_the_other_end_is_final_at_once(self, connect):
        def answer_in_plain_text(listener):
            connection, _ = listener.accept()
            with connection:
                heard.append(connection.recv(65536))
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        heard: list[bytes] = []
        with socket.create_server(("127.0.0.1", 0)) as listener:
            threading.Thread(target=answer_in_plain_text, args=(listener,), daemon=True).start()
            client = connect(f"127.0.0.1:{listener.getsockname()[1]}", retry_seconds=300)
            error = failing_call(client)
        assert (error.code, error.answer_lost) == ("NoTLS", False)
        assert "http://" in str(error)
        assert b"MediaIds" not in b"".join(heard)
        assert client.stats == RequestStats(requests=1)

    def test_a_handshake_that_is_broken_off_was_no_request(self, start, connect, pauses, certificate):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            threading.Thread(
                target=lambda: [listener.accept()[0].close() for _ in range(MIN_TRIES)], daemon=True
            ).start()
            client = connect(f"127.0.0.1:{listener.getsockname()[1]}")
            error = failing_call(client, IMSTransientError)
        assert (error.code, error.answer_lost, client.stats.lost) == ("NoConnection", False, 0)


def test_sixteen_threads_share_one_client(start, connect, pauses, wire):
    rough = [wire.http(502, ""), wire.refusal(400, "Throttling"), wire.Hangup(reset=True)]
    service = start(*(rough[n % 3] for n in range(60)), default=lambda request: wire.ok(request.query["N"]))
    client = connect(service, retry_seconds=60)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: client.call("X", {"N": n}, dict), range(320)))
    assert [answer.request_id for answer in answers] == [str(n) for n in range(320)]
    nonces = [request.headers["x-acs-signature-nonce"] for request in service.requests]
    assert len(nonces) == len(set(nonces)) == 380
    assert client.stats == RequestStats(requests=380, retries=60, throttled=20, lost=40, answered=340)


class Recorder:
    """A pace that notes what it hears."""

    def __init__(self, permit=object()) -> None:  # noqa: B008
        self.permit = permit
        self.heard: list[dict] = []
        self.asked = 0

    def reset(self):
        pass

    def acquire(self, stop=None):
        self.asked += 1
        return self.permit

    def release(self, permit, **news):
        assert permit is self.permit
        self.heard.append(news)


def test_the_pace_is_asked_before_and_told_after_each_request(start, connect, pauses, wire):
    pace = Recorder()
    throttle = wire.refusal(400, "Throttling", headers={"x_acs_retry_after": "2000"})
    service = start(throttle, wire.http(502, ""))
    connect(service, pace=pace, retry_seconds=60).call("X", {}, dict)
    assert pace.asked == 3
    assert pace.heard == [
        {"throttled": True, "retry_after": 2.0},
        {"throttled": None, "retry_after": None},
        {"throttled": False, "retry_after": None},
    ]
    assert pauses[0] == 0, "after a throttle the pace makes everybody wait"


def everything_in(error: BaseException) -> str:
    """All text that can be reached from an error: its own, its attributes', and of what led to it."""
    seen: set[int] = set()
    texts: list[str] = []

    def walk(thing: object, depth: int = 0) -> None:
        if thing is None or id(thing) in seen or depth > 12:
            return
        seen.add(id(thing))
        texts.append(f"{thing!r} {thing}")
        if isinstance(thing, dict):
            for name, value in thing.items():
                walk(name, depth + 1)
                walk(value, depth + 1)
        elif isinstance(thing, list | tuple | set):
            for item in thing:
                walk(item, depth + 1)
        elif not isinstance(thing, str | bytes | int | float | type):
            walk(getattr(thing, "__dict__", None), depth + 1)
            if isinstance(thing, BaseException):
                for part in (
                    thing.args,
                    thing.__cause__,
                    thing.__context__,
                    getattr(thing, "__notes__", None),
                ):
                    walk(part, depth + 1)

    walk(error)
    return "\n".join(texts)


def echo_of_the_request(wording: str, code: str, wire):
    """A refusal that repeats what was signed, as the gateway does."""

    def step(request):
        canonical = "\\n".join(f"{name}:{value}" for name, value in request.headers.items())
        signature = request.headers["authorization"]
        return wire.refusal(400, code, wording.format(canonical=canonical, signature=signature))

    return step


def leaky_cases(wire):
    echoes = [
        "Specified signature does not match our calculation. server StringToSign is [ACS3 {signature}] "
        "server CanonicalRequest is [POST\n{canonical}]",
        "Specified signature is not matched with our calculation. "
        "server string to sign is:POST&{canonical}{signature}",
        "The request signature does not conform to Aliyun standards. "
        "Server Canonical Request:{canonical}{signature}",
    ]
    return {
        **{
            f"echo {n}": echo_of_the_request(text, "SignatureDoesNotMatch", wire)
            for n, text in enumerate(echoes)
        },
        "incomplete": echo_of_the_request(echoes[2], "IncompleteSignature", wire),
        "reset": wire.Hangup(reset=True),
        "hangup": wire.Hangup(),
        "truncated": wire.Hangup(wire.http(200, "{", length=10)),
        "silence": b"",
        "page": wire.http(502, "<html>"),
        "200 page": wire.http(200, "<html>"),
        "throttled": wire.refusal(400, "Throttling.User"),
        "permission": wire.refusal(403, "NoPermission"),
        "redirect": wire.http(302, "", location="http://127.0.0.1:1/"),
        "success": wire.ok(),
    }


LEAKY_CASES = (
    *(
        "echo 0",
        "echo 1",
        "echo 2",
        "incomplete",
        "reset",
        "hangup",
        "truncated",
        "silence",
        "page",
        "200 page",
    ),
    *("throttled", "permission", "redirect", "success"),
)


@pytest.mark.parametrize("case", LEAKY_CASES)
def test_no_secret_in_errors_or_logs(start, connect, pauses, wire, caplog, case):
    caplog.set_level(logging.DEBUG)
    cases = leaky_cases(wire)
    assert set(cases) == set(LEAKY_CASES)
    service = start(default=cases[case])
    client = connect(service, retry_seconds=0.02, read_timeout=0.1 if case == "silence" else 5)
    call = partial(client.call, "DeleteMediaInfos", {"MediaIds": "a"}, dict)
    if case == "success":
        shown = repr(call())
    else:
        with pytest.raises(IMSAPIError) as error:
            call()
        shown = everything_in(error.value)
        assert service.url not in shown
        assert "MediaIds" not in shown
        assert error.value.message
    logged = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    assert "urllib3" in logged, "the log was really listened to, to the lowest level"
    signatures = [request.headers["authorization"].partition("Signature=")[2] for request in service.requests]
    assert signatures
    for secret in (wire.secret, wire.token, *signatures):
        assert secret not in shown
        assert secret not in logged


@pytest.mark.parametrize("refused", ["connection", "host", "certificate"])
def test_no_secret_in_errors_of_the_connection(start, connect, pauses, wire, caplog, refused, certificate):
    caplog.set_level(logging.DEBUG)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    to = {
        "connection": f"http://127.0.0.1:{port}",
        "host": "http://nowhere.invalid",
        "certificate": start(tls=certificate[0]).url,
    }[refused]
    with pytest.raises(IMSAPIError) as error:
        connect(to).call("DeleteMediaInfos", {"MediaIds": "a"}, dict)
    shown = everything_in(error.value)
    assert "MediaIds" not in shown
    for secret in (wire.secret, wire.token, "Signature="):
        assert secret not in shown + caplog.text


class TestNonsenseInHeaders:
    @pytest.mark.parametrize(
        "value",
        ["9" * 400, "9" * 5000, "-1", "1e999", "nan", "inf", "0x10", "1,000", "1 000", "\xb2", "?", ""],
    )
    def test_a_retry_after_that_is_none_counts_as_absent(self, start, connect, pauses, wire, value):
        service = start(wire.refusal(429, "Throttling", headers={"x_acs_retry_after": value}))
        connect(service, retry_seconds=60).call("X", {}, dict)
        assert pauses[0] <= 0.25

    @given(text=st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=40))
    def test_any_header_is_read_or_absent(self, text):
        with pytest.raises(IMSAPIError) as error:
            read_answer(
                "X", 400, {"Date": text, "x-acs-retry-after": text, "x-acs-request-id": text}, b"{}", dict
            )
        assert 0 <= (error.value.retry_after or 0) <= 60
        assert (error.value.request_id or "").isprintable()

    @pytest.mark.parametrize(
        "date",
        [
            "Wed, 25 Nov 2026 22:22:51 +9999",
            "Wed, 25 Nov 2026 22:22:51 +" + "9" * 400,
            "Wed, 25 Nov 2026 22:22:51 -" + "9" * 20,
            "Wed, 25 Nov " + "9" * 5000 + " 22:22:51 GMT",
            "Fri, 31 Dec 9999 23:59:59 -2359",
            "99 99 99",
            ",,,",
        ],
    )
    def test_a_date_that_is_none_counts_as_absent(self, start, connect, wire, date):
        service = start(default=wire.refusal(400, "InvalidTimeStamp.Expired", headers={"date": date}))
        error = failing_call(connect(service), IMSAuthError)
        assert error.service_date is None
        assert len(service.requests) == 1

    @pytest.mark.parametrize("days", [-400, -1.1, 1.1, 400, "9999"])
    def test_a_clock_that_is_off_by_more_than_a_day_is_not_taken_over(self, start, connect, wire, days):
        date = (
            "Fri, 31 Dec 9999 23:59:59 GMT"
            if days == "9999"
            else format_datetime(datetime.now(UTC) + timedelta(days=days), usegmt=True)
        )
        service = start(default=wire.refusal(400, "InvalidTimeStamp.Expired", headers={"date": date}))
        client = connect(service)
        error = failing_call(client, IMSAuthError)
        assert "more than a day" in str(error)
        assert len(service.requests) == 1
        assert not client.clock_offset
        failing_call(client, IMSAuthError)
        dated = service.requests[-1].headers["x-acs-date"]
        assert abs(datetime.fromisoformat(dated) - datetime.now(UTC)) < timedelta(minutes=1)


def test_refusals_name_the_connection_and_lost_answers_the_host(start, connect, wire, pauses):
    service = start(wire.refusal(403, "Forbidden.RAM"), default=wire.http(502, ""))
    client = connect(service, connection="ims_eu")
    error = failing_call(client, IMSPermissionError)
    assert (error.connection, str(error)[-20:]) == ("ims_eu", ", connection ims_eu)")
    assert pickle.loads(pickle.dumps(error)).connection == "ims_eu"
    assert failing_call(client, IMSTransientError).connection is None


def test_what_could_not_be_sent_is_no_request(service, connect, renewable):
    client = connect(service, renewable(Credentials("id", "secret", "TOKEN\n")))
    failing_call(client, IMSAuthError)
    assert client.stats == RequestStats()


def test_interim_answers_alone_are_a_lost_answer(start, connect, pauses, wire):
    error = failing_call(connect(start(default=wire.http(103, ""))), IMSTransientError)
    assert (error.code, error.answer_lost) == ("BadAnswer", True)


@pytest.mark.parametrize("code", [{"a": 1}, ["OK"], 1.5, True, "[" * 3])
def test_a_success_with_a_code_that_is_none_is_no_success(start, connect, wire, code):
    error = failing_call(connect(start(default=wire.http(200, {"RequestId": "R", "Code": code}))))
    assert error.http_status == 200


def test_nesting_is_not_spelled(start, connect, wire):
    nested = "[" * 900 + "]" * 900
    body = f'{{"Code": {nested}, "Message": {nested}, "RequestId": {nested}}}'
    assert failing_call(connect(start(default=wire.http(400, body)))).code == "UnreadableCode"
