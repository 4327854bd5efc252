"""What a trigger tells the worker: that all is over, that time is up, or what went wrong.

Errors travel as data, because an exception that leaves a trigger reaches the worker as a text and nothing else.
"""

from __future__ import annotations

from typing import Any

from airflow_provider_ims import exceptions
from airflow_provider_ims.exceptions import IMSAPIError, IMSError


class WaitTimedOut(Exception):
    """Something is still there, or still running, at the deadline.

    :param pending: how many.
    """

    def __init__(self, pending: int) -> None:
        super().__init__(f"{pending:,} {'was' if pending == 1 else 'were'} still pending at the last look")


def outcome_event(pending: int) -> dict[str, Any]:
    """Say that all is over, or how many are pending at the deadline."""
    return {"status": "timed_out" if pending else "over", "pending": pending}


def error_event(error: Exception) -> dict[str, Any]:
    """Put an error into words and numbers that survive JSON."""
    about = {"type": type(error).__name__, "message": str(error)}
    if isinstance(error, IMSAPIError):
        about["message"] = error.message
        about |= {name: getattr(error, name) for name in ("code", "request_id", "http_status", "action")}
    return {"status": "error", "error": about}


def raise_unless_over(event: dict[str, Any] | None) -> None:
    """Return when all is over.

    :raises IMSAPIError: of the type, and with the code and request id, that the trigger met.
    :raises WaitTimedOut: when the deadline has passed.
    """
    event = event or {}
    if event.get("status") == "over":
        return
    if event.get("status") == "timed_out":
        raise WaitTimedOut(int(event["pending"]))
    raise _error_of(event.get("error") or {})


def _error_of(about: dict[str, Any]) -> Exception:
    name = str(about.get("type") or "nothing that is known")
    message = str(about.get("message") or "")
    kind = getattr(exceptions, name, None) if name in exceptions.__all__ else None
    if isinstance(kind, type) and issubclass(kind, IMSAPIError):
        return kind(
            message,
            code=str(about.get("code")),
            request_id=about.get("request_id"),
            http_status=about.get("http_status"),
            action=about.get("action"),
        )
    if name == "ValueError":
        return ValueError(message)
    return IMSError(f"the trigger failed with {name}: {message}")
