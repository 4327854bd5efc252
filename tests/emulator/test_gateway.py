"""The checks before every operation: what the official SDK and a raw client get to hear, right and wrong."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import pytest
from alibabacloud_ice20201109 import models
from alibabacloud_tea_openapi.exceptions import ClientException

LIST = models.ListMediaBasicInfosRequest(max_results=1)


def refusal(client):
    with pytest.raises(ClientException) as caught:
        client.list_media_basic_infos(LIST)
    return caught.value


def test_the_sdk_is_let_in(sdk):
    answer = sdk().list_media_basic_infos(LIST)
    assert answer.status_code == 200
    assert answer.body.total_count == 0
    assert len(answer.body.request_id) == 36


def test_the_asynchronous_sdk_is_let_in(sdk, ims_emulator):
    client = sdk()
    answer = asyncio.run(client.list_media_basic_infos_async(LIST))
    assert answer.body.total_count == 0


def test_wrong_secret(sdk):
    error = refusal(sdk(secret="wrong"))
    assert error.code == "SignatureDoesNotMatch"
    assert error.status_code == 400
    assert error.request_id
    assert "server string to sign is: ACS3-HMAC-SHA256" in error.message


def test_unknown_key(sdk):
    error = refusal(sdk(key_id="nobody"))
    assert (error.code, error.status_code) == ("InvalidAccessKeyId.NotFound", 404)


def test_inactive_key(sdk, ims_emulator):
    ims_emulator.add_key("sleeper", "secret", status="inactive")
    assert refusal(sdk("sleeper", "secret")).code == "InvalidAccessKeyId.Inactive"


@pytest.mark.parametrize("actions", [[], ["ice:DeleteMediaInfos", "BatchGetMediaInfos"], ["ice:Get*"]])
def test_no_permission(sdk, ims_emulator, actions):
    ims_emulator.add_key("limited", "secret", actions=actions)
    error = refusal(sdk("limited", "secret"))
    assert (error.code, error.status_code) == ("Forbidden.RAM", 403)
    assert error.access_denied_detail["AuthAction"] == "ice:ListMediaBasicInfos"


@pytest.mark.parametrize("actions", [["*"], ["ice:*"], ["ice:List*"], ["ListMediaBasicInfos"]])
def test_permission(sdk, ims_emulator, actions):
    ims_emulator.add_key("limited", "secret", actions=actions)
    assert sdk("limited", "secret").list_media_basic_infos(LIST).status_code == 200


class TestTemporaryKeys:
    @pytest.fixture(autouse=True)
    def _key(self, ims_emulator):
        ims_emulator.add_key("STS.key", "secret", security_token="good-token", expires_in=100)
        ims_emulator.add_key("STS.old", "secret", security_token="old-token", expires_in=-1)

    def test_right_token(self, sdk):
        assert sdk("STS.key", "secret", "good-token").list_media_basic_infos(LIST).status_code == 200

    def test_no_token(self, sdk):
        assert refusal(sdk("STS.key", "secret")).code == "MissingSecurityToken"

    def test_wrong_token(self, sdk):
        assert refusal(sdk("STS.key", "secret", "bad-token")).code == "InvalidSecurityToken.Malformed"

    def test_expired_token(self, sdk):
        assert refusal(sdk("STS.old", "secret", "old-token")).code == "InvalidSecurityToken.Expired"

    def test_a_token_with_a_permanent_key(self, sdk):
        client = sdk(security_token="good-token")
        assert refusal(client).code == "InvalidSecurityToken.MismatchWithAccessKey"

    def test_the_token_is_not_told_back(self, sdk):
        error = refusal(sdk("STS.key", "wrong", "good-token"))
        assert error.code == "SignatureDoesNotMatch"
        assert "good-token" not in str(error.data) + error.message
        assert "x-acs-security-token:***" in error.message


def test_identical_bytes_twice(raw):
    request = raw.sign("ListMediaBasicInfos", {})
    assert raw.send(request).status == 200
    again = raw.send(request)
    assert (again.status, again.json["Code"]) == (400, "SignatureNonceUsed")


def test_a_nonce_is_spent_only_by_a_right_signature(raw):
    method, url, headers, body = raw.sign("ListMediaBasicInfos", {})
    forged = {**headers, "Authorization": headers["Authorization"][:-1] + "x"}
    assert raw.send((method, url, forged, body)).json["Code"] == "IncompleteSignature"
    forged = {**headers, "Authorization": headers["Authorization"][:-64] + "0" * 64}
    assert raw.send((method, url, forged, body)).json["Code"] == "SignatureDoesNotMatch"
    assert raw.send((method, url, headers, body)).status == 200


@pytest.mark.parametrize("minutes", [-16, 16])
def test_a_date_that_is_off(raw, minutes):
    reply = raw.send(raw.sign("ListMediaBasicInfos", {}, clock_error=timedelta(minutes=minutes)))
    assert (reply.status, reply.json["Code"]) == (400, "InvalidTimeStamp.Expired")


@pytest.mark.parametrize("minutes", [-14, 14])
def test_a_date_within_tolerance(raw, minutes):
    assert raw.send(raw.sign("ListMediaBasicInfos", {}, clock_error=timedelta(minutes=minutes))).status == 200


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"x-acs-date": "2024-01-02 03:04:05"}, "InvalidTimeStamp.Format"),
        ({"x-acs-action": "DropEverything"}, "InvalidApi.NotFound"),
        ({"x-acs-action": ""}, "MissingAction"),
        ({"x-acs-version": "2014-05-26"}, "NoSuchVersion"),
        ({"x-acs-content-sha256": "0" * 64}, "SignatureDoesNotMatch"),
        ({"x-acs-signature-nonce": ""}, "MissingSignatureNonce"),
    ],
)
def test_headers_that_are_signed_but_wrong(raw, headers, code):
    assert raw.send(raw.sign("ListMediaBasicInfos", {}, headers=headers)).json["Code"] == code


def test_every_x_acs_header_must_be_signed(raw):
    reply = raw.send(raw.sign("ListMediaBasicInfos", {}, unsigned={"x-acs-extra": "1"}))
    assert reply.json["Code"] == "IncompleteSignature"
    assert "x-acs-extra" in reply.json["Message"]
    assert raw.send(raw.sign("ListMediaBasicInfos", {}, headers={"x-acs-extra": "1"})).status == 200


def test_the_type_of_a_body_must_be_signed(raw):
    form = {"content-type": "application/x-www-form-urlencoded"}
    reply = raw.send(raw.sign("ListMediaBasicInfos", {}, unsigned=form, body=b"a=1"))
    assert reply.json["Code"] == "IncompleteSignature"
    assert raw.send(raw.sign("ListMediaBasicInfos", {}, headers=form, body=b"a=1")).status == 200


def test_what_travels_is_what_was_signed(raw):
    method, url, headers, body = raw.sign("ListMediaBasicInfos", {"MaxResults": "1"})
    assert raw.send((method, "/?MaxResults=2", headers, body)).json["Code"] == "SignatureDoesNotMatch"
    assert raw.send(("GET", url, headers, body)).json["Code"] == "SignatureDoesNotMatch"
    assert raw.send((method, url, headers, b"body")).json["Code"] == "SignatureDoesNotMatch"
    assert (
        raw.send((method, url, {**headers, "host": "elsewhere"}, body)).json["Code"]
        == "SignatureDoesNotMatch"
    )
    assert raw.send((method, url, headers, body)).status == 200


def test_both_spellings_of_a_space(raw):
    method, url, headers, body = raw.sign("ListMediaBasicInfos", {"Status": "a b*~+"})
    assert "%20" in url
    assert raw.send((method, url.replace("%20", "+"), headers, body)).status == 200


def test_get_will_do(raw):
    assert raw.send(raw.sign("ListMediaBasicInfos", {}, method="GET")).status == 200


def test_other_methods_and_paths_will_not(raw):
    assert raw.send(raw.sign("ListMediaBasicInfos", {}, method="PUT")).json["Code"] == "UnsupportedHTTPMethod"
    method, url, headers, body = raw.sign("ListMediaBasicInfos", {})
    assert raw.send((method, f"/media{url}", headers, body)).json["Code"] == "InvalidApi.NotFound"


def test_an_unsigned_request(raw):
    method, url, headers, body = raw.sign("ListMediaBasicInfos", {})
    del headers["Authorization"]
    reply = raw.send((method, url, headers, body))
    assert (reply.status, reply.json["Code"]) == (400, "IncompleteSignature")


def test_an_error_has_the_documented_shape(raw, ims_emulator):
    reply = raw("DeleteMediaInfos")
    assert reply.status == 400
    assert reply.headers["content-type"] == "application/json;charset=utf-8"
    assert set(reply.json) == {"RequestId", "HostId", "Code", "Message", "Recommend"}
    assert reply.json["RequestId"] == reply.headers["x-acs-request-id"]
    assert reply.json["HostId"] == ims_emulator.host


def test_the_date_header_is_the_gateways_clock(raw):
    reply = raw("ListMediaBasicInfos")
    assert abs((parsedate_to_datetime(reply.headers["date"]) - datetime.now(UTC)).total_seconds()) < 5


def test_refusals_are_in_the_books(sdk, ims_emulator):
    refusal(sdk(secret="wrong"))
    refusal(sdk(key_id="nobody"))
    assert ims_emulator.stats()["by_code"] == {"SignatureDoesNotMatch": 1, "InvalidAccessKeyId.NotFound": 1}
    [first, second] = ims_emulator.requests()
    assert first["action"] == second["action"] == "ListMediaBasicInfos"
    assert not first["done"]
