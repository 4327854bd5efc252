"""Every error that a user of this provider can catch.

What the service or the network says is defined beside the client, in :mod:`airflow_provider_ims.api.errors`, and
offered here too. Bad arguments are plain ``ValueError`` s.
"""

from __future__ import annotations

from typing import Any

from airflow_provider_ims.api.errors import (
    IMSAPIError,
    IMSAuthError,
    IMSError,
    IMSPermissionError,
    IMSThrottlingError,
    IMSTransientError,
)
from airflow_provider_ims.compat import AirflowFailException

__all__ = [
    "IMSAPIError",
    "IMSAuthError",
    "IMSDeletionError",
    "IMSError",
    "IMSGuardError",
    "IMSJobFailedError",
    "IMSPermissionError",
    "IMSThrottlingError",
    "IMSTransientError",
]


class IMSDeletionError(IMSError, AirflowFailException):
    """A run was finished, and not every target has an outcome that its policy accepts.

    Airflow does not retry it: what could be tried again has been, and a retry would bury the result.

    :param message: what happened, in words.
    :param result: the same that a successful run returns.
    """

    def __init__(self, message: str, result: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.result = result or {}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.result)


class IMSGuardError(IMSError, AirflowFailException):
    """Nothing was deleted: the input goes over a cap, or is not what was approved."""


class IMSJobFailedError(IMSError, AirflowFailException):
    """A transcoding job, or a part of it, failed for good."""
