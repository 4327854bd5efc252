"""What the service says: bytes into an answer, or into the error that they tell of."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from json import loads
from typing import Any, Generic, NamedTuple, TypeVar

import urllib3

from airflow_provider_ims.api.errors import IMSAPIError, IMSTransientError, RetryAction, classify

# The largest answer known (100 media with their files) is below 1 MiB; what is far beyond is no answer of IMS.
MAX_ANSWER_BYTES = 64 * 2**20

T = TypeVar("T")


class Response(NamedTuple, Generic[T]):
    """What one call brought.

    ``answer_lost``: an earlier try of this call may have done its work without our hearing of it.
    """

    value: T
    request_id: str
    answer_lost: bool


def read_body(action: str, response: urllib3.BaseHTTPResponse) -> bytes:
    """Read all of an answer, unless it is overlong.

    :raises IMSTransientError: when it is.
    """
    body = bytearray()
    for chunk in response.stream(65536, decode_content=True):
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise IMSTransientError(
                f"an answer of more than {MAX_ANSWER_BYTES >> 20} MiB is none of IMS",
                code="BadAnswer",
                http_status=response.status,
                action=action,
                answer_lost=True,
            )
    return bytes(body)


def read_answer(
    action: str, status: int, headers: Mapping[str, str], body: bytes, parse: Callable[[dict[str, Any]], T]
) -> Response[T]:
    """Make an answer of the service's bytes, or raise what they say instead.

    :param parse: makes the body's fields into what the caller wants; a ``ValueError`` of its says that they have a
        wrong shape.
    """
    try:
        document = loads(body)
    except (ValueError, RecursionError):
        document = None
    fields: dict[str, Any] = document if isinstance(document, dict) else {}
    request_id = fields.get("RequestId") or fields.get("requestId")
    code = fields.get("Code") or fields.get("code") or ""
    if 200 <= status < 300 and str(code).lower() in ("", "200", "ok", "success"):
        try:
            if status != 200:
                raise ValueError("its status is not 200")
            if document is None:
                raise ValueError("it is no JSON")
            if not isinstance(request_id, str):
                raise ValueError("it has no RequestId")
            return Response(parse(fields), request_id, False)
        except ValueError as error:
            raise IMSTransientError(
                f"the answer came with status {status} but can't be believed: {error}",
                code="BadAnswer",
                request_id=request_id if isinstance(request_id, str) else None,
                http_status=status,
                action=action,
                answer_lost=True,
            ) from None
    raise _refusal(action, status, headers, fields, str(code))


def _refusal(
    action: str, status: int, headers: Mapping[str, str], fields: dict[str, Any], code: str
) -> IMSAPIError:
    rule = classify(code, status)
    message = str(fields.get("Message") or fields.get("message") or "")
    if 300 <= status < 400:
        message = "a redirect, which a signed request does not follow: is the host an IMS endpoint?"
    elif not code:
        message = "an error without an IMS code, perhaps of a proxy in between"
    elif rule.remedy is RetryAction.RENEW_CREDENTIALS:
        # The gateway repeats the string to sign here, with the security token in it.
        message = re.split(r"(?i)\bserver", message, maxsplit=1)[0].strip(" \n,.;:") or "refused"
    # Whoever else repeats it.
    message = re.split(r"(?i)[\s,;:.]*\b(?:server )?string ?to ?sign", message, maxsplit=1)[0].rstrip(". ")
    detail = fields.get("AccessDeniedDetail")
    denied = detail.get("AuthAction") if isinstance(detail, dict) else None
    if rule.prefix.startswith(("Forbidden", "NoPermission")):
        message = f"{message}; the key needs the RAM action {denied or f'ice:{action}'}"
    if rule.hint:
        message = f"{message}; {rule.hint}"
    return rule.error(
        message,
        code=code or f"HTTP{status}",
        request_id=fields.get("RequestId") or fields.get("requestId") or headers.get("x-acs-request-id"),
        http_status=status,
        action=action,
        retry_after=_milliseconds(headers.get("x-acs-retry-after")),
        # A spent nonce is one of these: something on the way sent the same request twice.
        answer_lost=rule.error is IMSTransientError,
        service_date=_http_date(headers.get("Date")),
    )


def _milliseconds(text: str | None) -> float | None:
    """Read ``x-acs-retry-after`` into seconds; nonsense counts as absent, and nobody waits over a minute."""
    return min(int(text) / 1000, 60) if text and text.strip().isdecimal() else None


def _http_date(text: str | None) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text) if text else None
    except ValueError:
        return None
    # "-0000" means UTC too, but is read as no zone at all.
    return moment.replace(tzinfo=UTC) if moment and not moment.tzinfo else moment
