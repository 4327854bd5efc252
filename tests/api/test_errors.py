"""The table of errors, row by row; and that every error comes out of a pickle as it went in."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime

import pytest

from airflow_provider_ims import exceptions
from airflow_provider_ims.api.errors import (
    ERROR_RULES,
    CallAbandoned,
    IMSAPIError,
    IMSAuthError,
    IMSError,
    IMSPermissionError,
    IMSThrottlingError,
    IMSTransientError,
    RetryAction,
    classify,
)

TABLE = [
    ("MissingParameter", 400, IMSAPIError, RetryAction.NEVER),
    ("MissingMediaIds", 400, IMSAPIError, RetryAction.NEVER),
    ("InvalidParameter", 400, IMSAPIError, RetryAction.NEVER),
    ("InvalidParameter.MediaIds", 400, IMSAPIError, RetryAction.NEVER),
    ("InvalidMediaIds", 400, IMSAPIError, RetryAction.NEVER),
    ("OperationDenied", 403, IMSPermissionError, RetryAction.NEVER),
    ("OperationDenied.Suspended", 403, IMSPermissionError, RetryAction.NEVER),
    ("ResourceNotFound", 404, IMSAPIError, RetryAction.NEVER),
    ("ProjectNotFound", 404, IMSAPIError, RetryAction.NEVER),
    ("RequestsTooFrequent", 403, IMSThrottlingError, RetryAction.RETRY),
    ("ServiceBusy", 503, IMSThrottlingError, RetryAction.RETRY),
    ("Forbidden", 403, IMSPermissionError, RetryAction.NEVER),
    ("Forbidden.RAM", 403, IMSPermissionError, RetryAction.NEVER),
    ("Forbidden.RiskControl", 403, IMSPermissionError, RetryAction.NEVER),
    ("Forbidden.UserVerification", 403, IMSPermissionError, RetryAction.NEVER),
    ("Forbidden.Whatever", 400, IMSPermissionError, RetryAction.NEVER),
    ("NoPermission", 403, IMSPermissionError, RetryAction.NEVER),
    ("InternalError", 500, IMSTransientError, RetryAction.RETRY),
    ("ServiceUnAvailable", 503, IMSTransientError, RetryAction.RETRY),
    ("ServiceUnavailable", 503, IMSTransientError, RetryAction.RETRY),
    ("Throttling", 400, IMSThrottlingError, RetryAction.RETRY),
    ("Throttling.User", 400, IMSThrottlingError, RetryAction.RETRY),
    ("Throttling.Api", 429, IMSThrottlingError, RetryAction.RETRY),
    ("Throttling.Whatever", 503, IMSThrottlingError, RetryAction.RETRY),
    ("SignatureNonceUsed", 400, IMSTransientError, RetryAction.RETRY_AT_ONCE),
    ("InvalidTimeStamp.Expired", 400, IMSAuthError, RetryAction.CORRECT_CLOCK),
    ("InvalidTimeStamp.Format", 400, IMSAuthError, RetryAction.NEVER),
    ("SignatureDoesNotMatch", 400, IMSAuthError, RetryAction.RENEW_CREDENTIALS),
    ("SignatureDoesNotMatch", 403, IMSAuthError, RetryAction.RENEW_CREDENTIALS),
    ("IncompleteSignature", 400, IMSAuthError, RetryAction.RENEW_CREDENTIALS),
    ("InvalidAccessKeyId.NotFound", 404, IMSAuthError, RetryAction.RENEW_CREDENTIALS),
    ("InvalidAccessKeyId.Inactive", 400, IMSAuthError, RetryAction.NEVER),
    ("MissingSecurityToken", 400, IMSAuthError, RetryAction.NEVER),
    ("InvalidSecurityToken.Expired", 400, IMSAuthError, RetryAction.RENEW_CREDENTIALS),
    ("InvalidSecurityToken.Malformed", 400, IMSAuthError, RetryAction.NEVER),
    ("InvalidSecurityToken.MismatchWithAccessKey", 400, IMSAuthError, RetryAction.NEVER),
    ("InvalidApi.NotFound", 404, IMSAPIError, RetryAction.NEVER),
    ("InvalidAction", 400, IMSAPIError, RetryAction.NEVER),
    ("InvalidProduct.NotFound", 404, IMSAPIError, RetryAction.NEVER),
    ("NoSuchVersion", 400, IMSAPIError, RetryAction.NEVER),
    ("UnsupportedHTTPMethod", 404, IMSAPIError, RetryAction.NEVER),
    # Codes that nobody knows, and none at all: the status decides.
    ("NeverHeardOf", 400, IMSAPIError, RetryAction.NEVER),
    ("NeverHeardOf", 401, IMSAuthError, RetryAction.NEVER),
    ("NeverHeardOf", 403, IMSPermissionError, RetryAction.NEVER),
    ("NeverHeardOf", 404, IMSAPIError, RetryAction.NEVER),
    ("NeverHeardOf", 408, IMSTransientError, RetryAction.RETRY),
    ("NeverHeardOf", 429, IMSThrottlingError, RetryAction.RETRY),
    ("NeverHeardOf", 500, IMSTransientError, RetryAction.RETRY),
    ("", 302, IMSAPIError, RetryAction.NEVER),
    ("", 400, IMSAPIError, RetryAction.NEVER),
    ("", 407, IMSAPIError, RetryAction.NEVER),
    ("", 429, IMSThrottlingError, RetryAction.RETRY),
    ("", 502, IMSTransientError, RetryAction.RETRY),
    ("", 504, IMSTransientError, RetryAction.RETRY),
]


@pytest.mark.parametrize(("code", "status", "error", "retry_action"), TABLE)
def test_the_table(code, status, error, retry_action):
    for spelling in (code, code.lower(), code.upper()):
        rule = classify(spelling, status)
        assert (rule.error, rule.retry_action) == (error, retry_action)


def test_the_code_decides_before_the_status():
    for code, _, error, retry_action in TABLE:
        if code and code != "NeverHeardOf":
            for status in (0, 200, 400, 401, 403, 404, 429, 500, 503):
                rule = classify(code, status)
                assert (rule.error, rule.retry_action) == (error, retry_action)


def test_every_rule_has_a_row_here_and_can_be_reached():
    assert {rule.prefix for rule in ERROR_RULES} == {
        classify(code, 0).prefix for code, *_ in TABLE if code and code != "NeverHeardOf"
    } | {"InvalidTimeStamp", "InvalidAccessKeyId", "InvalidSecurityToken"}
    for rule in ERROR_RULES:
        assert classify(rule.prefix, 0) == rule


def test_a_prefix_is_only_a_prefix_at_the_start():
    assert classify("NotForbidden", 400).error is IMSAPIError


@pytest.mark.parametrize(
    "code", ["Rejected.Throttling", "Forbidden.Throttling", "SOME.throttling.user", "NoPermission.Throttling"]
)
@pytest.mark.parametrize("status", [200, 400, 403, 429, 503])
def test_a_code_that_says_throttling_anywhere_is_one(code, status):
    assert classify(code, status).error is IMSThrottlingError


def api_error(kind: type[IMSAPIError]) -> IMSAPIError:
    return kind(
        "too much",
        code="Throttling.User",
        request_id="R-1",
        http_status=400,
        action="DeleteMediaInfos",
        retry_after=1.5,
        answer_lost=True,
        service_date=datetime(2026, 11, 23, tzinfo=UTC),
    )


API_ERRORS = [IMSAPIError, IMSTransientError, IMSThrottlingError, IMSAuthError, IMSPermissionError]
ERRORS = [
    *(api_error(kind) for kind in API_ERRORS),
    *(kind("no answer", code="NoAnswer") for kind in API_ERRORS),
    CallAbandoned(answer_lost=True),
    CallAbandoned(),
    exceptions.IMSError("anything"),
    exceptions.IMSDeletionError("5 media are still there", {"requested": 7, "samples": {"failed": ["a"]}}),
    exceptions.IMSDeletionError("no result"),
    exceptions.IMSGuardError("more than max_media"),
    exceptions.IMSJobFailedError("sub-job 1 failed"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_error_survives_pickling(error, protocol):
    for twin in (pickle.loads(pickle.dumps(error, protocol)), copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is type(error)
        assert twin.__dict__ == error.__dict__
        assert str(twin) == str(error)
        assert twin.args == error.args


def test_no_error_that_users_can_catch_was_forgotten_above():
    public = {getattr(exceptions, name) for name in exceptions.__all__}
    assert public == {type(error) for error in ERRORS} - {CallAbandoned}


def test_all_can_be_caught_as_one_and_airflow_retries_none_of_its_own():
    from airflow.providers.common.compat.sdk import AirflowFailException

    for name in exceptions.__all__:
        assert issubclass(getattr(exceptions, name), IMSError)
    ours = {exceptions.IMSDeletionError, exceptions.IMSGuardError, exceptions.IMSJobFailedError}
    assert {type(error) for error in ERRORS if isinstance(error, AirflowFailException)} == ours


def test_what_an_error_says():
    error = api_error(IMSThrottlingError)
    assert str(error) == "DeleteMediaInfos: too much (Throttling.User, HTTP 400, request id R-1)"
    assert str(IMSTransientError("no answer", code="NoAnswer")) == "IMS: no answer (NoAnswer)"
    assert (error.code, error.message, error.request_id, error.http_status) == (
        "Throttling.User",
        "too much",
        "R-1",
        400,
    )
