"""What the service says: bytes into an answer, or into the error that they tell of.

Its words are sanitized here, before anybody repeats them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from json import loads
from typing import Any, Generic, NamedTuple, TypeVar

from airflow_provider_ims.api.errors import IMSAPIError, IMSTransientError, RetryAction, classify
from airflow_provider_ims.api.sanitize import MAX_ID, sanitize, sanitize_id

MAX_CLOCK_OFFSET = timedelta(days=1)
"""A clock that is further off is not made up for."""

T = TypeVar("T")


class Response(NamedTuple, Generic[T]):
    """What one call brought.

    ``answer_lost``: an earlier try of this call may have done its work without our hearing of it.
    """

    value: T
    request_id: str
    answer_lost: bool


def read_answer(
    action: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    parse: Callable[[dict[str, Any]], T],
    secrets: Iterable[str] = (),
) -> Response[T]:
    """Return what the service's bytes say, or raise it.

    :param parse: makes the body's fields into what the caller wants; a ``ValueError`` of its says that they have a
        wrong shape.
    :param secrets: of the request, which the answer may repeat.
    """
    try:
        document = loads(body)
    except (ValueError, RecursionError):
        document = None
    fields: dict[str, Any] = document if isinstance(document, dict) else {}
    request_id = sanitize_id(fields.get("RequestId") or fields.get("requestId"), secrets=secrets)
    code = _text(fields.get("Code") or fields.get("code"), "UnreadableCode")[:MAX_ID]
    if status < 300 and code.lower() in ("", "200", "ok", "success"):
        try:
            if status != 200:
                raise ValueError("its status is not 200")
            if document is None:
                raise ValueError("it is no JSON")
            if not request_id:
                raise ValueError("it has no RequestId")
            return Response(parse(fields), request_id, False)
        except (ValueError, RecursionError) as error:
            raise IMSTransientError(
                f"the answer came with status {status} but can't be believed: {sanitize(error, secrets=secrets)}",
                code="BadAnswer",
                request_id=request_id,
                http_status=status,
                action=action,
                answer_lost=True,
            ) from None
    raise _refusal(action, status, headers, fields, code, request_id, tuple(secrets))


def _refusal(
    action: str,
    status: int,
    headers: Mapping[str, str],
    fields: dict[str, Any],
    code: str,
    request_id: str | None,
    secrets: tuple[str, ...],
) -> IMSAPIError:
    rule = classify(code, status)
    message = _text(fields.get("Message") or fields.get("message"), "it gives no reason that can be read")
    service_date = _http_date(headers.get("Date"))
    if 300 <= status < 400:
        message = "a redirect, which a signed request does not follow: is the host an IMS endpoint?"
    elif not code:
        message = "an error without an IMS code, perhaps of a proxy in between"
    elif rule.retry_action is RetryAction.RENEW_CREDENTIALS:
        # The gateway repeats the string to sign here, with the security token in it.
        message = re.split(r"(?i)\bserver", message, maxsplit=1)[0].strip(" \n,.;:") or "refused"
    # Whoever else repeats it.
    message = re.split(r"(?i)[\s,;:.]*\b(?:server )?string ?to ?sign", message, maxsplit=1)[0].rstrip(". ")
    message = sanitize(message, secrets=secrets)
    detail = fields.get("AccessDeniedDetail")
    denied = sanitize_id(detail.get("AuthAction"), secrets=secrets) if isinstance(detail, dict) else None
    if rule.prefix.startswith(("Forbidden", "NoPermission")):
        message = f"{message}; the key needs the RAM action {denied or f'ice:{action}'}"
    if rule.hint:
        message = f"{message}; {rule.hint}"
    if rule.retry_action is RetryAction.CORRECT_CLOCK and service_date and not is_plausible(service_date):
        message = f"{message}, and that of the answer by more than a day, so it is not taken over"
    return rule.error(
        message,
        code=sanitize(code, limit=MAX_ID, secrets=secrets) or f"HTTP{status}",
        request_id=request_id or sanitize_id(headers.get("x-acs-request-id"), secrets=secrets),
        http_status=status,
        action=action,
        retry_after=_milliseconds(headers.get("x-acs-retry-after")),
        # A spent nonce is one of these: something on the way sent the same request twice.
        answer_lost=rule.error is IMSTransientError,
        service_date=service_date,
    )


def _text(value: Any, otherwise: str) -> str:
    """Return a text or number as text, "" for nothing; what is nested could be too deep to be spelled at all."""
    return str(value) if isinstance(value, str | int) else otherwise if value else ""


def is_plausible(service_date: datetime) -> bool:
    """Whether requests may be dated by this clock: whoever names the date could use them on that day."""
    return abs(service_date - datetime.now(UTC)) <= MAX_CLOCK_OFFSET


def _milliseconds(text: str | None) -> float | None:
    """Return ``x-acs-retry-after`` in seconds; nonsense counts as absent, and nobody waits over a minute."""
    number = re.fullmatch(r"\s*(\d{1,9})\s*", text or "", re.ASCII)
    return min(int(number[1]) / 1000, 60) if number else None


def _http_date(text: str | None) -> datetime | None:
    """Return ``Date`` as a moment; nonsense counts as absent."""
    try:
        moment = parsedate_to_datetime(text) if text and len(text) <= MAX_ID else None
        # "-0000" means UTC too, but is read as no zone at all.
        return moment and (moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
