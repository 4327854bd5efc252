"""The table of errors, row by row; and that every error comes out of a pickle as it went in."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime

import pytest

from airflow_provider_ims import exceptions
from airflow_provider_ims.api.errors import (
    RULES,
    CallAbandoned,
    IMSAPIError,
    IMSAuthError,
    IMSError,
    IMSPermissionError,
    IMSThrottlingError,
    IMSTransientError,
    Remedy,
    classify,
)

TABLE = [
    ("MissingParameter", 400, IMSAPIError, Remedy.NEVER),
    ("MissingMediaIds", 400, IMSAPIError, Remedy.NEVER),
    ("InvalidParameter", 400, IMSAPIError, Remedy.NEVER),
    ("InvalidParameter.MediaIds", 400, IMSAPIError, Remedy.NEVER),
    ("InvalidMediaIds", 400, IMSAPIError, Remedy.NEVER),
    ("OperationDenied", 403, IMSPermissionError, Remedy.NEVER),
    ("OperationDenied.Suspended", 403, IMSPermissionError, Remedy.NEVER),
    ("ResourceNotFound", 404, IMSAPIError, Remedy.NEVER),
    ("ProjectNotFound", 404, IMSAPIError, Remedy.NEVER),
    ("RequestsTooFrequent", 403, IMSThrottlingError, Remedy.RETRY),
    ("Forbidden", 403, IMSPermissionError, Remedy.NEVER),
    ("Forbidden.RAM", 403, IMSPermissionError, Remedy.NEVER),
    ("Forbidden.RiskControl", 403, IMSPermissionError, Remedy.NEVER),
    ("Forbidden.UserVerification", 403, IMSPermissionError, Remedy.NEVER),
    ("Forbidden.Whatever", 400, IMSPermissionError, Remedy.NEVER),
    ("NoPermission", 403, IMSPermissionError, Remedy.NEVER),
    ("InternalError", 500, IMSTransientError, Remedy.RETRY),
    ("ServiceUnAvailable", 503, IMSTransientError, Remedy.RETRY),
    ("ServiceUnavailable", 503, IMSTransientError, Remedy.RETRY),
    ("Throttling", 400, IMSThrottlingError, Remedy.RETRY),
    ("Throttling.User", 400, IMSThrottlingError, Remedy.RETRY),
    ("Throttling.Api", 429, IMSThrottlingError, Remedy.RETRY),
    ("Throttling.Whatever", 503, IMSThrottlingError, Remedy.RETRY),
    ("SignatureNonceUsed", 400, IMSTransientError, Remedy.RETRY_AT_ONCE),
    ("InvalidTimeStamp.Expired", 400, IMSAuthError, Remedy.CORRECT_CLOCK),
    ("InvalidTimeStamp.Format", 400, IMSAuthError, Remedy.NEVER),
    ("SignatureDoesNotMatch", 400, IMSAuthError, Remedy.RENEW_CREDENTIALS),
    ("SignatureDoesNotMatch", 403, IMSAuthError, Remedy.RENEW_CREDENTIALS),
    ("IncompleteSignature", 400, IMSAuthError, Remedy.RENEW_CREDENTIALS),
    ("InvalidAccessKeyId.NotFound", 404, IMSAuthError, Remedy.RENEW_CREDENTIALS),
    ("InvalidAccessKeyId.Inactive", 400, IMSAuthError, Remedy.NEVER),
    ("MissingSecurityToken", 400, IMSAuthError, Remedy.NEVER),
    ("InvalidSecurityToken.Expired", 400, IMSAuthError, Remedy.RENEW_CREDENTIALS),
    ("InvalidSecurityToken.Malformed", 400, IMSAuthError, Remedy.NEVER),
    ("InvalidSecurityToken.MismatchWithAccessKey", 400, IMSAuthError, Remedy.NEVER),
    ("InvalidApi.NotFound", 404, IMSAPIError, Remedy.NEVER),
    ("InvalidAction", 400, IMSAPIError, Remedy.NEVER),
    ("InvalidProduct.NotFound", 404, IMSAPIError, Remedy.NEVER),
    ("NoSuchVersion", 400, IMSAPIError, Remedy.NEVER),
    ("UnsupportedHTTPMethod", 404, IMSAPIError, Remedy.NEVER),
    # Codes that nobody knows, and none at all: the status decides.
    ("NeverHeardOf", 400, IMSAPIError, Remedy.NEVER),
    ("NeverHeardOf", 401, IMSAuthError, Remedy.NEVER),
    ("NeverHeardOf", 403, IMSPermissionError, Remedy.NEVER),
    ("NeverHeardOf", 404, IMSAPIError, Remedy.NEVER),
    ("NeverHeardOf", 408, IMSTransientError, Remedy.RETRY),
    ("NeverHeardOf", 429, IMSThrottlingError, Remedy.RETRY),
    ("NeverHeardOf", 500, IMSTransientError, Remedy.RETRY),
    ("", 302, IMSAPIError, Remedy.NEVER),
    ("", 400, IMSAPIError, Remedy.NEVER),
    ("", 407, IMSAPIError, Remedy.NEVER),
    ("", 429, IMSThrottlingError, Remedy.RETRY),
    ("", 502, IMSTransientError, Remedy.RETRY),
    ("", 504, IMSTransientError, Remedy.RETRY),
]


@pytest.mark.parametrize(("code", "status", "error", "remedy"), TABLE)
def test_the_table(code, status, error, remedy):
    for spelling in (code, code.lower(), code.upper()):
        rule = classify(spelling, status)
        assert (rule.error, rule.remedy) == (error, remedy)


def test_the_code_decides_before_the_status():
    for code, _, error, remedy in TABLE:
        if code and code != "NeverHeardOf":
            for status in (0, 200, 400, 401, 403, 404, 429, 500, 503):
                rule = classify(code, status)
                assert (rule.error, rule.remedy) == (error, remedy)


def test_every_rule_has_a_row_here_and_can_be_reached():
    assert {rule.prefix for rule in RULES} == {
        classify(code, 0).prefix for code, *_ in TABLE if code and code != "NeverHeardOf"
    } | {"InvalidTimeStamp", "InvalidAccessKeyId", "InvalidSecurityToken"}
    for rule in RULES:
        assert classify(rule.prefix, 0) == rule


def test_a_prefix_is_only_a_prefix_at_the_start():
    assert classify("NotThrottling", 400).error is IMSAPIError


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
