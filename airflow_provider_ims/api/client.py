"""One operation: sign, send, classify, parse, and send again where that can help.

Several threads may call at once. They share the connections, the clock's correction and what is known of the
service: that it answers, or for how long it has not.
"""

from __future__ import annotations

import logging
import math
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, sleep_using_event, wait_random_exponential

from airflow_provider_ims import __version__
from airflow_provider_ims.api import signing
from airflow_provider_ims.api.credentials import Credentials, CredentialSource
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
from airflow_provider_ims.api.forks import start_anew_in_children
from airflow_provider_ims.api.rate_limit import RateLimiter
from airflow_provider_ims.api.responses import Response, is_plausible, read_answer
from airflow_provider_ims.api.times import write_time
from airflow_provider_ims.api.transport import Transport

API_VERSION = "2020-11-09"

# A request is tried at least this often before a lost answer is final, however short its retry time.
MIN_TRIES = 8
# How often a call that waits looks whether it still has something to wait for.
_LOOK_SECONDS = 0.05

log = logging.getLogger(__name__)
T = TypeVar("T")


class RequestStats(NamedTuple):
    """How many requests a client has sent so far.

    ``retries`` and ``throttled`` of them; ``answered``: by the service, a throttle or refusal included; ``lost``:
    without an answer though the service may have had them.
    """

    requests: int = 0
    retries: int = 0
    throttled: int = 0
    lost: int = 0
    answered: int = 0

    def __sub__(self, earlier: RequestStats) -> RequestStats:
        return RequestStats(*map(int.__sub__, self, earlier))


class IMSClient:
    """Calls IMS operations, signed; safe to share between threads, and started anew in a forked child.

    :param endpoint: where to send to.
    :param credentials: asked once for each request.
    :param connection: id of the Airflow connection, which refusals name.
    :param connect_timeout: seconds to wait for a connection.
    :param read_timeout: seconds to wait for each part of an answer; the whole of it may take twice as long.
    :param retry_seconds: how long one call is tried again before its error is final; and for how long nothing may
        go through before all calls are over.
    :param min_tries: a call without an answer is tried at least this often, however short its retry time.
    :param verify: check TLS certificates; or the path of a CA bundle to check them against.
    :param proxy: URL of a proxy; without it those of the environment are used.
    :param pace: limits how fast requests start.
    :raises ValueError: when the CA bundle, given or taken from the environment, does not exist.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: CredentialSource,
        *,
        connection: str | None = None,
        connect_timeout: float = 5.0,
        read_timeout: float = 30.0,
        retry_seconds: float = 300.0,
        min_tries: int = MIN_TRIES,
        verify: bool | str = True,
        proxy: str | None = None,
        pace: RateLimiter | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.connection = connection
        self.retry_seconds = retry_seconds
        self.timeout = (connect_timeout, read_timeout)
        self._min_tries = min_tries
        self._credentials = credentials
        self._pace = pace
        self._transport = Transport(
            endpoint.url,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            verify=verify,
            proxy=proxy,
        )
        self._proxy_secrets = self._transport.secrets
        self._clock_offset = timedelta()
        self._stats = RequestStats()
        self.last_answer_at = float("-inf")
        self.last_error: IMSAPIError | None = None
        """Why the last request failed; None if it did not."""
        self.start_anew()
        start_anew_in_children(self)

    def start_anew(self) -> None:
        """Begin with nothing in flight, nothing known of the service's limit, and no lock held."""
        if self._pace:
            self._pace.reset()
        self._lock = threading.Lock()
        self._silence = _Silence(self.retry_seconds, self._min_tries)

    @property
    def stats(self) -> RequestStats:
        """All that was sent so far."""
        with self._lock:
            return self._stats

    @property
    def window(self) -> int | None:
        """How many requests make sense in flight now; None without a pace."""
        return self._pace.window if self._pace else None

    @property
    def clock_offset(self) -> timedelta:
        """How far the service's clock is ahead of this machine's, once that mattered."""
        return self._clock_offset

    @property
    def stop_seconds(self) -> float:
        """How long calls may go on after their ``stop`` was set, in seconds.

        One that waits for a key or for a host name to be resolved ends once it has that, and sends nothing.
        """
        return self._transport.stop_seconds

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

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
        :param stop: once set, nothing more is sent, and what is in flight ends within ``stop_seconds``.
        :raises IMSTransientError: when the retry time is spent; ``IMSThrottlingError`` when by throttling.
        :raises IMSAuthError: when the credentials or the clock are refused.
        :raises IMSPermissionError: when the key may not do this.
        :raises IMSAPIError: for every other refusal.
        :raises CallAbandoned: when ``stop`` was set before an answer came.
        """
        silence = self._silence
        state = _RetryState(
            self._credentials,
            silence,
            self.retry_seconds,
            self._min_tries,
            self._take_over_clock,
            paced=self._pace is not None,
        )
        query = signing.canonical_query(encode_params(params))
        cancel = _Cancel(stop, silence)
        retrying = Retrying(
            retry=retry_if_exception(state.worth_another_try),
            stop=state.spent,
            wait=state.pause,
            sleep=sleep_using_event(cancel),
            reraise=True,
        )
        with silence:
            try:
                return retrying(self._try, action, query, parse, state, stop, cancel)
            except IMSAPIError as error:
                error.answer_lost = state.answer_lost
                if not isinstance(error, IMSTransientError):
                    error.connection = self.connection
                raise
            except CallAbandoned as error:
                error.answer_lost = state.answer_lost
                raise

    def _try(
        self,
        action: str,
        query: str,
        parse: Callable[[dict[str, Any]], T],
        state: _RetryState,
        stop: threading.Event | None,
        cancel: _Cancel,
    ) -> Response[T]:
        """Send once."""
        permit = self._pace.acquire(cancel) if self._pace else None
        error: IMSAPIError | None = None
        answer: Response[T] | None = None
        is_sent = False
        began = time.monotonic()
        try:
            # Both its turn and a key may have been long in coming.
            self._raise_if_cancelled(cancel, stop, action)
            key = self._usable_credentials(action)
            self._raise_if_cancelled(cancel, stop, action)
            headers = self._sign(action, query, key)
            is_sent = True
            status, answer_headers, body = self._transport.send(action, query, headers, stop)
            told = (
                key.access_key_secret,
                key.security_token or "",
                _signature(headers),
                *self._proxy_secrets,
            )
            answer = read_answer(action, status, answer_headers, body, parse, told)
        except IMSAPIError as refused:
            error = refused
        finally:
            throttled = isinstance(error, IMSThrottlingError)
            if self._pace and permit is not None:
                self._pace.release(
                    permit,
                    throttled=throttled if answer or throttled else None,
                    retry_after=error.retry_after if error else None,
                )
        is_refused = bool(error and error.http_status) and not isinstance(error, IMSTransientError)
        is_answered = not error or throttled or is_refused
        if is_sent:
            is_lost = bool(error and error.answer_lost)
            self._count(RequestStats(1, int(state.tries > 0), int(throttled), int(is_lost), int(is_answered)))
        self.last_error = error
        if error:
            if is_answered:
                self._silence.end()
            else:
                self._silence.note(error, began)
            state.failed(error)
            log.debug("%s: try %d failed: %s", action, state.tries, error)
            raise error
        assert answer
        self._silence.end()
        self.last_answer_at = time.monotonic()
        return answer._replace(answer_lost=state.answer_lost)

    def _raise_if_cancelled(self, cancel: _Cancel, stop: threading.Event | None, action: str) -> None:
        if not cancel.is_set():
            return
        if stop and stop.is_set():
            raise CallAbandoned
        raise self._silence.error_for(action)

    def _count(self, more: RequestStats) -> None:
        with self._lock:
            self._stats = RequestStats(*map(int.__add__, self._stats, more))

    def _usable_credentials(self, action: str) -> Credentials:
        key = self._credentials.current()
        if not _fits_a_header(key.access_key_id + (key.security_token or "")):
            raise IMSAuthError(
                "the key or its token has a character that no key has",
                code="UnusableCredentials",
                action=action,
            )
        return key

    def _sign(self, action: str, query: str, key: Credentials) -> dict[str, str]:
        headers = signing.signed_headers(
            method="POST",
            host=self.endpoint.host,
            action=action,
            version=API_VERSION,
            query=query,
            access_key_id=key.access_key_id,
            access_key_secret=key.access_key_secret,
            security_token=key.security_token,
            date=write_time(datetime.now(UTC) + self._clock_offset),
            nonce=secrets.token_hex(16),
        )
        return headers | {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Content-Length": "0",
            "User-Agent": f"airflow-provider-ims/{__version__}",
        }

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


class _Silence:
    """For how long nothing has gone through, whichever of a client's calls tried.

    A call enters it as a context. Tries that were in flight at the same time count as one, so that it takes as long
    whether one call is in flight or 64 are.
    """

    def __init__(self, retry_seconds: float, min_tries: int) -> None:
        self._retry_seconds = retry_seconds
        self._min_tries = min_tries
        self._lock = threading.Lock()
        self._calls = 0
        self._tries = 0
        self._since = self._counted_at = float("-inf")
        self.error: IMSAPIError | None = None

    def __enter__(self) -> None:
        with self._lock:
            self._calls += 1
            if self._calls == 1:
                self._begin()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._calls -= 1

    def _begin(self) -> None:
        self._since = time.monotonic()
        self._tries = 0
        self.error = None

    def end(self) -> None:
        """Note that the service answered."""
        if self.error:
            with self._lock:
                self._begin()
        else:
            self._since = time.monotonic()

    def note(self, error: IMSAPIError, began: float) -> None:
        """Note a try that got no answer, and when it began."""
        with self._lock:
            self.error = error
            if began >= self._counted_at:
                self._tries += 1
                self._counted_at = time.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether it has lasted so long that nobody tries again."""
        return self._tries >= self._min_tries and time.monotonic() - self._since >= self._retry_seconds

    def error_for(self, action: str) -> IMSTransientError:
        """Return what a call is told that waited for its turn meanwhile."""
        last = self.error
        return IMSTransientError(
            last.message if last else "no answer came", code=last.code if last else "NoAnswer", action=action
        )


class _Cancel(threading.Event):
    """Set once a call has nothing more to wait for: its stop is set, or the silence has lasted too long."""

    def __init__(self, stop: threading.Event | None, silence: _Silence) -> None:
        # Without that of Event, whose lock is not needed: nobody sets this one.
        self._stop = stop
        self._silence = silence

    def is_set(self) -> bool:
        return bool(self._stop and self._stop.is_set()) or self._silence.is_over

    def wait(self, timeout: float | None = None) -> bool:
        end = time.monotonic() + timeout if timeout is not None else math.inf
        while not self.is_set() and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK_SECONDS))
        return self.is_set()


class _RetryState:
    """How one call has gone so far, and with that what is still worth trying."""

    def __init__(
        self,
        credentials: CredentialSource,
        silence: _Silence,
        retry_seconds: float,
        min_tries: int,
        take_over_clock: Callable[[datetime], None],
        *,
        paced: bool,
    ) -> None:
        self._paced = paced
        self._credentials = credentials
        self._silence = silence
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
        """Record a try that failed."""
        self.tries += 1
        self.throttled = isinstance(error, IMSThrottlingError)
        self.unanswered += isinstance(error, IMSTransientError) and not self.throttled
        self.answer_lost |= error.answer_lost

    def worth_another_try(self, error: BaseException) -> bool:
        """Apply the correction that the table of errors names; each correction once in a call."""
        if not isinstance(error, IMSAPIError):
            return False
        if isinstance(error, IMSTransientError):
            return True
        action = classify(error.code, error.http_status or 0).retry_action
        if action in self._used_up:
            return False
        self._used_up.add(action)
        if action is RetryAction.RENEW_CREDENTIALS:
            return self._credentials.renew()
        if action is RetryAction.CORRECT_CLOCK and error.service_date and is_plausible(error.service_date):
            self._take_over_clock(error.service_date)
            return True
        return False

    def spent(self, _: RetryCallState) -> bool:
        """Whether the retry time is over. Waiting for a throttle to lift counts as time, not as tries."""
        over = time.monotonic() - self._started >= self._retry_seconds
        own = over and (self.throttled or self.unanswered >= self._min_tries)
        return own or self._silence.is_over

    def pause(self, state: RetryCallState) -> float:
        """Seconds until the next try."""
        error = state.outcome.exception() if state.outcome else None
        if not isinstance(error, IMSTransientError):
            return 0  # after a correction
        if self._paced and isinstance(error, IMSThrottlingError):
            return 0  # the pace makes everybody wait
        if (
            classify(error.code, error.http_status or 0).retry_action is RetryAction.RETRY_AT_ONCE
            and self.tries == 1
        ):
            return 0
        return max(error.retry_after or 0, self._backoff(state))


def encode_params(params: Mapping[str, Any]) -> dict[str, str]:
    """Return parameters spelled as the documentation does: ``true``/``false``, decimal numbers, ``None`` left out.

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


def _signature(headers: Mapping[str, str]) -> str:
    return headers["Authorization"].rpartition("=")[2]


def _fits_a_header(text: str) -> bool:
    """Whether it can be sent; what can't would be shown in full by the error that comes of trying."""
    return text.isascii() and text.isprintable()
