"""Every spelling of a connection, and every nonsense in one."""

from __future__ import annotations

import json
import logging
import traceback
from urllib.parse import quote

import pytest
from airflow.providers.common.compat.sdk import Connection

from airflow_provider_ims.api.credentials import FetchedCredentials
from airflow_provider_ims.api.endpoints import REGIONS, Endpoint
from airflow_provider_ims.connection import EXTRAS, read_connection, read_settings
from airflow_provider_ims.hooks.ims import IMSHook

SECRET = "secret-that-nobody-may-see"


def connection(extra=None, **fields) -> Connection:
    fields = {"conn_type": "alibaba_ims", "login": "LTAIid", "password": SECRET, **fields}
    return Connection(
        conn_id="c", extra=extra if isinstance(extra, str) else json.dumps(extra or {}), **fields
    )


def read(extra=None, region=None, **fields):
    return read_settings(connection(extra, **fields), region)


def test_three_fields_are_enough():
    settings = read({"region": "cn-shanghai"})
    assert settings.endpoint == Endpoint("https", "ice.cn-shanghai.aliyuncs.com")
    assert settings.region == "cn-shanghai"
    assert settings.credentials.current() == ("LTAIid", SECRET, None)
    oss_endpoint = Endpoint("https", "oss-cn-shanghai.aliyuncs.com")
    assert settings[4:] == (5.0, 30.0, 300.0, None, True, None, oss_endpoint, ())


@pytest.mark.parametrize("region", REGIONS)
def test_the_documented_regions_in_both_networks(region):
    assert read({"region": region}).endpoint.url == f"https://ice.{region}.aliyuncs.com"
    assert read({"region": region, "network": "vpc"}).endpoint.url == f"https://ice-vpc.{region}.aliyuncs.com"
    assert not read({"region": region}).warnings


def test_another_region_is_tried_with_a_warning():
    settings = read({"region": "eu-central-1"})
    assert settings.endpoint.host == "ice.eu-central-1.aliyuncs.com"
    assert "'eu-central-1' is not among those that IMS documents" in settings.warnings[0]
    assert "was 'cn-shanghai' meant?" in read({"region": "cn-shanghia"}).warnings[0]


def test_the_argument_wins_over_the_connections_region():
    assert read({"region": "cn-shanghai"}, region="us-west-1").endpoint.host == "ice.us-west-1.aliyuncs.com"


@pytest.mark.parametrize(
    ("spelling", "url"),
    [
        ({"host": "ice.example"}, "https://ice.example"),
        ({"host": "ice.example:8443"}, "https://ice.example:8443"),
        ({"host": "ice.example", "port": 8443}, "https://ice.example:8443"),
        ({"host": "ice.example:8443", "port": 8443}, "https://ice.example:8443"),
        ({"host": "http://127.0.0.1", "port": 8080}, "http://127.0.0.1:8080"),
        ({"host": " https://ice.example/ "}, "https://ice.example"),
        ({"host": "ice.example", "port": 443}, "https://ice.example"),
        ({"host": "ice.example", "port": 0}, "https://ice.example"),
    ],
)
def test_a_host_with_or_without_scheme_and_port(spelling, url):
    assert read(**spelling).endpoint.url == url


def test_a_port_without_a_host_is_the_regions_own():
    assert read({"region": "cn-shanghai"}, port=443).endpoint.url == "https://ice.cn-shanghai.aliyuncs.com"
    assert (
        read({"region": "cn-shanghai"}, port=8443).endpoint.url == "https://ice.cn-shanghai.aliyuncs.com:8443"
    )


def test_a_documented_host_tells_its_region():
    assert read(host="ice-vpc.us-west-1.aliyuncs.com").region == "us-west-1"
    assert read(host="ice.example").region is None


EXTRA = {
    "region": "cn-shanghai",
    "credential_type": "sts",
    "security_token": "to/ken+==",
    "connect_timeout": 2.5,
    "read_timeout": 7,
    "retry_seconds": 0,
    "max_requests_per_second": 12,
    "verify": False,
    "proxy": "http://user:proxypass@127.0.0.1:3128",
}


def assert_it_is_all_there(settings) -> None:
    assert settings.region == "cn-shanghai"
    assert settings.credentials.current() == ("LTAI/id", "se:c/r@t", "to/ken+==")
    assert settings[4:10] == (2.5, 7.0, 0.0, 12.0, False, "http://user:proxypass@127.0.0.1:3128")


def as_uri(extra: dict) -> str:
    login = f"{quote('LTAI/id', safe='')}:{quote('se:c/r@t', safe='')}"
    return f"alibaba-ims://{login}@/?" + "&".join(f"{k}={quote(str(v), safe='')}" for k, v in extra.items())


@pytest.mark.parametrize(
    "value",
    [
        json.dumps({"conn_type": "alibaba_ims", "login": "LTAI/id", "password": "se:c/r@t", "extra": EXTRA}),
        json.dumps(
            {
                "conn_type": "alibaba-ims",
                "login": "LTAI/id",
                "password": "se:c/r@t",
                "extra": json.dumps({k: f" {v} " for k, v in EXTRA.items()}),
            }
        ),
        as_uri(EXTRA),
        as_uri({**EXTRA, "verify": "false"}),
        as_uri({"__extra__": json.dumps(EXTRA)}),
        Connection(
            conn_id="x",
            conn_type="alibaba_ims",
            login="LTAI/id",
            password="se:c/r@t",
            extra=json.dumps(EXTRA),
        ).get_uri(),
    ],
    ids=["json", "json of texts", "uri", "uri false", "uri __extra__", "Airflow's own uri"],
)
def test_every_spelling_in_the_environment(monkeypatch, value):
    monkeypatch.setenv("AIRFLOW_CONN_X", value)
    assert_it_is_all_there(IMSHook("x").settings)


def test_a_secrets_backend(tmp_path):
    from airflow.secrets.local_filesystem import LocalFilesystemBackend

    file = tmp_path / "connections.json"
    file.write_text(json.dumps({"x": as_uri(EXTRA)}))
    found = LocalFilesystemBackend(connections_file_path=str(file)).get_connection("x")
    assert_it_is_all_there(read_connection(found))


def test_the_official_connection_works_as_it_is(monkeypatch):
    extra = {
        "access_key_id": "LTAIid",
        "access_key_secret": SECRET,
        "region": "cn-shanghai",
        "auth_type": "AK",
    }
    monkeypatch.setenv("AIRFLOW_CONN_X", json.dumps({"conn_type": "alibaba_cloud", "extra": extra}))
    settings = IMSHook("x").settings
    assert settings.credentials.current() == ("LTAIid", SECRET, None)
    assert not settings.warnings
    settings = read(
        {"access_key_id": "LTAIid", "access_key_secret": SECRET}, "us-west-1", login="", password=""
    )
    assert settings.credentials.current() == ("LTAIid", SECRET, None)


@pytest.mark.parametrize(
    ("extra", "fields", "kind"),
    [
        ({}, {}, "access_key"),
        ({"security_token": "token"}, {}, "sts"),
        ({}, {"login": "", "password": ""}, "default"),
        ({}, {"login": None, "password": None}, "default"),
        ({"credential_type": "default"}, {}, "default"),
    ],
)
def test_the_kind_that_goes_without_saying(extra, fields, kind):
    assert read({"region": "cn-shanghai", **extra}, **fields).credential_type == kind


@pytest.mark.parametrize(
    ("written", "verify"),
    [
        (True, True),
        (None, True),
        ("", True),
        ("True", True),
        ("1", True),
        (1, True),
        (False, False),
        ("false", False),
        (" FALSE ", False),
        ("no", False),
        (0, False),
        (__file__, __file__),
    ],
)
def test_verify_in_every_spelling(written, verify):
    settings = read({"region": "cn-shanghai", "verify": written})
    assert settings.verify == verify
    assert any("not checked" in warning for warning in settings.warnings) is (verify is False)


@pytest.mark.parametrize(
    ("extra", "fields", "named"),
    [
        ({}, {}, "neither extra 'region'.* nor host"),
        ({"region": "CN Shanghai"}, {}, "region 'CN Shanghai'"),
        ({"region": ["cn-shanghai"]}, {}, "extra 'region'"),
        ({"network": "intranet"}, {}, "extra 'network' is 'intranet'"),
        ({"network": "privat"}, {"host": "http://127.0.0.1:1"}, "extra 'network' is 'privat'"),
        ({}, {"host": "ice.cn-shanghai.aliyuncs.com/path"}, "host"),
        ({}, {"host": "ice.example:8443", "port": 443}, "host 'ice.example:8443' and port 443"),
        ({}, {"host": "ice.us-west-1.aliyuncs.com"}, "us-west-1.* cn-shanghai"),
        ({}, {"host": f"https://LTAIid:{SECRET}@ice.example"}, "host has an '@'"),
        ({"credential_type": "key"}, {}, "'credential_type' is 'key', not one of access_key, sts"),
        ({"credential_type": "sts"}, {}, "'security_token' is empty"),
        ({"credential_type": "ram_role_arn"}, {}, "'role_arn' is empty"),
        ({"credential_type": "oidc_role_arn", "role_arn": "a"}, {}, "'oidc_provider_arn' is empty"),
        ({"credential_type": "credentials_uri"}, {}, "'credentials_uri' is empty"),
        (
            {"credential_type": "credentials_uri", "credentials_uri": SECRET},
            {},
            "'credentials_uri' is no http",
        ),
        ({"credential_type": "ram_role_arn", "role_arn": "a", "policy": SECRET}, {}, "'policy' is no JSON"),
        ({"credential_type": "ram_role_arn", "role_arn": "a", "policy": "[]"}, {}, "'policy' is no JSON"),
        (
            {"credential_type": "ram_role_arn", "role_arn": "a", "role_session_name": "a b"},
            {},
            "session_name",
        ),
        (
            {"credential_type": "ram_role_arn", "role_arn": "a", "role_session_expiration": 60},
            {},
            "expiration",
        ),
        (
            {"credential_type": "ram_role_arn", "role_arn": "a", "role_session_expiration": "1h"},
            {},
            "expiration",
        ),
        (
            {"credential_type": "ram_role_arn", "role_arn": "a", "sts_endpoint": "http://sts"},
            {},
            "sts_endpoint",
        ),
        ({"credential_type": "ram_role_arn", "role_arn": "a", "sts_endpoint": "a/b"}, {}, "sts_endpoint"),
        ({}, {"login": ""}, r"login \(AccessKey ID\) is empty"),
        ({}, {"password": ""}, r"password \(AccessKey Secret\) is empty"),
        ({}, {"password": f"{SECRET}\n"}, "password"),
        ({"connect_timeout": "soon"}, {}, "connect_timeout"),
        ({"connect_timeout": 0}, {}, "connect_timeout"),
        ({"connect_timeout": "1_0"}, {}, "connect_timeout"),
        ({"read_timeout": True}, {}, "read_timeout"),
        ({"read_timeout": "nan"}, {}, "read_timeout"),
        ({"retry_seconds": -1}, {}, "retry_seconds"),
        ({"retry_seconds": [1]}, {}, "retry_seconds"),
        ({"max_requests_per_second": "inf"}, {}, "max_requests_per_second"),
        ({"verify": "/no/such/bundle.pem"}, {}, "verify"),
        ({"verify": "maybe"}, {}, "verify"),
        ({"proxy": f"socks5://user:{SECRET}@127.0.0.1"}, {}, "'proxy' is no http"),
        ({"proxy": {"url": SECRET}}, {}, "'proxy' is no text"),
    ],
)
def test_nonsense_is_refused_by_the_name_of_the_field(extra, fields, named, caplog):
    caplog.set_level(logging.DEBUG)
    extra = extra if not extra and not fields else {"region": "cn-shanghai", **extra}
    with pytest.raises(ValueError, match=named) as refused:
        read_connection(connection(extra, **fields))
    assert str(refused.value).startswith("connection 'c': ")
    whole = "".join(traceback.format_exception(refused.value)) + repr(refused.value.__context__) + caplog.text
    assert SECRET not in whole


@pytest.mark.parametrize("extra", ['{"region": "cn-shanghai",}', "[1]", '"text"', SECRET])
def test_an_extra_that_is_no_json_object_is_not_taken_for_an_empty_one(extra, caplog):
    with pytest.raises(ValueError, match="extra is no JSON object") as refused:
        read(extra, host="ice.example")
    assert refused.value.__context__ is None
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("extra", "warning"),
    [
        ({"regoin": "cn-shanghai"}, "extra 'regoin' is not known; was 'region' meant?"),
        ({"RoleArn": "a"}, "extra 'RoleArn' is not known; was 'role_arn' meant?"),
        ({"colour": "red"}, "extra 'colour' is not known and has no effect"),
        ({"role_arn": "a"}, "credential_type access_key makes no use of role_arn"),
        ({"credential_type": "default"}, "credential_type default makes no use of login, password"),
    ],
)
def test_what_is_strange_is_logged_with_the_name_of_the_connection(extra, warning, caplog):
    settings = read_connection(connection(extra, host="ice.example"))
    assert settings.warnings == (warning,)
    assert f"Connection 'c': {warning}" in caplog.text


def test_a_misspelt_region_is_named_where_its_absence_is_refused():
    with pytest.raises(ValueError, match=r"neither extra 'region'.*was 'region' meant"):
        read({"regoin": "cn-shanghai"})


def test_the_form_offers_what_is_read():
    from airflow_provider_ims.get_provider_info import CONNECTION_FIELDS

    assert set(CONNECTION_FIELDS) == EXTRAS - {"access_key_id", "access_key_secret"}


def test_reading_fetches_nothing():
    settings = read(
        {
            "credential_type": "credentials_uri",
            "credentials_uri": "http://127.0.0.1:9/",
            "region": "us-west-1",
        },
        login="",
        password="",
    )
    assert isinstance(settings.credentials, FetchedCredentials)


def test_nothing_shown_holds_a_secret(hook):
    used = hook(extra={"security_token": SECRET, "proxy": f"http://user:{SECRET}@127.0.0.1:9"})
    shown = f"{used!r} {used} {used.settings!r} {used.settings} {used.client!r} {used.settings.credentials!r}"
    assert SECRET not in shown
    assert "emulator-secret" not in shown


def test_a_region_that_rendered_to_nothing_is_no_region(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_IMS_DEFAULT",
        json.dumps(
            {"conn_type": "alibaba_ims", "login": "k", "password": "s", "extra": {"region": "cn-shanghai"}}
        ),
    )
    assert IMSHook("ims_default", None).region == "cn-shanghai"
    with pytest.raises(ValueError, match="region is '', which names none"):
        _ = IMSHook("ims_default", "").region


@pytest.mark.parametrize(
    "region", [5, True, float("nan"), ["cn-shanghai"], b"cn-shanghai", "\u200b", "cn shanghai"]
)
@pytest.mark.parametrize("host", ["", "http://127.0.0.1:1"])
def test_a_region_that_is_no_name_is_refused_beside_a_host_too(monkeypatch, host, region):
    monkeypatch.setenv("AIRFLOW_CONN_IMS_DEFAULT", connection({"region": "cn-shanghai"}, host=host).as_json())
    with pytest.raises(ValueError, match="region"):
        _ = IMSHook(region=region).settings


def test_a_region_may_have_blanks_around_it(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_IMS_DEFAULT", connection({"region": "cn-beijing"}).as_json())
    assert IMSHook(region=" cn-shanghai\n").region == "cn-shanghai"
