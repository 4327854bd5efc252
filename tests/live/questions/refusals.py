"""Refusals: by which codes the service refuses, and what a throttle looks like."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from airflow_provider_ims.api.credentials import StaticCredentials
from airflow_provider_ims.api.errors import (
    IMSAPIError,
    IMSAuthError,
    IMSPermissionError,
    IMSThrottlingError,
    IMSTransientError,
)
from airflow_provider_ims.api.jobs import _GONE
from tests.live.guard import UNKNOWN_OPERATION
from tests.live.media import NotTold
from tests.live.question import Answer, Run, question

_THREADS = 8
_SEARCH_SECONDS = 20.0


@question(
    "How are parameters refused that make no sense?",
    belief="By a code and a status that the code takes for final.",
    where="api/errors.py, ERROR_RULES",
    if_not="A slip is tried again for minutes before it is told, or is taken for a missing permission.",
)
def refused_parameters(run: Run) -> Answer:
    cases: dict[str, tuple[str, dict[str, Any]]] = {
        "no MediaIds": ("BatchGetMediaInfos", {}),
        "MaxResults=0": ("ListMediaBasicInfos", {"MaxResults": 0}),
        "MaxResults=101": ("ListMediaBasicInfos", {"MaxResults": 101}),
        "a NextToken of ours": ("ListMediaBasicInfos", {"NextToken": run.guard.make_up("token")}),
        "StartTime=yesterday": ("ListMediaBasicInfos", {"StartTime": "yesterday"}),
    }
    value, final = {}, True
    for name, (action, params) in cases.items():
        try:
            value[name] = run.ask(action, **params).describe()
        except IMSTransientError as error:
            value[name], final = f"taken for transient: {error.code} ({error.http_status})", False
    return Answer(value, final)


@question(
    "How is an operation refused that does not exist?",
    belief=f"By a code that begins with {' or '.join(_GONE)}: so the sensors tell that IMS has ended an operation.",
    where="api/jobs.py, _GONE",
    if_not="A sensor on an operation that IMS has ended names the code, but not what replaces it.",
)
def unknown_operation(run: Run) -> Answer:
    reply = run.ask(UNKNOWN_OPERATION)
    return Answer(reply.describe(), reply.code.casefold().startswith(_GONE))


@question(
    "How are wrong keys refused?",
    belief="By codes that are known as such, so that nothing is tried again.",
    where="api/errors.py, ERROR_RULES; hooks/diagnosis.py",
    if_not="The connection test can't say whether the key or its secret is wrong.",
)
def wrong_keys(run: Run) -> Answer:
    key = run.media.hook.settings.credentials.current()
    cases = {
        "a signature by another key": StaticCredentials(key.access_key_id, "0" * 30, key.security_token),
        "a key that does not exist": StaticCredentials("LTAI" + "0" * 20, "0" * 30),
    }
    value, holds = {}, True
    for name, credentials in cases.items():
        client = run.media.hook.make_client(rate=1, retry_seconds=5, credentials=credentials)
        try:
            client.call("ListMediaBasicInfos", {"MaxResults": 1}, dict)
            value[name], holds = "taken", False
        except IMSAPIError as error:
            value[name] = f"refused: {error.code} ({error.http_status})"
            holds = holds and isinstance(error, IMSAuthError)
        finally:
            client.close()
    return Answer(value, holds)


@question(
    "What if this machine's clock is an hour off?",
    belief="The refusal carries the service's date; the code takes it over, and the request goes through.",
    where="api/client.py, RetryAction.CORRECT_CLOCK",
    if_not="On a machine with a wrong clock nothing works.",
)
def wrong_clock(run: Run) -> Answer:
    client = run.media.hook.make_client(rate=5, retry_seconds=5)
    client._clock_offset = timedelta(hours=1)
    try:
        client.call("ListMediaBasicInfos", {"MaxResults": 1}, dict)
    except IMSAPIError as error:
        return Answer(f"refused: {error.code} ({error.http_status})", False)
    finally:
        client.close()
    corrected = abs(client.clock_offset) < timedelta(minutes=15)
    return Answer("corrected" if corrected else "an hour is tolerated", True if corrected else None)


@question(
    "What does a throttle look like, and from which rate?",
    belief="It has a code that is known as one, or status 429; x-acs-retry-after is in milliseconds.",
    where="api/errors.py, ERROR_RULES; api/rate_limit.py",
    if_not="A throttle ends a run as a refusal instead of slowing it down.",
)
def throttle(run: Run) -> Answer:
    if not run.max_rate:
        raise NotTold("it was left out (--max-rate 0)")
    # One try for each call; the pace looks for the limit as it does in a deletion, up to the rate that is allowed.
    client = run.media.hook.make_client(rate=run.max_rate, retry_seconds=0, min_tries=1)
    own, met = run.media.some()[0].media_id, threading.Event()
    errors: list[IMSAPIError] = []
    starts: list[float] = []

    def ask() -> None:
        end = time.monotonic() + _SEARCH_SECONDS
        while not met.is_set() and time.monotonic() < end:
            starts.append(time.monotonic())
            try:
                client.call("BatchGetMediaInfos", {"MediaIds": own}, dict)
            except IMSTransientError as error:
                if isinstance(error, IMSThrottlingError):
                    errors.append(error)
                    met.set()
            except IMSAPIError as error:
                errors.append(error)
                met.set()

    with ThreadPoolExecutor(_THREADS) as pool:
        for done in [pool.submit(ask) for _ in range(_THREADS)]:
            done.result()
    client.close()
    last = max(starts)
    rate = sum(start > last - 1 for start in starts)
    if not errors:
        return Answer("none", None, f"None in {_SEARCH_SECONDS:.0f} s; {rate} requests in the last of them.")
    error = errors[0]
    retry_after = None if error.retry_after is None else round(error.retry_after * 1000)
    value = {"code": error.code, "status": error.http_status, "x-acs-retry-after": retry_after}
    is_denied = isinstance(error, IMSPermissionError) and error.code.casefold().startswith("forbidden.ram")
    return Answer(
        {**value, "requests_in_the_last_second": rate},
        None if is_denied else isinstance(error, IMSThrottlingError),
    )
