"""Every error that a user of this provider can catch.

What the service or the network says is defined beside the client, in :mod:`airflow_provider_ims.api.errors`, and
offered here too. What Airflow must not retry is made here of what runs and plans raise, which know no Airflow. Bad
arguments are plain ``ValueError`` s.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow_provider_ims.api.errors import (
    GuardError,
    IMSAPIError,
    IMSAuthError,
    IMSError,
    IMSPermissionError,
    IMSThrottlingError,
    IMSTransientError,
    OutcomeError,
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


class IMSDeletionError(OutcomeError, AirflowFailException):
    """A run was finished, and not every target has an outcome that its policy accepts.

    Airflow does not retry it: what could be tried again has been, and a retry would bury the result, which is in the
    attribute ``result``.
    """


class IMSGuardError(GuardError, AirflowFailException):
    """Nothing was deleted: the input goes over a cap, or is not what was approved."""


class IMSJobFailedError(IMSError, AirflowFailException):
    """A job of the service, or a part of it, failed for good."""


@contextmanager
def raised_for_airflow() -> Iterator[None]:
    """Raise what a run or a plan raises as the error that Airflow does not retry."""
    try:
        yield
    except AirflowFailException:
        raise
    except OutcomeError as error:
        raise IMSDeletionError(str(error), error.result) from error
    except GuardError as error:
        raise IMSGuardError(str(error)) from error
