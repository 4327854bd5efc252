"""Region and network -> host.

From the documentation and nothing else: the official SDK's own map sends five of the six documented regions to
a host that the documentation does not list, and ignores the network for every region it knows.

Source: https://www.alibabacloud.com/help/en/ims/developer-reference/api-ice-2020-11-09-endpoint
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

REGIONS = ("ap-southeast-1", "cn-beijing", "cn-hangzhou", "cn-shanghai", "cn-shenzhen", "us-west-1")
NETWORKS = ("public", "vpc")

_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(
    r"((?P<scheme>https?)://)?"
    rf"(?P<name>{_LABEL}(\.{_LABEL})*\.?|\[(?P<ipv6>[0-9a-f:.]+)\])(:(?P<port>[0-9]{{1,5}}))?/?",
    re.ASCII | re.IGNORECASE,
)


class Endpoint(NamedTuple):
    """Where requests go: ``scheme`` (``https`` or ``http``) and ``host`` (with a port where it isn't the usual)."""

    scheme: str
    host: str

    @property
    def url(self) -> str:
        """The address without a path."""
        return f"{self.scheme}://{self.host}"


def region_host(region: str, network: str = "public") -> str:
    """Return the documented host of a region; another region than the six gets the same pattern.

    :raises ValueError: for a region that could not be part of a host name, or an unknown network.
    """
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", region):
        raise ValueError(f"region {region!r} is not a region id such as 'cn-shanghai'")
    if network not in NETWORKS:
        raise ValueError(f"network {network!r} is neither 'public' nor 'vpc'")
    return f"{'ice-vpc' if network == 'vpc' else 'ice'}.{region}.aliyuncs.com"


def parse_host(text: str) -> Endpoint:
    """Return a host as a person writes it: ``host``, ``host:port`` or a URL; ``https`` unless it says ``http://``.

    :raises ValueError: for anything else, a path included.
    """
    match = _HOST.fullmatch(text)
    if not match or not 0 < int(match["port"] or 1) < 65536 or not _is_ipv6(match["ipv6"] or "::"):
        raise ValueError(f"host {text!r} is not a host, host:port or http(s) URL without a path")
    scheme, name = (match["scheme"] or "https").lower(), match["name"].lower()
    default_port = 443 if scheme == "https" else 80
    port = int(match["port"] or default_port)
    # A client leaves the usual port out of the Host header, which is signed.
    return Endpoint(scheme, name if port == default_port else f"{name}:{port}")


def _is_ipv6(text: str) -> bool:
    try:
        return bool(ipaddress.IPv6Address(text))
    except ValueError:
        return False
