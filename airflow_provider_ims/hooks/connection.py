"""An Airflow connection -> checked settings.

Every spelling ends here: fields of the form, URI parameters (which are always text) and JSON. What makes no
sense is a ``ValueError`` that names the field.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_ims.api.credentials import CredentialSource, StaticCredentials
from airflow_provider_ims.api.endpoints import Endpoint, parse_host, region_host

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

CREDENTIAL_TYPES = ("access_key", "sts")


class ConnectionSettings(NamedTuple):
    """What a connection says, with defaults filled in.

    :param region: None when only a host is given that does not tell it.
    """

    endpoint: Endpoint
    region: str | None
    credentials: CredentialSource
    connect_timeout: float
    read_timeout: float
    retry_seconds: float
    max_requests_per_second: float | None
    verify: bool | str
    proxy: str | None

    def __repr__(self) -> str:
        return f"ConnectionSettings(endpoint={self.endpoint.url!r}, region={self.region!r})"


def read_connection(connection: Connection, region: str | None = None) -> ConnectionSettings:
    """Check a connection and fill in the defaults.

    :param connection: of type ``alibaba_ims``, or the official ``alibaba_cloud``.
    :param region: overrides the connection's.
    :raises ValueError: naming the connection and the field that makes no sense.
    """
    try:
        return _read(connection, region)
    except ValueError as error:
        raise ValueError(f"connection {connection.conn_id!r}: {error}") from None


def _read(connection: Connection, region: str | None) -> ConnectionSettings:
    try:
        extra = connection.extra_dejson
    except Exception:  # noqa: BLE001 - Airflow versions raise different errors; their texts quote the secret
        raise ValueError("extra is no JSON object") from None
    if not isinstance(extra, Mapping):
        raise ValueError("extra is no JSON object")
    region = _text(extra, "region") if region is None else region
    endpoint, region = _endpoint(connection.host, region, _text(extra, "network") or "public")
    return ConnectionSettings(
        endpoint=endpoint,
        region=region,
        credentials=_credentials(connection, extra),
        connect_timeout=_number(extra, "connect_timeout", 5.0),
        read_timeout=_number(extra, "read_timeout", 30.0),
        retry_seconds=_number(extra, "retry_seconds", 300.0, or_zero=True),
        max_requests_per_second=_number(extra, "max_requests_per_second", 0.0, or_zero=True) or None,
        verify=_verify(extra),
        proxy=_text(extra, "proxy"),
    )


def _endpoint(host: str | None, region: str | None, network: str) -> tuple[Endpoint, str | None]:
    """Find where to send to; a documented host and the region must not contradict each other."""
    if not (host and host.strip()):
        if not region:
            raise ValueError("neither extra 'region' (such as cn-shanghai) nor host is set")
        return Endpoint("https", region_host(region, network)), region
    endpoint = parse_host(host.strip())
    documented = re.fullmatch(r"ice(?:-vpc)?\.([a-z0-9-]+)\.aliyuncs\.com", endpoint.host)
    if documented and region and documented[1] != region:
        raise ValueError(
            f"host {endpoint.host} is in region {documented[1]}, but the region asked for is {region}"
        )
    return endpoint, region or (documented[1] if documented else None)


def _credentials(connection: Connection, extra: Mapping[str, Any]) -> CredentialSource:
    login = connection.login or _text(extra, "access_key_id")
    password = connection.password or _text(extra, "access_key_secret")
    token = _text(extra, "security_token")
    kind = _text(extra, "credential_type") or ("sts" if token else "access_key")
    if kind not in CREDENTIAL_TYPES:
        raise ValueError(f"extra 'credential_type' is {kind!r}, not one of {', '.join(CREDENTIAL_TYPES)}")
    if kind == "sts" and not token:
        raise ValueError("extra 'security_token' is empty, which credential_type sts needs")
    return StaticCredentials(login or "", password or "", token if kind == "sts" else None)


def _text(extra: Mapping[str, Any], field: str) -> str | None:
    value = extra.get(field)
    if value is None or isinstance(value, str):
        return (value or "").strip() or None
    raise ValueError(f"extra {field!r} is no text")


def _number(extra: Mapping[str, Any], field: str, default: float, *, or_zero: bool = False) -> float:
    value = extra.get(field)
    if value is None or value == "":
        return default
    try:
        number = float("nan" if isinstance(value, bool) else value)
    except (TypeError, ValueError):
        number = float("nan")
    if not (0 <= number < float("inf")) or (number == 0 and not or_zero):
        raise ValueError(f"extra {field!r} is {value!r}, not a {'' if or_zero else 'positive '}number")
    return number


def _verify(extra: Mapping[str, Any]) -> bool | str:
    value = extra.get("verify", True)
    if value is None or isinstance(value, bool):
        return value is not False
    if not isinstance(value, str):
        raise ValueError(f"extra 'verify' is {value!r}, not true, false or a path")
    spelled = {"": True, "true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    return spelled.get(value.strip().lower(), value.strip())
