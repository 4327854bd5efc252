"""One exchange over HTTP: a request out, its whole answer in, within one deadline.

``requests`` makes the pool of connections, so that proxies and CA bundles, given or from the environment, work as
usual; requests then go right into it. Nothing that could alter or leak a signed request is on that way: no redirect
is followed, no cookie is sent, ``~/.netrc`` is not read, and the query is written as it was signed: urllib3, which
would spell it anew byte by byte, never sees it. And a request costs little more than half of one through a session.

A time-out of a socket is one for each part that arrives, so a byte each second would hold a call for ever. Here every
byte of an answer, of its status line, headers, chunks and trailers, is read through :class:`_BoundedReader`.
"""

from __future__ import annotations

import http.client
import io
import os
import re
import ssl
import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import get_auth_from_url

from airflow_provider_ims.api.errors import CallAbandoned
from airflow_provider_ims.api.forks import start_anew_in_children
from airflow_provider_ims.api.transport_errors import (
    AnswerTooLong,
    ProxyRefused,
    TLSRefused,
    to_api_error,
)

# The largest answer known (100 media with their files) is below 1 MiB; what is far beyond is no answer of IMS.
MAX_ANSWER_BYTES = 64 * 2**20
STOP_GRACE_SECONDS = 5.0
"""What is in flight when a stop is set is given so long; what has no answer by then counts as lost."""

# How often an exchange that waits looks whether it shall stop.
_LOOK_SECONDS = 0.25
# No more connections are kept than were once in use at the same time; of which there are far fewer.
_POOL_SIZE = 256
# What OpenSSL says of a port that speaks no TLS, or none that this machine speaks. The next try won't change it.
_NO_TLS = re.compile(
    "WRONG_VERSION_NUMBER|HTTP_REQUEST|HTTPS_PROXY_REQUEST|UNKNOWN_PROTOCOL|UNSUPPORTED_PROTOCOL|PROTOCOL_VERSION"
    "|RECORD_LAYER_FAILURE|PACKET_LENGTH_TOO_LONG|UNEXPECTED_MESSAGE|NO_PROTOCOLS_AVAILABLE"
)


class Answer(NamedTuple):
    """A whole answer, as it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport:
    """The connections to one host. Safe to share between threads, and started anew in a forked child.

    An exchange is over after ``connect_timeout`` and twice ``read_timeout``, however its answer trickles.

    :param url: scheme, host and port.
    :param connect_timeout: seconds to wait for a connection, TLS included.
    :param read_timeout: seconds to wait for each part of an answer.
    :param verify: check TLS certificates; or the path of a CA bundle to check them against.
    :param proxy: URL of a proxy; without it those of the environment are used.
    :raises ValueError: when the CA bundle, given or taken from the environment, does not exist.
    """

    def __init__(
        self, url: str, *, connect_timeout: float, read_timeout: float, verify: bool | str, proxy: str | None
    ) -> None:
        self.url = url
        self.host = url.partition("://")[2]
        self.connect_timeout = connect_timeout
        self.read_timeout = read_timeout
        self._timeout = urllib3.Timeout(connect=connect_timeout, read=_LOOK_SECONDS)
        # The environment is read once: there is one host, and reading it costs more than signing.
        self._options: dict[str, Any] = {
            **requests.Session().merge_environment_settings(
                url, {"http": proxy, "https": proxy} if proxy else {}, None, verify, None
            )
        }
        ca_bundle = self._options["verify"]
        if isinstance(ca_bundle, str) and not os.path.exists(ca_bundle):
            raise ValueError(
                f"verify: there is no CA bundle at {ca_bundle!r}, which the connection or the environment names"
            )
        self.start_anew()
        start_anew_in_children(self)

    def start_anew(self) -> None:
        """Begin without a connection."""
        self._adapter = BoundedAdapter(pool_connections=1, pool_maxsize=_POOL_SIZE)
        self._lock = threading.Lock()
        self._route: tuple[Any, str] | None = None

    @property
    def deadline_seconds(self) -> float:
        """How long one exchange takes at most."""
        return self.connect_timeout + 2 * self.read_timeout

    @property
    def stop_seconds(self) -> float:
        """How long an exchange may go on once its ``stop`` is set."""
        return self.connect_timeout + STOP_GRACE_SECONDS

    @property
    def secrets(self) -> tuple[str, ...]:
        """What a proxy is told, in the spellings in which it could be repeated."""
        found: list[str] = []
        for proxy in self._options["proxies"].values():
            _, password = get_auth_from_url(proxy or "")
            if password:
                header = self._adapter.proxy_headers(proxy).get("Proxy-Authorization", "")
                found += [password, header.rpartition(" ")[2]]
        return tuple(found)

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._adapter.close()

    def send(
        self, action: str, query: str, headers: Mapping[str, str], stop: threading.Event | None = None
    ) -> Answer:
        """Send one request with an empty body, and read its whole answer.

        :param stop: once set, nothing is written, and an answer has :data:`STOP_GRACE_SECONDS` left to come.
        :raises CallAbandoned: when ``stop`` was set before the request was written.
        :raises IMSTransientError: when none came; ``answer_lost`` tells whether the request may have been read.
        :raises IMSAPIError: when none can ever come this way.
        """
        exchange = Exchange(self.read_timeout, self.deadline_seconds, stop, query=query)
        try:
            with exchange:
                pool, path = self._route or self._find_route()
                response = pool.urlopen(
                    "POST",
                    path,
                    headers=headers,
                    timeout=self._timeout,
                    retries=False,
                    redirect=False,
                    assert_same_host=False,
                    preload_content=False,
                )
                try:
                    return Answer(response.status, response.headers, _read_body(response))
                finally:
                    # One whose answer was read to its end is back in the pool by now.
                    response.close()
                    response.release_conn()
        except (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException) as error:
            trouble = to_api_error(
                error,
                action=action,
                host=self.host,
                is_sent=not exchange.is_connecting,
                connect_timeout=self.connect_timeout,
                answer_timeout=exchange.waited or self.read_timeout,
            )
        # Raised out here, because the caught error holds the signed request.
        raise trouble

    def _find_route(self) -> tuple[Any, str]:
        """Return the pool of connections, to the service or to a proxy, and what stands before a request's ``?``."""
        with self._lock:
            if not self._route:
                adapter: Any = self._adapter
                verify, cert, proxies = (self._options[name] for name in ("verify", "cert", "proxies"))
                request = requests.PreparedRequest()
                request.url = f"{self.url}/"
                pool = adapter.get_connection_with_tls_context(request, verify, proxies=proxies, cert=cert)
                adapter.cert_verify(pool, request.url, verify, cert)
                self._route = pool, adapter.request_url(request, proxies)
            return self._route


class Exchange:
    """One exchange of this thread, as a context: how far it is, and what bounds it.

    :param read_timeout: seconds to wait for each part of the answer.
    :param seconds: how long all of it may take.
    :param stop: once set, :data:`STOP_GRACE_SECONDS` are left.
    :param max_bytes: of the answer, its head included.
    :param query: of the request, as it was signed; without it the request has what its URL has.
    """

    def __init__(
        self,
        read_timeout: float,
        seconds: float,
        stop: threading.Event | None = None,
        max_bytes: int | None = None,
        query: str | None = None,
    ) -> None:
        self.query = query
        self._read_timeout = read_timeout
        self._stop = stop
        self._began = time.monotonic()
        self._end = self._began + seconds
        self._stopped = False
        self._bytes_left = max_bytes or MAX_ANSWER_BYTES
        self.is_connecting = False
        # Seconds that the answer was waited for, once that was too long.
        self.waited = 0.0

    def __enter__(self) -> None:
        _current.exchange = self

    def __exit__(self, *_: object) -> None:
        _current.exchange = None

    def raise_if_stopped(self) -> None:
        """Raise ``CallAbandoned`` if ``stop`` is set: nothing is written any more. What is written is answered."""
        if self._stop and self._stop.is_set():
            raise CallAbandoned

    def read(self, sock: Any, buffer: Any) -> int:
        """Return how many bytes of the answer came; wait for some, but not too long.

        :raises TimeoutError: when nothing came in time, or not the whole.
        """
        part_began = now = time.monotonic()
        while True:
            if self._stop and not self._stopped and self._stop.is_set():
                self._stopped = True
                self._end = min(self._end, now + STOP_GRACE_SECONDS)
            left = min(part_began + self._read_timeout, self._end) - now
            if left <= 0:
                self.waited = now - (part_began if now < self._end else self._began)
                raise TimeoutError
            if sock.gettimeout() != (look := min(left, _LOOK_SECONDS)):
                sock.settimeout(look)
            try:
                count = sock.recv_into(buffer)
            except TimeoutError:
                now = time.monotonic()
                continue
            self._bytes_left -= count
            if self._bytes_left < 0:
                raise AnswerTooLong
            return cast("int", count)


class _Current(threading.local):
    """The exchange that this thread is busy with."""

    exchange: Exchange | None = None


_current = _Current()


class _BoundedReader(io.RawIOBase):
    """Reads from a socket as its exchange allows.

    :param raw: what the socket is read with otherwise; keeps it open as long as it is needed.
    """

    def __init__(self, sock: Any, raw: io.RawIOBase, exchange: Exchange) -> None:
        self._sock = sock
        self._raw = raw
        self._exchange = exchange

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._exchange.read(self._sock, buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _BoundedSocket:
    """A socket, as far as ``http.client`` reads answers from it."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock

    def makefile(self, mode: str) -> io.BufferedReader:
        assert _current.exchange
        raw = self._sock.makefile(mode, buffering=0)
        return io.BufferedReader(_BoundedReader(self._sock, raw, _current.exchange))


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **options: Any) -> None:
        super().__init__(cast("Any", _BoundedSocket(sock)), *args, **options)

    def begin(self) -> None:
        super().begin()
        # urllib3 would log what it can't read of the headers, with the URL of the request.
        if self.headers.defects or self.headers.get_payload():
            self.headers.defects = []
            self.headers.set_payload("")


class _Bounded:
    """A connection of urllib3 that knows its exchange."""

    response_class = _Response

    def connect(self) -> None:
        assert _current.exchange
        _current.exchange.is_connecting = True
        try:
            super().connect()  # type: ignore[misc]
        except ssl.SSLCertVerificationError:
            raise
        except ssl.SSLError as error:
            if _NO_TLS.search(error.reason or ""):
                raise TLSRefused from error
            raise
        except OSError as error:
            if refused := re.match(r"Tunnel connection failed: (\d{3})\b", str(error), re.ASCII):
                raise ProxyRefused(int(refused[1])) from error
            raise
        _current.exchange.is_connecting = False
        _current.exchange.raise_if_stopped()

    def putrequest(self, method: str, url: str, **options: Any) -> None:
        assert _current.exchange
        target = url if _current.exchange.query is None else f"{url}?{_current.exchange.query}"
        super().putrequest(method, target, **options)  # type: ignore[misc]


class BoundedAdapter(HTTPAdapter):
    """An adapter whose connections are used within an :class:`Exchange`."""

    def get_connection_with_tls_context(self, *args: Any, **options: Any) -> Any:
        """Return the pool for a request; its connections are bounded."""
        pool: Any = super().get_connection_with_tls_context(*args, **options)
        if not issubclass(pool.ConnectionCls, _Bounded):
            pool.ConnectionCls = type("BoundedConnection", (_Bounded, pool.ConnectionCls), {})
        return pool


def _read_body(response: Any) -> bytes:
    """Return all of an answer. What is encoded may be longer than what was read of it.

    :raises AnswerTooLong: when it is.
    """
    body = bytearray()
    for chunk in response.stream(65536, decode_content=True):
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise AnswerTooLong
    return bytes(body)
