"""An exchange ends within its bound, whatever trickles in; a stop ends it sooner."""

from __future__ import annotations

import itertools
import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_ims.api import transport
from airflow_provider_ims.api.errors import CallAbandoned, IMSAPIError, IMSTransientError
from airflow_provider_ims.api.rate_limit import RateLimiter

READ_TIMEOUT, CONNECT_TIMEOUT = 0.4, 0.3
WHOLE = CONNECT_TIMEOUT + 2 * READ_TIMEOUT
# Seconds that a busy machine may take longer; without a bound it is for ever.
ANY_MACHINE = 10

TRICKLES = {
    "status line": itertools.repeat(b"H"),
    "status": itertools.chain([b"HTTP/1.1 200 "], itertools.repeat(b"O")),
    "header": itertools.chain([b"HTTP/1.1 200 OK\r\nA: "], itertools.repeat(b"b")),
    "headers": itertools.chain([b"HTTP/1.1 200 OK\r\n"], itertools.repeat(b"A: b\r\n")),
    "interim answers": itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body": itertools.chain([b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n"], itertools.repeat(b" ")),
    "body without an end": itertools.chain([b"HTTP/1.1 200 OK\r\n\r\n"], itertools.repeat(b" ")),
    "chunks": itertools.chain(
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"], itertools.repeat(b"1\r\n \r\n")
    ),
    "chunk size": itertools.chain(
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"], itertools.repeat(b"0")
    ),
    "trailers": itertools.chain(
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"],
        itertools.repeat(b"A: b\r\n"),
    ),
}


@pytest.fixture
def quick(connect):
    return lambda to, **options: connect(
        to, **{"read_timeout": READ_TIMEOUT, "connect_timeout": CONNECT_TIMEOUT, "min_tries": 1, **options}
    )


@pytest.mark.parametrize("part", TRICKLES)
def test_a_call_is_over_however_its_answer_trickles(start, quick, wire, part):
    service = start(default=wire.Trickle(TRICKLES[part], 0.05))
    began = time.monotonic()
    with pytest.raises(IMSTransientError) as error:
        quick(service).call("X", {}, dict)
    assert time.monotonic() - began < WHOLE + ANY_MACHINE
    assert (error.value.code, error.value.answer_lost) == ("NoAnswer", True)
    assert "no whole answer" in str(error.value)


@pytest.mark.parametrize("over_tls", [False, True])
def test_a_slow_answer_that_is_whole_in_time_counts(start, quick, wire, certificate, over_tls):
    answer = wire.ok("R-slow")
    slowly = wire.Trickle([answer[:30], answer[30:90], answer[90:]], 0.8)
    service = start(slowly, tls=certificate[0] if over_tls else None)
    client = quick(service, verify=str(certificate[1]), read_timeout=2)
    assert client.call("X", {}, dict).request_id == "R-slow"


def test_a_proxys_answer_trickles(quick):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                for _ in range(200):
                    try:
                        connection.sendall(b"H")
                    except OSError:
                        return
                    time.sleep(0.05)

        threading.Thread(target=answer, daemon=True).start()
        began = time.monotonic()
        with pytest.raises(IMSTransientError) as error:
            quick("https://ice.nowhere.invalid", proxy=f"http://127.0.0.1:{listener.getsockname()[1]}").call(
                "X", {}, dict
            )
    assert time.monotonic() - began < WHOLE + ANY_MACHINE
    assert not error.value.answer_lost


@pytest.mark.parametrize(("status", "final"), [(407, True), (403, True), (502, False)])
def test_what_a_proxy_refuses_with_is_told_in_our_words(quick, status, final):
    echo = b"HTTP/1.1 %d SIGNEDbySOMEBODY\x1b[31m\r\n\r\n" % status
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(echo)

        threading.Thread(target=answer, daemon=True).start()
        client = quick(
            "https://ice.nowhere.invalid",
            proxy=f"http://127.0.0.1:{listener.getsockname()[1]}",
            retry_seconds=0,
        )
        with pytest.raises(IMSAPIError) as error:
            client.call("X", {}, dict)
    assert isinstance(error.value, IMSTransientError) is not final
    assert (error.value.answer_lost, client.stats.lost) == (False, 0)
    assert str(status) in str(error.value)
    assert "SIGNED" not in str(error.value)


def test_a_stop_ends_what_is_in_flight_after_a_short_grace(start, connect, monkeypatch):
    monkeypatch.setattr(transport, "STOP_GRACE_SECONDS", 0.3)
    service = start(default=b"")  # never answers
    client = connect(service, read_timeout=30, retry_seconds=300)
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    began = time.monotonic()
    with pytest.raises(CallAbandoned) as error:
        client.call("X", {}, dict, stop=stop)
    assert 0.5 < time.monotonic() - began < 0.6 + ANY_MACHINE
    assert error.value.answer_lost
    assert client.stop_seconds == pytest.approx(2.3)


def test_mass_behind_the_body_is_bounded(start, quick, wire, monkeypatch):
    monkeypatch.setattr(transport, "MAX_ANSWER_BYTES", 2**20)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    service = start(default=wire.Trickle(itertools.chain([head], itertools.repeat(b"A: b\r\n" * 2**15)), 0))
    with pytest.raises(IMSTransientError) as error:
        quick(service, read_timeout=20).call("X", {}, dict)
    assert (error.value.code, error.value.answer_lost) == ("BadAnswer", True)


# Each of these is spelled anew by urllib3, requests or both: %2c as %2C, ' as %27, a lone % as %25.
SPELLINGS = [
    "a=%2C&b=%20%7E",
    "a=%2c",
    "a=%zz",
    "a='\"<>^`{|}",
    "a=%41%2e/../b",
    "a=b?c&d=#e",
    "a",
    "&&=",
    "",
]


@pytest.mark.parametrize("way", ["straight", "proxy", "tunnel"])
def test_a_query_is_written_as_it_was_signed(start, wire, certificate, way):
    service = start(default=wire.ok("R-1"))
    service._wrap = lambda connection: certificate[0].wrap_socket(connection, server_side=True)
    url = service.url if way == "straight" else f"{'https' if way == 'tunnel' else 'http'}://127.0.0.1:4430"
    exchange = transport.Transport(
        url,
        connect_timeout=2.0,
        read_timeout=5.0,
        verify=str(certificate[1]),
        proxy=None if way == "straight" else f"http://{service.host}",
    )
    path = "http://127.0.0.1:4430/" if way == "proxy" else "/"
    for query in SPELLINGS:
        exchange.send("X", query, {})
        assert service.requests[-1].target == f"{path}?{query}"
    exchange.close()


def test_as_many_connections_are_kept_as_were_in_flight(start, connect, wire, caplog):
    caplog.set_level(logging.WARNING)
    together = threading.Barrier(64)

    def wait_for_all(request):
        if request.query["Round"] == "0":
            together.wait(10)
        return wire.ok()

    service = start(default=wait_for_all)
    client = connect(service, read_timeout=20)
    with ThreadPoolExecutor(64) as pool:
        for number in range(3):
            list(pool.map(lambda _, number=number: client.call("X", {"Round": number}, dict), range(64)))
    assert len(service.connections) == 64
    assert not caplog.records


class TestSilence:
    """A service that takes connections and never answers."""

    @pytest.mark.parametrize("paced", [False, True])
    def test_it_takes_no_longer_the_more_is_in_flight(self, start, connect, paced):
        service = start(default=b"")
        client = connect(service, read_timeout=0.2, retry_seconds=1, pace=RateLimiter() if paced else None)
        ended: list[float] = []
        began = time.monotonic()

        def call(_):
            with pytest.raises(IMSTransientError) as error:
                client.call("X", {}, dict)
            ended.append(time.monotonic() - began)
            return error.value

        with ThreadPoolExecutor(64) as pool:
            errors = list(pool.map(call, range(64)))
        # Eight time-outs; the pauses between one call's tries are used by the others.
        assert 1.5 < max(ended) < 6
        assert {error.code for error in errors} == {"NoAnswer"}
        if paced:
            assert len(service.requests) <= 10, "one at a time until something went through"
            assert sum(error.answer_lost for error in errors) < 64, "what was never sent is not called lost"
        assert client.stats.answered == 0
        assert client.last_error.code == "NoAnswer"

    def test_an_answer_ends_it(self, start, connect, wire, pauses):
        script = [*[wire.Hangup(reset=True)] * 7, wire.ok(), *[wire.Hangup(reset=True)] * 7, wire.ok()]
        client = connect(start(*script))
        client.call("X", {}, dict)
        assert client.last_error is None
        client.call("X", {}, dict)

    def test_a_later_call_is_not_blamed_for_it(self, start, connect, wire, pauses):
        service = start(*[wire.Hangup(reset=True)] * 9)
        client = connect(service)
        with pytest.raises(IMSTransientError):
            client.call("X", {}, dict)
        client.call("X", {}, dict)
        assert len(service.requests) == 10
