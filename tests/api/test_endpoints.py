"""Hosts: the documented twelve, and every way to write one's own."""

from __future__ import annotations

import pytest

from airflow_provider_ims.api.endpoints import NETWORKS, REGIONS, Endpoint, parse_host, region_host

# https://www.alibabacloud.com/help/en/ims/developer-reference/api-ice-2020-11-09-endpoint
DOCUMENTED = {
    ("ap-southeast-1", "public"): "ice.ap-southeast-1.aliyuncs.com",
    ("ap-southeast-1", "vpc"): "ice-vpc.ap-southeast-1.aliyuncs.com",
    ("cn-beijing", "public"): "ice.cn-beijing.aliyuncs.com",
    ("cn-beijing", "vpc"): "ice-vpc.cn-beijing.aliyuncs.com",
    ("cn-hangzhou", "public"): "ice.cn-hangzhou.aliyuncs.com",
    ("cn-hangzhou", "vpc"): "ice-vpc.cn-hangzhou.aliyuncs.com",
    ("cn-shanghai", "public"): "ice.cn-shanghai.aliyuncs.com",
    ("cn-shanghai", "vpc"): "ice-vpc.cn-shanghai.aliyuncs.com",
    ("cn-shenzhen", "public"): "ice.cn-shenzhen.aliyuncs.com",
    ("cn-shenzhen", "vpc"): "ice-vpc.cn-shenzhen.aliyuncs.com",
    ("us-west-1", "public"): "ice.us-west-1.aliyuncs.com",
    ("us-west-1", "vpc"): "ice-vpc.us-west-1.aliyuncs.com",
}


def test_the_documented_hosts_and_no_others():
    offered = {(region, network): region_host(region, network) for region in REGIONS for network in NETWORKS}
    assert offered == DOCUMENTED


def test_public_is_the_default_and_other_regions_follow_the_pattern():
    assert region_host("cn-shanghai") == "ice.cn-shanghai.aliyuncs.com"
    assert region_host("eu-central-1", "vpc") == "ice-vpc.eu-central-1.aliyuncs.com"


@pytest.mark.parametrize(
    "region",
    [
        "",
        " ",
        "cn-shanghai ",
        "cn-shanghai\n",
        "CN-Shanghai",
        "cn_shanghai",
        "a.b",
        "cn-",
        "-cn",
        "华东2",
        "evil.example/",
    ],
)
def test_a_region_that_is_none_is_refused_by_name(region):
    with pytest.raises(ValueError, match="region") as refused:
        region_host(region)
    assert repr(region) in str(refused.value)


@pytest.mark.parametrize("network", ["", "VPC", "intranet", "vpc "])
def test_an_unknown_network_is_refused_by_name(network):
    with pytest.raises(ValueError, match="network") as refused:
        region_host("cn-shanghai", network)
    assert repr(network) in str(refused.value)


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("ice.cn-shanghai.aliyuncs.com", Endpoint("https", "ice.cn-shanghai.aliyuncs.com")),
        ("https://ice.cn-shanghai.aliyuncs.com", Endpoint("https", "ice.cn-shanghai.aliyuncs.com")),
        ("https://ice.cn-shanghai.aliyuncs.com/", Endpoint("https", "ice.cn-shanghai.aliyuncs.com")),
        ("HTTPS://ICE.cn-Shanghai.aliyuncs.com", Endpoint("https", "ice.cn-shanghai.aliyuncs.com")),
        ("127.0.0.1:8080", Endpoint("https", "127.0.0.1:8080")),
        ("http://127.0.0.1:8080", Endpoint("http", "127.0.0.1:8080")),
        ("http://localhost:8080/", Endpoint("http", "localhost:8080")),
        ("HTTP://emulator", Endpoint("http", "emulator")),
        # The usual port is left out, as it is in the Host header, which is signed.
        ("host:443", Endpoint("https", "host")),
        ("https://host:443", Endpoint("https", "host")),
        ("http://host:80", Endpoint("http", "host")),
        ("http://host:0443", Endpoint("http", "host:443")),
        ("host:80", Endpoint("https", "host:80")),
        ("http://host:443", Endpoint("http", "host:443")),
        ("[::1]:8080", Endpoint("https", "[::1]:8080")),
        ("http://[2001:DB8::1]", Endpoint("http", "[2001:db8::1]")),
        ("[::1]:443", Endpoint("https", "[::1]")),
    ],
)
def test_every_spelling_of_a_host(text, endpoint):
    assert parse_host(text) == endpoint
    assert parse_host(endpoint.url) == endpoint


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "/",
        "http://",
        "https:///",
        "ftp://host",
        "://host",
        "//host",
        "http:host",
        "http:/host",
        "host/path",
        "https://host/?Action=DeleteMediaInfos",
        "host?x=1",
        "host#fragment",
        "user@host",
        "https://user:password@host",
        "host:",
        "host:port",
        "host:-1",
        "host:0",
        "host:65536",
        "host:١٢",
        "host one",
        " host",
        "host\n",
        "ho\nst",
        "ho\tst",
        "host,other",
        "host;other",
        "ice。cn-shanghai。aliyuncs。com",
        "bücher.example",
        "\u212aelvin.example",
        "::1",
        "[::1",
        "[:::]",
        "[1.2.3.4]",
        "[::1::]",
        "a..b",
        ".host",
        "-host",
        "host-.example",
        "h" * 64,
        "http://[::1",
        "a\\b",
        "%41.example",
    ],
)
def test_what_is_no_host_is_refused_by_name(text):
    with pytest.raises(ValueError, match="is not a host") as refused:
        parse_host(text)
    assert repr(text) in str(refused.value)
