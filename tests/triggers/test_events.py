from __future__ import annotations

import json

import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_ims import exceptions
from airflow_provider_ims.exceptions import IMSAPIError, IMSError
from airflow_provider_ims.triggers.events import (
    WaitTimedOut,
    error_event,
    outcome_event,
    raise_unless_over,
)

API_ERRORS = [
    kind for name in exceptions.__all__ if issubclass(kind := getattr(exceptions, name), IMSAPIError)
]


def test_over_and_time_is_up() -> None:
    raise_unless_over(outcome_event(0))
    with pytest.raises(WaitTimedOut, match="1,234"):
        raise_unless_over(outcome_event(1234))


@pytest.mark.parametrize("kind", API_ERRORS)
def test_an_error_of_the_service_comes_back_as_it_was(kind: type[IMSAPIError]) -> None:
    error = kind("no", code="Some.Code", request_id="R-1", http_status=403, action="BatchGetMediaInfos")
    with pytest.raises(kind) as caught:
        raise_unless_over(json.loads(json.dumps(error_event(error))))
    back = caught.value
    assert type(back) is kind
    assert str(back) == str(error)
    assert (back.message, back.code, back.request_id) == ("no", "Some.Code", "R-1")
    assert (back.http_status, back.action) == (403, "BatchGetMediaInfos")


def test_no_answer_has_neither_request_id_nor_status() -> None:
    error = exceptions.IMSTransientError("reset", code="NoAnswer", answer_lost=True)
    with pytest.raises(exceptions.IMSTransientError) as caught:
        raise_unless_over(json.loads(json.dumps(error_event(error))))
    assert caught.value.request_id is None
    assert caught.value.http_status is None


def test_bad_input_comes_back_as_such() -> None:
    with pytest.raises(ValueError, match="extra 'region'"):
        raise_unless_over(error_event(ValueError("extra 'region' is 7")))


@pytest.mark.parametrize("error", [AirflowNotFoundException("no conn"), TimeoutError(), KeyError("x")])
def test_any_other_error_keeps_its_name_and_words(error: Exception) -> None:
    with pytest.raises(IMSError, match=f"{type(error).__name__}: .*{error}"):
        raise_unless_over(error_event(error))


@pytest.mark.parametrize(
    "event",
    [None, {}, {"status": "error"}, {"status": "what"}, {"status": "error", "error": {"type": "__all__"}}],
)
def test_an_event_that_says_nothing_is_no_success(event: dict[str, object] | None) -> None:
    with pytest.raises(IMSError):
        raise_unless_over(event)
