"""Every published vector, step by step; and whatever else can be signed, held against the official SDK's signer."""

from __future__ import annotations

import hashlib
import random
from types import SimpleNamespace

import pytest
from alibabacloud_tea_openapi import utils as sdk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_ims.api import signing

PUBLISHED_QUERY = {
    "ImageId": "win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd",
    "RegionId": "cn-shanghai",
}
PUBLISHED_HEADERS = {
    "host": "ecs.cn-shanghai.aliyuncs.com",
    "x-acs-action": "RunInstances",
    "x-acs-content-sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "x-acs-date": "2023-10-26T10:22:32Z",
    "x-acs-signature-nonce": "3156853299f313e23d1673dc12e1703d",
    "x-acs-version": "2014-05-26",
}
PUBLISHED_CANONICAL_REQUEST = """\
POST
/
ImageId=win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd&RegionId=cn-shanghai
host:ecs.cn-shanghai.aliyuncs.com
x-acs-action:RunInstances
x-acs-content-sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
x-acs-date:2023-10-26T10:22:32Z
x-acs-signature-nonce:3156853299f313e23d1673dc12e1703d
x-acs-version:2014-05-26

host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version
e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"""
PUBLISHED_HASH = "7ea06492da5221eba5297e897ce16e55f964061054b7695beedaac1145b1e259"
PUBLISHED_SIGNATURE = "06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0"
PUBLISHED_SECRET = "YourAccessKeySecret"

DELETE_TWO = {
    "MediaIds": "0123456789abcdef0123456789abcdef,fedcba9876543210fedcba9876543210",
    "DeletePhysicalFiles": "true",
}
DELETE_URL = {"InputURLs": "https://b.oss-cn-shanghai.aliyuncs.com/a b/中~*'().mp4"}


class TestPublishedVector:
    """The documentation's own example, one step at a time."""

    def test_canonical_query(self):
        assert (
            signing.canonical_query(PUBLISHED_QUERY)
            == "ImageId=win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd&RegionId=cn-shanghai"
        )

    def test_canonical_headers(self):
        block, names = signing.canonical_headers(PUBLISHED_HEADERS)
        assert block.splitlines() == PUBLISHED_CANONICAL_REQUEST.splitlines()[3:9]
        assert block.endswith("\n")
        assert names == PUBLISHED_CANONICAL_REQUEST.splitlines()[10]

    def test_canonical_request(self):
        request = signing.canonical_request(
            "POST",
            "/",
            signing.canonical_query(PUBLISHED_QUERY),
            PUBLISHED_HEADERS,
            signing.EMPTY_PAYLOAD_HASH,
        )
        assert request == PUBLISHED_CANONICAL_REQUEST
        assert hashlib.sha256(request.encode()).hexdigest() == PUBLISHED_HASH

    def test_string_to_sign(self):
        assert signing.string_to_sign(PUBLISHED_CANONICAL_REQUEST) == f"ACS3-HMAC-SHA256\n{PUBLISHED_HASH}"

    def test_signature(self):
        assert (
            signing.signature(PUBLISHED_SECRET, f"ACS3-HMAC-SHA256\n{PUBLISHED_HASH}") == PUBLISHED_SIGNATURE
        )

    def test_authorization(self):
        assert signing.authorization("YourAccessKeyId", "host;x-acs-action", PUBLISHED_SIGNATURE) == (
            "ACS3-HMAC-SHA256 Credential=YourAccessKeyId,SignedHeaders=host;x-acs-action,"
            f"Signature={PUBLISHED_SIGNATURE}"
        )

    @pytest.mark.parametrize(
        ("date", "nonce", "signature"),
        [
            ("2023-10-26T10:22:32Z", "3156853299f313e23d1673dc12e1703d", PUBLISHED_SIGNATURE),
            (
                "2023-10-26T09:01:01Z",
                "d410180a5abf7fe235dd9b74aca91fc0",
                "e521358f7776c97df52e6b2891a8bc73026794a071b50c3323388c4e0df64804",
            ),
        ],
    )
    def test_whole_request(self, date, nonce, signature):
        headers = signing.signed_headers(
            method="POST",
            host="ecs.cn-shanghai.aliyuncs.com",
            action="RunInstances",
            version="2014-05-26",
            query=signing.canonical_query(PUBLISHED_QUERY),
            access_key_id="YourAccessKeyId",
            access_key_secret=PUBLISHED_SECRET,
            security_token=None,
            date=date,
            nonce=nonce,
        )
        names = "host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version"
        assert headers.pop("Authorization") == (
            f"ACS3-HMAC-SHA256 Credential=YourAccessKeyId,SignedHeaders={names},Signature={signature}"
        )
        assert headers == PUBLISHED_HEADERS | {"x-acs-date": date, "x-acs-signature-nonce": nonce}


class TestIMSVectors:
    """Requests to IMS, as the official SDK's signer signed them."""

    HEADERS = {  # noqa: RUF012
        "host": "ice.cn-shanghai.aliyuncs.com",
        "x-acs-action": "DeleteMediaInfos",
        "x-acs-content-sha256": signing.EMPTY_PAYLOAD_HASH,
        "x-acs-date": "2024-01-02T03:04:05Z",
        "x-acs-signature-nonce": "00000000000000000000000000000001",
        "x-acs-version": "2020-11-09",
    }

    @pytest.mark.parametrize(
        ("params", "more_headers", "signature"),
        [
            (DELETE_TWO, {}, "520d15763f625a009819c363579e264265400017b9a22ca6e9a9a48cb2af8309"),
            (
                DELETE_TWO,
                {"x-acs-security-token": "testtoken"},
                "7af5b5d78e69fc626fb260c3eec89e4a8cb9021f0238edbc64f789c02d204c3e",
            ),
            (
                DELETE_TWO,
                {"x-acs-security-token": "testtoken", "x-acs-accesskey-id": "testid"},
                "bdfa0c0f2c19f7de07f288a25886a7b833055cb602d26e0d02ca00958e525e91",
            ),
            (DELETE_URL, {}, "1021ec084dafdf0faca1ff4d378ef2477965f4ab7bd516fef5fee26c6fcb6f6b"),
        ],
    )
    def test_steps(self, params, more_headers, signature):
        request = signing.canonical_request(
            "POST",
            "/",
            signing.canonical_query(params),
            self.HEADERS | more_headers,
            signing.EMPTY_PAYLOAD_HASH,
        )
        assert signing.signature("testsecret", signing.string_to_sign(request)) == signature

    @pytest.mark.parametrize(
        ("params", "token", "signature"),
        [
            (DELETE_TWO, None, "520d15763f625a009819c363579e264265400017b9a22ca6e9a9a48cb2af8309"),
            (DELETE_TWO, "", "520d15763f625a009819c363579e264265400017b9a22ca6e9a9a48cb2af8309"),
            (DELETE_TWO, "testtoken", "bdfa0c0f2c19f7de07f288a25886a7b833055cb602d26e0d02ca00958e525e91"),
            (DELETE_URL, None, "1021ec084dafdf0faca1ff4d378ef2477965f4ab7bd516fef5fee26c6fcb6f6b"),
        ],
    )
    def test_whole_request(self, params, token, signature):
        headers = sign(params, token)
        assert headers["Authorization"].endswith(f",Signature={signature}")


def sign(
    params: dict[str, str],
    token: str | None,
    *,
    host: str = "ice.cn-shanghai.aliyuncs.com",
    action: str = "DeleteMediaInfos",
    secret: str = "testsecret",
    nonce: str = "00000000000000000000000000000001",
    date: str = "2024-01-02T03:04:05Z",
) -> dict[str, str]:
    return signing.signed_headers(
        method="POST",
        host=host,
        action=action,
        version="2020-11-09",
        query=signing.canonical_query(params),
        access_key_id="testid",
        access_key_secret=secret,
        security_token=token,
        date=date,
        nonce=nonce,
    )


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("AZaz09-_.~", "AZaz09-_.~"),
        (" ", "%20"),
        ("+*%/,&=", "%2B%2A%25%2F%2C%26%3D"),
        ("!'()@:;$?#[]\"<>\\^`{|}", "%21%27%28%29%40%3A%3B%24%3F%23%5B%5D%22%3C%3E%5C%5E%60%7B%7C%7D"),
        ("中", "%E4%B8%AD"),
        ("🎬", "%F0%9F%8E%AC"),
        ("e\u0301", "e%CC%81"),  # nothing is normalised
        ("\n\t\0", "%0A%09%00"),
    ],
)
def test_percent_encode(text, encoded):
    assert signing.percent_encode(text) == encoded


def test_query_is_sorted_by_byte_value_and_keeps_empty_values():
    assert signing.canonical_query({"b": "", "a": "1", "B": "2"}) == "B=2&a=1&b="
    assert signing.canonical_query({}) == ""


# What a request can consist of: text that needs care in every combination, ids, lists of 20, nothing at all.
careful = st.text(
    st.sampled_from(" +*~%/,&=?#'()!;:@$[]<>\"\\^`{|}._-aZ09中文é🎬\n\t\u0301\xa0"), max_size=40
)
anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=16)
media_id = st.integers(0, 2**128 - 1).map("{:032x}".format)
seeds = st.integers(0, 2**32).map(random.Random)
long_lists = seeds.map(
    lambda source: ",".join(
        f"oss://b/{source.choice('中 +~*é')}{source.getrandbits(64):x}.mp4" for _ in range(100)
    )
)
value = st.one_of(
    careful,
    anything,
    st.just(""),
    st.sampled_from(["true", "false", "100", "2024-01-01T00:00:00Z"]),
    st.lists(media_id, max_size=20).map(",".join),
    long_lists,
)
name = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.", min_size=1, max_size=20)
visible = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=16)


@settings(
    max_examples=2_000,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    params=st.dictionaries(name, value, max_size=5),
    token=st.none() | visible,
    secret=visible,
    host=st.sampled_from(
        ["ice.cn-shanghai.aliyuncs.com", "ice-vpc.us-west-1.aliyuncs.com", "127.0.0.1:8080"]
    ),
    action=st.sampled_from(["DeleteMediaInfos", "BatchGetMediaInfos", "ListMediaBasicInfos"]),
    nonce=media_id,
    date=st.datetimes().map(lambda moment: moment.strftime("%Y-%m-%dT%H:%M:%SZ")),
)
def test_the_official_signer_agrees(params, token, secret, host, action, nonce, date):
    ours = sign(params, token, host=host, action=action, secret=secret, nonce=nonce, date=date)
    authorization = ours.pop("Authorization")
    request = SimpleNamespace(method="POST", pathname="/", query=params, headers=ours)
    header_block, header_names = sdk.get_canonicalized_headers(ours)

    assert signing.canonical_query(params) == sdk.get_canonical_query_string(params)
    assert signing.canonical_headers(ours) == (header_block, header_names)
    assert signing.canonical_request(
        "POST", "/", signing.canonical_query(params), ours, signing.EMPTY_PAYLOAD_HASH
    ) == "\n".join(
        (
            "POST",
            "/",
            sdk.get_canonical_query_string(params),
            header_block,
            header_names,
            signing.EMPTY_PAYLOAD_HASH,
        )
    )
    assert authorization == sdk.Utils.get_authorization(
        request, signing.ALGORITHM, signing.EMPTY_PAYLOAD_HASH, "testid", secret
    )
    # All that the algorithm demands is signed, the token too.
    demanded = {"host", *(name for name in ours if name.startswith("x-acs-"))}
    assert set(header_names.split(";")) == demanded
    assert ("x-acs-security-token" in demanded) == bool(token)
