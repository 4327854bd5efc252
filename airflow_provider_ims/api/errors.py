"""What the service or the network says, as types, and what each is worth: again, never, or after a correction.

The service's statuses differ for one and the same code (a throttle can be a 400, a 403 or a 429), so an answer
is judged by its ``Code`` first, case-insensitively and by its longest known prefix, and only then by its status.

Sources: IMS error codes https://help.aliyun.com/document_detail/197855.html, the gateway's codes as other
products list them https://help.aliyun.com/document_detail/48054.html.
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Any, NamedTuple

# Refusals that may be about one target of a batch. Whether one bad id fails a whole call is not documented.
TARGET_CODES = ("invalidparameter", "invalidmedia", "invalidinputurl", "resourcenotfound", "medianot")


class IMSError(Exception):
    """Every error of this package that can be caught as one."""


class GuardError(IMSError):
    """Nothing was deleted: the input goes over a cap, or is not what was approved."""


class OutcomeError(IMSError):
    """A run was finished, and not every target has an outcome that its policy accepts.

    :param message: what happened, in words.
    :param result: the same that a successful run returns.
    """

    def __init__(self, message: str, result: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.result = result or {}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.result)


class IMSAPIError(IMSError):
    """The service refused a request, or no usable answer came.

    :param message: what happened, in words.
    :param code: the service's error code, or a name of ours when no answer came (``NoAnswer``, ``BadAnswer``).
    :param request_id: the service's id of the request, to hand to its support; None when no answer came.
    :param http_status: None when no answer came.
    :param action: the operation that was called.
    :param retry_after: seconds the service asked to wait, if it did.
    :param answer_lost: the service may have done the work although no usable answer came.
    :param service_date: the service's clock when it answered.

    ``connection`` is the id of the connection that was used, once that is known.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        request_id: str | None = None,
        http_status: int | None = None,
        action: str | None = None,
        retry_after: float | None = None,
        answer_lost: bool = False,
        service_date: datetime | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.request_id = request_id
        self.http_status = http_status
        self.action = action
        self.retry_after = retry_after
        self.answer_lost = answer_lost
        self.service_date = service_date
        self.connection: str | None = None

    @property
    def is_about_target(self) -> bool:
        """Whether it may be one id or URL that is refused, so that the request would be taken without it."""
        return self.code.lower().startswith(TARGET_CODES)

    def __str__(self) -> str:
        status = f", HTTP {self.http_status}" if self.http_status else ""
        request = f", request id {self.request_id}" if self.request_id else ""
        connection = f", connection {self.connection}" if self.connection else ""
        return f"{self.action or 'IMS'}: {self.message} ({self.code}{status}{request}{connection})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.__dict__)


def _rebuild(kind: type[IMSAPIError], message: str, attributes: dict[str, Any]) -> IMSAPIError:
    error = kind(message, code=attributes["code"])
    error.__dict__.update(attributes)
    return error


class IMSTransientError(IMSAPIError):
    """The same request may go through later: no answer, a broken answer, a server error."""


class IMSThrottlingError(IMSTransientError):
    """Too many requests for the account's limit."""


class IMSAuthError(IMSAPIError):
    """The key, its secret, its token or the clock is not accepted."""


class IMSPermissionError(IMSAPIError):
    """The key is fine, but may not do this; or the account may not."""


class RetryAction(Enum):
    """What makes a refused request worth sending again. Always signed anew: its nonce is spent."""

    RETRY = "after a pause"
    RETRY_AT_ONCE = "at once, with a new nonce"
    CORRECT_CLOCK = "once, after taking over the service's clock"
    RENEW_CREDENTIALS = "once, after renewing the credentials"
    NEVER = "never"


class ErrorRule(NamedTuple):
    """One row: codes that begin with ``prefix`` are of type ``error``, and to be met by ``retry_action``.

    ``hint`` says what a person does about it, where the service's own words don't.
    """

    prefix: str
    error: type[IMSAPIError]
    retry_action: RetryAction
    hint: str = ""


_THROTTLED = "the account sends more requests than it may"
_CLOCK = "this machine's clock is off"

# The longest prefix wins, so "Forbidden" is the rule for every "Forbidden.*" that has no row of its own.
ERROR_RULES = tuple(
    sorted(
        (
            ErrorRule("Throttling", IMSThrottlingError, RetryAction.RETRY, _THROTTLED),
            ErrorRule("RequestsTooFrequent", IMSThrottlingError, RetryAction.RETRY, _THROTTLED),
            ErrorRule("ServiceBusy", IMSThrottlingError, RetryAction.RETRY, _THROTTLED),
            ErrorRule("InternalError", IMSTransientError, RetryAction.RETRY),
            ErrorRule("ServiceUnavailable", IMSTransientError, RetryAction.RETRY),
            ErrorRule("SignatureNonceUsed", IMSTransientError, RetryAction.RETRY_AT_ONCE),
            ErrorRule("InvalidTimeStamp.Expired", IMSAuthError, RetryAction.CORRECT_CLOCK, _CLOCK),
            ErrorRule("InvalidTimeStamp", IMSAuthError, RetryAction.NEVER, _CLOCK),
            ErrorRule(
                "SignatureDoesNotMatch",
                IMSAuthError,
                RetryAction.RENEW_CREDENTIALS,
                "the AccessKey Secret is wrong, or a proxy changed the request",
            ),
            ErrorRule(
                "IncompleteSignature",
                IMSAuthError,
                RetryAction.RENEW_CREDENTIALS,
                "something on the way, perhaps a proxy, changes headers",
            ),
            ErrorRule(
                "InvalidAccessKeyId.NotFound",
                IMSAuthError,
                RetryAction.RENEW_CREDENTIALS,
                "the AccessKey ID is wrong",
            ),
            ErrorRule(
                "InvalidAccessKeyId",
                IMSAuthError,
                RetryAction.NEVER,
                "the AccessKey is disabled or not valid",
            ),
            ErrorRule(
                "InvalidSecurityToken.Expired",
                IMSAuthError,
                RetryAction.RENEW_CREDENTIALS,
                "the security token has expired, and the connection names no source of a new one",
            ),
            ErrorRule(
                "InvalidSecurityToken",
                IMSAuthError,
                RetryAction.NEVER,
                "the security token does not belong to the AccessKey ID",
            ),
            ErrorRule(
                "MissingSecurityToken",
                IMSAuthError,
                RetryAction.NEVER,
                "the AccessKey is temporary, and the token that came with it is not in the connection",
            ),
            ErrorRule(
                "OperationDenied",
                IMSPermissionError,
                RetryAction.NEVER,
                "IMS is not activated in this region, or the account is suspended",
            ),
            ErrorRule("Forbidden", IMSPermissionError, RetryAction.NEVER),
            ErrorRule("NoPermission", IMSPermissionError, RetryAction.NEVER),
            ErrorRule("Missing", IMSAPIError, RetryAction.NEVER),
            ErrorRule("Invalid", IMSAPIError, RetryAction.NEVER),
            ErrorRule("ResourceNotFound", IMSAPIError, RetryAction.NEVER),
            ErrorRule("ProjectNotFound", IMSAPIError, RetryAction.NEVER),
            ErrorRule("NoSuchVersion", IMSAPIError, RetryAction.NEVER),
            ErrorRule("UnsupportedHTTPMethod", IMSAPIError, RetryAction.NEVER),
        ),
        key=lambda rule: -len(rule.prefix),
    )
)


def classify(code: str, http_status: int) -> ErrorRule:
    """Return the rule for a refusal, by its code and, for a code that nobody knows, by its status.

    A throttle goes by many names: ``Rejected.Throttling``, ``Forbidden.Throttling``, ...

    :param code: the answer's ``Code``, or "" when it has none.
    :param http_status: the answer's status.
    """
    if "throttling" in code.lower():
        code = "Throttling"
    for rule in ERROR_RULES:
        if code.lower().startswith(rule.prefix.lower()):
            return rule
    if http_status == 429:
        return ErrorRule(code, IMSThrottlingError, RetryAction.RETRY)
    if http_status >= 500 or http_status == 408:
        return ErrorRule(code, IMSTransientError, RetryAction.RETRY)
    if http_status == 401:
        return ErrorRule(code, IMSAuthError, RetryAction.NEVER)
    if http_status == 403:
        return ErrorRule(code, IMSPermissionError, RetryAction.NEVER)
    return ErrorRule(code, IMSAPIError, RetryAction.NEVER)


class CallAbandoned(IMSError):
    """A caller's stop was set before an answer came; not an error of the service.

    :param answer_lost: a request had been sent, and the service may have done the work.
    """

    def __init__(self, *, answer_lost: bool = False) -> None:
        super().__init__("stopped before an answer came")
        self.answer_lost = answer_lost

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_abandoned, (self.answer_lost,)


def _rebuild_abandoned(answer_lost: bool) -> CallAbandoned:
    return CallAbandoned(answer_lost=answer_lost)
