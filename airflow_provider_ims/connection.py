"""An Airflow connection -> checked settings.

Every spelling ends here: fields of the form, URI parameters (which are always text) and JSON. What makes no
sense is a ``ValueError`` that names the field and never repeats a secret; what is only strange is a warning.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from airflow_provider_ims.api.credentials import CredentialSource, FetchedCredentials, StaticCredentials
from airflow_provider_ims.api.endpoints import NETWORKS, REGIONS, Endpoint, parse_host, region_host
from airflow_provider_ims.arguments import read_decimal
from airflow_provider_ims.compat import mask_secret

if TYPE_CHECKING:
    from airflow_provider_ims.compat import Connection

log = logging.getLogger(__name__)


class CredentialKind(NamedTuple):
    """Which extras a kind of credentials needs, which it may have, and whether it takes login and password."""

    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    key_pair: bool = False


CREDENTIAL_KINDS = {
    "access_key": CredentialKind(key_pair=True),
    "sts": CredentialKind(("security_token",), key_pair=True),
    "ram_role_arn": CredentialKind(
        ("role_arn",),
        (
            "security_token",
            "role_session_name",
            "role_session_expiration",
            "external_id",
            "policy",
            "sts_endpoint",
        ),
        key_pair=True,
    ),
    "oidc_role_arn": CredentialKind(
        ("role_arn", "oidc_provider_arn", "oidc_token_file_path"),
        ("role_session_name", "role_session_expiration", "policy", "sts_endpoint"),
    ),
    "ecs_ram_role": CredentialKind((), ("role_name",)),
    "credentials_uri": CredentialKind(("credentials_uri",)),
    "default": CredentialKind(),
}

# Set by the platform where a task runs with an identity of its own (RRSA in Kubernetes, a sidecar). The library
# reads them too, but as they were when it was imported.
ENVIRONMENT = {
    "oidc_role_arn": {
        "role_arn": "ALIBABA_CLOUD_ROLE_ARN",
        "oidc_provider_arn": "ALIBABA_CLOUD_OIDC_PROVIDER_ARN",
        "oidc_token_file_path": "ALIBABA_CLOUD_OIDC_TOKEN_FILE",
    },
    "credentials_uri": {"credentials_uri": "ALIBABA_CLOUD_CREDENTIALS_URI"},
}

_CREDENTIAL_EXTRAS = {name for kind in CREDENTIAL_KINDS.values() for name in (*kind.needs, *kind.takes)}
EXTRAS = {
    *("region", "network", "credential_type", *_CREDENTIAL_EXTRAS, "access_key_id", "access_key_secret"),
    *("connect_timeout", "read_timeout", "retry_seconds", "max_requests_per_second", "verify", "proxy"),
    "oss_endpoint",
}


class ConnectionSettings(NamedTuple):
    """What a connection says, with defaults filled in.

    :param region: None when only a host is given that does not tell it.
    :param oss_endpoint: None when neither it nor a region is given.
    :param warnings: what is strange about the connection, though not wrong.
    """

    endpoint: Endpoint
    region: str | None
    credential_type: str
    credentials: CredentialSource
    connect_timeout: float
    read_timeout: float
    retry_seconds: float
    max_requests_per_second: float | None
    verify: bool | str
    proxy: str | None
    oss_endpoint: Endpoint | None
    warnings: tuple[str, ...]

    def __repr__(self) -> str:
        return f"ConnectionSettings(endpoint={self.endpoint.url!r}, region={self.region!r})"


def connection_fields(connection: Connection) -> tuple[Any, ...]:
    """Return all that a connection says, to know whether it has changed."""
    names = ("conn_type", "host", "port", "schema", "login", "password", "extra")
    return tuple(getattr(connection, name) for name in names)


def read_connection(connection: Connection, region: str | None = None) -> ConnectionSettings:
    """Check a connection, fill in the defaults, and log what is strange.

    :param connection: of type ``alibaba_ims``, or the official ``alibaba_cloud``.
    :param region: overrides the connection's.
    :raises ValueError: naming the connection and the field that makes no sense.
    """
    try:
        settings = read_settings(connection, region)
    except ValueError as error:
        words = f"connection {connection.conn_id!r}: {error}"
    else:
        for warning in settings.warnings:
            end = "" if warning.endswith("?") else "."
            log.warning("Connection %r: %s%s", connection.conn_id, warning, end)
        return settings
    raise ValueError(words)


def read_settings(connection: Connection, region: str | None = None) -> ConnectionSettings:
    """Return the same, but leave the connection's name and the log alone.

    :raises ValueError: naming the field that makes no sense.
    """
    warnings: list[str] = []
    try:
        return _read(connection, region, warnings)
    except ValueError as error:
        words = "; ".join([str(error), *warnings])
    # Out here, so that what was read does not hang on the error.
    raise ValueError(words)


def _read(connection: Connection, region: str | None, warnings: list[str]) -> ConnectionSettings:
    extra = _extra(connection)
    warnings += _unknown_extras(connection, extra)
    region = _text(extra, "region") if region is None else region
    network = _text(extra, "network") or "public"
    if network not in NETWORKS:  # also where a host makes it unused
        raise ValueError(f"extra 'network' is {network!r}, neither 'public' nor 'vpc'")
    endpoint, region = _endpoint(connection, region, network)
    if region and region not in REGIONS:
        warnings.append(_unknown_region(region))
    proxy = _url(extra, "proxy")
    kind, credentials = _credentials(connection, extra, proxy, warnings)
    verify = _verify(extra)
    if verify is False:
        warnings.append(
            "TLS certificates are not checked ('verify' is false): anybody on the way can read along"
        )
    return ConnectionSettings(
        endpoint=endpoint,
        region=region,
        credential_type=kind,
        credentials=credentials,
        connect_timeout=_number(extra, "connect_timeout", 5.0),
        read_timeout=_number(extra, "read_timeout", 30.0),
        retry_seconds=_number(extra, "retry_seconds", 300.0, or_zero=True),
        max_requests_per_second=_number(extra, "max_requests_per_second", 0.0, or_zero=True) or None,
        verify=verify,
        proxy=proxy,
        oss_endpoint=_oss_endpoint(extra, region),
        warnings=tuple(warnings),
    )


def _extra(connection: Connection) -> Mapping[str, Any]:
    # Airflow takes broken JSON for no extra at all, and a deletion in another region than the one that was meant
    # starts like that.
    try:
        extra = json.loads(connection.extra or "{}")
    except (ValueError, RecursionError):
        extra = None
    if not isinstance(extra, Mapping):
        raise ValueError("extra is no JSON object")
    mask_secret(dict(extra))
    return extra


def _unknown_extras(connection: Connection, extra: Mapping[str, Any]) -> list[str]:
    warnings = []
    for name in sorted(extra.keys() - EXTRAS):
        if near := _closest(name.lower(), EXTRAS, 0.7):
            warnings.append(f"extra {name!r} is not known; was {near!r} meant?")
        elif connection.conn_type == "alibaba_ims":  # other types have extras of their own
            warnings.append(f"extra {name!r} is not known and has no effect")
    return warnings


def _closest(name: str, known: Collection[str], similarity: float) -> str | None:
    from difflib import get_close_matches  # only after a slip: a DAG file does not pay for it

    return next(iter(get_close_matches(name, known, n=1, cutoff=similarity)), None)


def _unknown_region(region: str) -> str:
    near = _closest(region, REGIONS, 0.8)
    meant = f"; was {near!r} meant?" if near else ", and is tried all the same"
    return f"region {region!r} is not among those that IMS documents ({', '.join(REGIONS)}){meant}"


def _endpoint(connection: Connection, region: str | None, network: str) -> tuple[Endpoint, str | None]:
    """Return where to send to; a documented host and the region must not contradict each other."""
    host = (connection.host or "").strip().removesuffix("/")
    if "@" in host:
        raise ValueError("host has an '@': keys belong into login and password")
    if not host and not region:
        raise ValueError("neither extra 'region' (such as cn-shanghai) nor host is set")
    regional = region_host(region, network) if region else ""  # checked also where a host makes it unused
    host = host or regional
    if connection.port and not host.endswith(f":{connection.port}"):
        if re.search(r":\d+$", host):
            raise ValueError(f"host {host!r} and port {connection.port} contradict each other")
        host = f"{host}:{connection.port}"
    endpoint = parse_host(host)
    documented = re.fullmatch(r"ice(?:-vpc)?\.([a-z0-9-]+)\.aliyuncs\.com", endpoint.host)
    if documented and region and documented[1] != region:
        raise ValueError(
            f"host {endpoint.host} is in region {documented[1]}, but the region asked for is {region}"
        )
    return endpoint, region or (documented[1] if documented else None)


def _oss_endpoint(extra: Mapping[str, Any], region: str | None) -> Endpoint | None:
    """Find where the region's files are; https://www.alibabacloud.com/help/en/oss/regions-and-endpoints."""
    text = _text(extra, "oss_endpoint")
    if not text and region and re.fullmatch(r"[a-z0-9-]+", region):
        text = f"oss-{region}{'-internal' if _text(extra, 'network') == 'vpc' else ''}.aliyuncs.com"
    try:
        return parse_host(text) if text else None
    except ValueError as error:
        raise ValueError(f"extra 'oss_endpoint': {error}") from None


def _credentials(
    connection: Connection, extra: Mapping[str, Any], proxy: str | None, warnings: list[str]
) -> tuple[str, CredentialSource]:
    # Both halves come from one place: a mixed pair would sign as somebody else.
    login, password = connection.login or "", connection.password or ""
    if not login and not password:
        login, password = _text(extra, "access_key_id") or "", _text(extra, "access_key_secret") or ""
    name = _text(extra, "credential_type")
    if not name and (login or password):
        name = "sts" if _text(extra, "security_token") else "access_key"
    name = name or "default"
    kind = CREDENTIAL_KINDS.get(name)
    if not kind:
        raise ValueError(f"extra 'credential_type' is {name!r}, not one of {', '.join(CREDENTIAL_KINDS)}")
    if unused := _unused(extra, kind, has_key=bool(login or password)):
        warnings.append(f"credential_type {name} makes no use of {', '.join(unused)}")
    fields = _credential_fields(extra, name, kind)
    if name in ("ram_role_arn", "oidc_role_arn"):
        fields["proxy"] = proxy
    if not kind.key_pair:
        return name, FetchedCredentials(name, **fields)
    typed_in = StaticCredentials(login, password, fields.get("security_token"))
    if name != "ram_role_arn":
        return name, typed_in
    return name, FetchedCredentials(name, access_key_id=login, access_key_secret=password, **fields)


def _unused(extra: Mapping[str, Any], kind: CredentialKind, *, has_key: bool) -> list[str]:
    others = sorted(_CREDENTIAL_EXTRAS.difference(kind.needs, kind.takes))
    key_pair = ["login", "password"] if has_key and not kind.key_pair else []
    return [*key_pair, *(field for field in others if extra.get(field) not in (None, ""))]


def _credential_fields(extra: Mapping[str, Any], name: str, kind: CredentialKind) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for field in (*kind.needs, *kind.takes):
        variable = ENVIRONMENT.get(name, {}).get(field, "")
        value = (
            _json_text(extra, field) if field == "policy" else _text(extra, field) or os.environ.get(variable)
        )
        if value:
            fields[field] = value
        elif field in kind.needs:
            or_else = f", and so is {variable}" if variable else ""
            raise ValueError(f"extra {field!r} is empty, which credential_type {name} needs{or_else}")
    if "credentials_uri" in fields:
        fields["credentials_uri"] = _url({"credentials_uri": fields["credentials_uri"]}, "credentials_uri")
    if "sts_endpoint" in fields:
        fields["sts_endpoint"] = _https_host(fields["sts_endpoint"])
    for field in ("role_session_name", "external_id"):
        if re.search(r"\s", fields.get(field, "")):
            raise ValueError(f"extra {field!r} has a blank, which RAM does not allow")
    if "role_session_name" in kind.takes:
        # Without one the library takes the environment's, or makes one up that tells nothing in an audit log.
        fields.setdefault("role_session_name", "airflow-provider-ims")
    if "role_session_expiration" in fields:
        seconds = _number(extra, "role_session_expiration", 3600)
        if not 900 <= seconds <= 43200:
            raise ValueError(f"extra 'role_session_expiration' is {seconds:g}, not 900 to 43200 seconds")
        fields["role_session_expiration"] = int(seconds)
    return fields


def _text(extra: Mapping[str, Any], field: str) -> str | None:
    value = extra.get(field)
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if value is None or isinstance(value, str):
        return (value or "").strip() or None
    raise ValueError(f"extra {field!r} is no text")


def _json_text(extra: Mapping[str, Any], field: str) -> str | None:
    """Return a JSON object, given as one or as text, spelled without a blank."""
    value = extra.get(field)
    if not isinstance(value, Mapping):
        text = _text(extra, field)
        if not text:
            return None
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = None
    if not isinstance(value, Mapping):
        raise ValueError(f"extra {field!r} is no JSON object")
    # The library signs a blank as "+", which STS takes for a wrong secret.
    return json.dumps(value, separators=(",", ":")).replace(" ", "\\u0020")


def _url(extra: Mapping[str, Any], field: str) -> str | None:
    """Return a URL. It may hold a password, so it is not repeated, and Airflow is told to mask the password."""
    text = _text(extra, field)
    if not text:
        return None
    try:
        parts = urlsplit(text)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url:
        raise ValueError(f"extra {field!r} is no http(s) URL")
    if parts.password:
        mask_secret(parts.password)
    return text


def _https_host(text: str) -> str:
    try:
        endpoint = parse_host(text)
    except ValueError:
        endpoint = None
    if not endpoint or endpoint.scheme != "https":
        raise ValueError(
            "extra 'sts_endpoint' is not a host such as sts.cn-shanghai.aliyuncs.com, asked by https"
        )
    return endpoint.host


def _number(extra: Mapping[str, Any], field: str, default: float, *, or_zero: bool = False) -> float:
    value = extra.get(field)
    if value is None or (isinstance(value, str) and not value.strip()):
        return default
    number = read_decimal(value)
    if number is None or number < 0 or (number == 0 and not or_zero):
        raise ValueError(f"extra {field!r} is {value!r}, not a {'' if or_zero else 'positive '}number")
    return number


def _verify(extra: Mapping[str, Any]) -> bool | str:
    value = extra.get("verify")
    text = "" if value is None else str(value).strip()
    spelled = {"": True, "true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    verify = spelled.get(text.lower())
    if verify is None:
        if not Path(text).exists():
            raise ValueError(f"extra 'verify' is {text!r}, not true, false or the path of a CA bundle")
        return text
    return verify
