"""One operation on the wire: sign, send, classify, parse, and send again where that can help.

All calls share one pool of connections and may come from several threads. ``requests`` makes the pool, so that
proxies and CA bundles, given or from the environment, work as usual; requests then go right into it. Nothing that
could alter or leak a signed request is on that way: no redirect is followed, no cookie is sent, ``~/.netrc`` is
not read. And a request costs a third less than through a session.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Protocol, TypeVar

import requests
import urllib3
from requests.adapters import HTTPAdapter
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random_exponential

from airflow_provider_ims import __version__
from airflow_provider_ims.api import signing
from airflow_provider_ims.api.credentials import CredentialSource
from airflow_provider_ims.api.endpoints import Endpoint
from airflow_provider_ims.api.errors import (
    CallAbandoned,
    IMSAPIError,
    IMSAuthError,
    IMSThrottlingError,
    IMSTransientError,
    RetryAction,
    classify,
)
from airflow_provider_ims.api.responses import Response, read_answer, read_body
from airflow_provider_ims.api.transport_errors import no_answer

API_VERSION = "2020-11-09"

# A request is tried at least this often before a lost answer is final, however short its retry time.
MIN_TRIES = 8

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class RequestStats:
    """How many requests a client sent so far; ``retries`` and ``throttled`` of them."""

    requests: int = 0
    retries: int = 0
    throttled: int = 0
    lost: int = 0

    def __sub__(self, earlier: RequestStats) -> RequestStats:
        return RequestStats(
            self.requests - earlier.requests,
            self.retries - earlier.retries,
            self.throttled - earlier.throttled,
            self.lost - earlier.lost,
        )


class Pace(Protocol):
    """Decides when the next request may start, and hears how each one went. Shared by threads."""

    def acquire(self, stop: threading.Event | None = None) -> Any:
        """Wait for a turn. None when ``stop`` was set meanwhile."""

    def release(
        self,
        permit: Any,
        *,
        throttled: bool = False,
        answered: bool = True,
        retry_after: float | None = None,
    ) -> None:
        """Say how the request went (``retry_after`` in seconds)."""


class IMSClient:
    """Calls IMS operations, signed; safe to share between threads.

    :param endpoint: where to send to.
    :param credentials: asked once for each request.
    :param connect_timeout: seconds to wait for a connection.
    :param read_timeout: seconds to wait for each part of an answer.
    :param retry_seconds: how long one call is tried again before its error is final.
    :param min_tries: a call without an answer is tried at least this often, however short its retry time.
    :param verify: check TLS certificates; or the path of a CA bundle to check them against.
    :param proxy: URL of a proxy; without it those of the environment are used.
    :param max_connections: connections kept open; more threads than this share them.
    :param pace: limits how fast requests start.
    :raises ValueError: when the CA bundle, given or taken from the environment, does not exist.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: CredentialSource,
        *,
        connect_timeout: float = 5.0,
        read_timeout: float = 30.0,
        retry_seconds: float = 300.0,
        min_tries: int = MIN_TRIES,
        verify: bool | str = True,
        proxy: str | None = None,
        max_connections: int = 32,
        pace: Pace | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.retry_seconds = retry_seconds
        self._min_tries = min_tries
        self.timeout = (connect_timeout, read_timeout)
        self._timeout = urllib3.Timeout(connect=connect_timeout, read=read_timeout)
        self._credentials = credentials
        self._pace = pace
        self._adapter = HTTPAdapter(pool_connections=1, pool_maxsize=max_connections)
        # The environment is read once: there is one host, and reading it costs more than signing.
        self._transport: dict[str, Any] = {
            **requests.Session().merge_environment_settings(
                endpoint.url, {"http": proxy, "https": proxy} if proxy else {}, None, verify, None
            )
        }
        ca_bundle = self._transport["verify"]
        if isinstance(ca_bundle, str) and not os.path.exists(ca_bundle):
            raise ValueError(
                f"verify: there is no CA bundle at {ca_bundle!r}, which the connection or the environment names"
            )
        self._clock_offset = timedelta()
        self._lock = threading.Lock()
        self._tally = RequestStats()
        self.last_answer_at = float("-inf")
        self.last_error: IMSAPIError | None = None
        """Why the last request failed; None if it did not."""

    @property
    def tally(self) -> RequestStats:
        """All that was sent so far."""
        with self._lock:
            return self._tally

    @property
    def clock_offset(self) -> timedelta:
        """How far the service's clock is ahead of this machine's, once that mattered."""
        return self._clock_offset

    def close(self) -> None:
        """Close the connections."""
        self._adapter.close()

    @cached_property
    def _route(self) -> tuple[Any, str]:
        """The pool of connections, to the service or to a proxy, and what stands before a request's ``?``."""
        adapter: Any = self._adapter
        verify, cert, proxies = (self._transport[name] for name in ("verify", "cert", "proxies"))
        request = requests.PreparedRequest()
        request.url = f"{self.endpoint.url}/"
        pool = adapter.get_connection_with_tls_context(request, verify, proxies=proxies, cert=cert)
        adapter.cert_verify(pool, request.url, verify, cert)
        return pool, adapter.request_url(request, proxies)

    def call(
        self,
        action: str,
        params: Mapping[str, Any],
        parse: Callable[[dict[str, Any]], T],
        *,
        stop: threading.Event | None = None,
    ) -> Response[T]:
        """Call one operation and try again what is worth trying again, each time signed anew.

        :param action: the operation's name, such as ``DeleteMediaInfos``.
        :param params: its parameters; ``None`` leaves one out, booleans travel as ``true``/``false``.
        :param parse: makes the answer's body into what the caller wants; a ``ValueError`` of its says that the
            answer has a wrong shape.
        :param stop: once set, nothing more is sent.
        :raises IMSTransientError: when the retry time is spent; ``IMSThrottlingError`` when by throttling.
        :raises IMSAuthError: when the credentials or the clock are refused.
        :raises IMSPermissionError: when the key may not do this.
        :raises IMSAPIError: for every other refusal.
        :raises CallAbandoned: when ``stop`` was set before an answer came.
        """
        course = _RetryState(
            self._credentials,
            self.retry_seconds,
            self._min_tries,
            self._take_over_clock,
            paced=self._pace is not None,
        )
        query = signing.canonical_query(encode_params(params))
        retrying = Retrying(
            retry=retry_if_exception(course.worth_another_try),
            stop=course.spent,
            wait=course.pause,
            sleep=lambda seconds: _sleep(seconds, stop),
            reraise=True,
        )
        try:
            return retrying(self._try, action, query, parse, course, stop)
        except IMSAPIError as error:
            error.answer_lost = course.answer_lost
            raise
        except CallAbandoned as error:
            error.answer_lost = course.answer_lost
            raise

    def _try(
        self,
        action: str,
        query: str,
        parse: Callable[[dict[str, Any]], T],
        course: _RetryState,
        stop: threading.Event | None,
    ) -> Response[T]:
        """Send once."""
        permit = self._pace.acquire(stop) if self._pace else None
        if stop and stop.is_set():
            if self._pace and permit is not None:
                self._pace.release(permit, answered=False)
            raise CallAbandoned
        error: IMSAPIError | None = None
        try:
            status, headers, body = self._exchange(action, query)
            answer = read_answer(action, status, headers, body, parse)
        except IMSAPIError as refused:
            error = refused
        finally:
            throttled = isinstance(error, IMSThrottlingError)
            if self._pace and permit is not None:
                self._pace.release(
                    permit,
                    throttled=throttled,
                    answered=error is None or throttled,
                    retry_after=error.retry_after if error else None,
                )
            self._count(retry=course.tries > 0, throttled=throttled, lost=bool(error and error.answer_lost))
        self.last_error = error
        if error:
            course.failed(error)
            log.debug("%s: try %d failed: %s", action, course.tries, error)
            raise error
        self.last_answer_at = time.monotonic()
        return answer._replace(answer_lost=course.answer_lost)

    def _count(self, *, retry: bool, throttled: bool, lost: bool) -> None:
        with self._lock:
            now = self._tally
            self._tally = replace(
                now,
                requests=now.requests + 1,
                retries=now.retries + retry,
                throttled=now.throttled + throttled,
                lost=now.lost + lost,
            )

    def _exchange(self, action: str, query: str) -> tuple[int, Mapping[str, str], bytes]:
        """Sign and send one request, read the whole answer."""
        key = self._credentials.current()
        if not _fits_a_header(key.access_key_id + (key.security_token or "")):
            raise IMSAuthError(
                "the key or its token has a character that no key has",
                code="UnusableCredentials",
                action=action,
            )
        headers = signing.signed_headers(
            method="POST",
            host=self.endpoint.host,
            action=action,
            version=API_VERSION,
            query=query,
            access_key_id=key.access_key_id,
            access_key_secret=key.access_key_secret,
            security_token=key.security_token,
            date=(datetime.now(UTC) + self._clock_offset).strftime("%Y-%m-%dT%H:%M:%SZ"),
            nonce=secrets.token_hex(16),
        )
        headers |= {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Content-Length": "0",
            "User-Agent": f"airflow-provider-ims/{__version__}",
        }
        trouble: IMSAPIError
        try:
            pool, path = self._route
            response = pool.urlopen(
                "POST",
                f"{path}?{query}",
                headers=headers,
                timeout=self._timeout,
                retries=False,
                redirect=False,
                assert_same_host=False,
                preload_content=False,
            )
            try:
                return response.status, response.headers, read_body(action, response)
            finally:
                # One whose answer was read to its end is back in the pool by now.
                response.close()
                response.release_conn()
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            trouble = no_answer(action, error, host=self.endpoint.host, timeout=self.timeout)
        # Raised out here, because the caught error holds the signed request.
        raise trouble

    def _take_over_clock(self, service_date: datetime) -> None:
        offset = service_date - datetime.now(UTC)
        self._clock_offset = offset
        seconds = abs(offset.total_seconds())
        log.warning(
            "This machine's clock is %s %s the clock of %s; requests are dated by the latter from now on.",
            f"{seconds:.0f} seconds" if seconds < 90 else f"{seconds / 60:.0f} minutes",
            "behind" if offset > timedelta() else "ahead of",
            self.endpoint.host,
        )


class _RetryState:
    """How one call has gone so far, and with that what is still worth trying."""

    def __init__(
        self,
        credentials: CredentialSource,
        retry_seconds: float,
        min_tries: int,
        take_over_clock: Callable[[datetime], None],
        *,
        paced: bool,
    ) -> None:
        self._paced = paced
        self._credentials = credentials
        self._retry_seconds = retry_seconds
        self._min_tries = min_tries
        self._take_over_clock = take_over_clock
        self._started = time.monotonic()
        self._used_up: set[RetryAction] = set()
        self._backoff = wait_random_exponential(multiplier=0.25, max=20)  # full jitter
        self.tries = 0
        self.unanswered = 0
        self.throttled = False
        self.answer_lost = False

    def failed(self, error: IMSAPIError) -> None:
        """Take note of a try that failed."""
        self.tries += 1
        self.throttled = isinstance(error, IMSThrottlingError)
        self.unanswered += isinstance(error, IMSTransientError) and not self.throttled
        self.answer_lost |= error.answer_lost

    def worth_another_try(self, error: BaseException) -> bool:
        """Apply the remedy that the table of errors names; each correction once in a call."""
        if not isinstance(error, IMSAPIError):
            return False
        if isinstance(error, IMSTransientError):
            return True
        remedy = classify(error.code, error.http_status or 0).remedy
        if remedy in self._used_up:
            return False
        self._used_up.add(remedy)
        if remedy is RetryAction.RENEW_CREDENTIALS:
            return self._credentials.renew()
        if remedy is RetryAction.CORRECT_CLOCK and error.service_date:
            self._take_over_clock(error.service_date)
            return True
        return False

    def spent(self, _: RetryCallState) -> bool:
        """Whether the retry time is over. Waiting for a throttle to lift counts as time, not as tries."""
        over = time.monotonic() - self._started >= self._retry_seconds
        return over and (self.throttled or self.unanswered >= self._min_tries)

    def pause(self, state: RetryCallState) -> float:
        """Seconds until the next try."""
        error = state.outcome.exception() if state.outcome else None
        if not isinstance(error, IMSTransientError):
            return 0  # after a correction
        if self._paced and isinstance(error, IMSThrottlingError):
            return 0  # the pace makes everybody wait
        if (
            classify(error.code, error.http_status or 0).remedy is RetryAction.RETRY_AT_ONCE
            and self.tries == 1
        ):
            return 0
        return max(error.retry_after or 0, self._backoff(state))


def encode_params(params: Mapping[str, Any]) -> dict[str, str]:
    """Spell parameters as the documentation does: ``true``/``false``, decimal numbers, ``None`` left out.

    :raises ValueError: for a value of another kind.
    """
    encoded = {}
    for name, value in params.items():
        if isinstance(value, bool):
            encoded[name] = "true" if value else "false"
        elif isinstance(value, int | str):
            encoded[name] = str(value)
        elif value is not None:
            raise ValueError(f"parameter {name}: {type(value).__name__} can't be sent, only text and numbers")
    return encoded


def _sleep(seconds: float, stop: threading.Event | None) -> None:
    if stop:
        stop.wait(seconds)
    else:
        time.sleep(seconds)


def _fits_a_header(text: str) -> bool:
    """Whether it can be sent; what can't would be shown in full by the error that comes of trying."""
    return text.isascii() and text.isprintable()
