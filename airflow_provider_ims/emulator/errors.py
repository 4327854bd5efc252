"""The service's way to say no: a code, a status and a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Refusal(Exception):
    """An answer that is an error, in the service's own terms.

    :param status: the HTTP status.
    :param code: the service's error code, e.g. ``MissingParameter``.
    :param message: the sentence that goes with it.
    :param details: further top-level fields of the error's body, e.g. ``AccessDeniedDetail``.
    :param retry_after: milliseconds for the header ``x-acs-retry-after``; 0 leaves it out.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        retry_after: int = 0,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = dict(details or {})
        self.retry_after = retry_after


def missing(name: str) -> Refusal:
    """A required parameter is absent or empty."""
    return Refusal(400, "MissingParameter", f"The input parameter {name} that is mandatory is not provided.")


def invalid(name: str, why: str) -> Refusal:
    """A parameter has a value that the service does not take."""
    return Refusal(400, "InvalidParameter", f"The specified parameter {name} is not valid: {why}")
