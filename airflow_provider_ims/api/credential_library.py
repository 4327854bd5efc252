"""``alibabacloud-credentials``, made fit for a run. The only module that imports it, which takes half a second.

Out of the box the library follows redirects with signed requests, sends through ``HTTP_PROXY`` what ``NO_PROXY``
excludes, starts a thread for each chain, and writes whole answers and signed URLs to its log and into its errors.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from alibabacloud_credentials import provider as providers
from alibabacloud_credentials.client import Client
from alibabacloud_credentials.exceptions import CredentialException
from alibabacloud_credentials.models import Config
from alibabacloud_credentials.utils import auth_util as environment
from requests.utils import should_bypass_proxies
from Tea.core import TeaCore  # type: ignore[import-untyped]

from airflow_provider_ims.api.errors import IMSTransientError, classify
from airflow_provider_ims.api.exception_chain import find_cause

METADATA_HOST = "100.100.100.200"

_unheard: ContextVar[bool] = ContextVar("_unheard", default=False)

_ADVICE = {
    "NoPermission": "the key needs the RAM action sts:AssumeRole, and the role's trust policy must let it in",
    "AuthenticationFail.NoPermission": "the role's trust policy must name this identity provider",
    "EntityNotExist.Role": "check role_arn",
    "InvalidTimeStamp.Expired": "this machine's clock is off",
    "InvalidAccessKeyId.NotFound": "check login (AccessKey ID)",
    "SignatureDoesNotMatch": "check password (AccessKey Secret)",
}

_PLACES = {
    "env": "environment variables",
    "oidc_role_arn": "OIDC",
    "cli_profile": "~/.aliyun/config.json",
    "profile": "credentials.ini",
    "ecs_ram_role": "ECS metadata",
    "credential_uri": "credentials URI",
}


def make_client(kind: str, fields: Mapping[str, Any]) -> Client:
    """Make the library's client for a kind of credentials.

    :param fields: as its ``Config`` names them.
    """
    _prepare_sessions(kind, fields)
    if kind == "default":
        return Client(provider=DefaultChain())
    if kind == "ecs_ram_role":
        return Client(provider=_ecs_ram_role(fields.get("role_name")))
    return Client(Config(type=kind, **fields))


class NoneFound(Exception):
    """No place of the default chain has credentials; the text says where it was looked."""


class DefaultChain:
    """The library's default chain, its members and their order, without the thread it starts for ECS metadata.

    Source: https://www.alibabacloud.com/help/en/sdk/developer-reference/v2-manage-python-access-credentials
    """

    def __init__(self) -> None:
        self.members = [
            providers.EnvironmentVariableCredentialsProvider(),
            *([providers.OIDCRoleArnCredentialsProvider()] if environment.enable_oidc_credential else []),
            providers.CLIProfileCredentialsProvider(),
            providers.ProfileCredentialsProvider(),
            *([] if environment.environment_ecs_metadata_disabled.lower() == "true" else [_ecs_ram_role()]),
            *([providers.URLCredentialsProvider()] if environment.environment_credentials_uri else []),
        ]
        self._found: Any = None

    def get_provider_name(self) -> str:
        """Name this to the library."""
        return "default"

    def get_credentials(self) -> Any:
        """Ask the member that had some last time, else one after the other.

        :raises NoneFound: saying what each of them lacks.
        """
        if self._found:
            return self._found.get_credentials()
        tried = []
        for member in self.members:
            try:
                credentials = member.get_credentials()
            except Exception as error:  # noqa: BLE001 - the library raises whatever happens to it
                place = _PLACES.get(member.get_provider_name(), member.get_provider_name())
                tried.append(f"{place}: {in_words(error)[0]}")
            else:
                self._found = member
                return credentials
        # Outside the except clauses: the errors hold requests and answers.
        raise NoneFound(f"none were found in the default places ({', '.join(tried)})")


def _ecs_ram_role(role_name: str | None = None) -> Any:
    # None would take the name from the environment; the metadata service knows it better.
    return providers.EcsRamRoleCredentialsProvider(role_name=role_name or "", async_update_enabled=False)


@contextmanager
def unheard() -> Iterator[None]:
    """Keep what the library and its HTTP client log in here from every handler."""
    token = _unheard.set(True)
    try:
        yield
    finally:
        _unheard.reset(token)


def _is_heard(_: logging.LogRecord) -> bool:
    return not _unheard.get()


for _name in ("credentials", "alibabacloud-tea", "urllib3.connectionpool", "urllib3.util.retry"):
    logging.getLogger(_name).addFilter(_is_heard)


class _Session(requests.Session):
    """Sends the library's requests: not on to where an answer points, and not through a proxy against NO_PROXY."""

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        if should_bypass_proxies(request.url or "", no_proxy=None):
            options["proxies"] = {}
        return super().send(request, **options | {"allow_redirects": False})


# The library keeps its sessions in a private table. Should it ever have another one, its own behaviour is back.
_sessions: dict[str, requests.Session] = getattr(TeaCore, "_sessions", {})
# A connection that a fork took along would be read by both processes.
os.register_at_fork(after_in_child=_sessions.clear)


def _prepare_sessions(kind: str, fields: Mapping[str, Any]) -> None:
    if kind in ("ecs_ram_role", "default"):
        scheme, host = "http", f"{METADATA_HOST}:80"
    elif kind == "credentials_uri":
        address = urlsplit(fields["credentials_uri"])
        scheme, host = address.scheme, f"{address.hostname}:{address.port or 80}"
    else:
        scheme, host = "https", f"{fields.get('sts_endpoint') or 'sts.aliyuncs.com'}:80"
    session = _Session()
    session.mount(f"{scheme}://", TeaCore.get_adapter(scheme))
    _sessions[f"{scheme}://{host}"] = session


def in_words(error: BaseException) -> tuple[str, bool]:
    """Say what kept the library from fetching, without its own words, and whether it may go better soon."""
    if isinstance(error, NoneFound):
        return str(error), False
    if network := find_cause(error, requests.RequestException):
        return _network_trouble(network)
    if isinstance(error, CredentialException):
        return _refusal(str(error))
    if isinstance(error, OSError):
        return f"{error.filename} can't be read: {error.strerror}", False
    if isinstance(error, json.JSONDecodeError):
        return "the answer is no JSON", True
    if type(error) is ValueError:  # of the library's own checks, which quote no values
        return str(error), False
    return "the answer is not of the form that credentials come in", False


def _network_trouble(error: requests.RequestException) -> tuple[str, bool]:
    url = error.request.url if error.request else None
    host = (urlsplit(url).hostname if url else None) or "its host"
    if isinstance(error, requests.exceptions.SSLError):
        return f"the TLS certificate of {host} is not trusted", False
    if isinstance(error, requests.exceptions.ProxyError):
        return f"the proxy on the way to {host} could not be used", True
    if isinstance(error, requests.exceptions.Timeout):
        return f"{host} did not answer in time", True
    if isinstance(error, requests.exceptions.ConnectionError):
        unknown = find_cause(error, urllib3.exceptions.NameResolutionError)
        return f"{host} {'is not known' if unknown else 'could not be reached'}", True
    return f"no request could be made to {host} ({type(error).__name__})", False


def _refusal(text: str) -> tuple[str, bool]:
    """Take status and code out of a text that may hold a whole answer, secrets included."""
    status = re.search(r"(?i)http_?code[=: ]+(\d{3})", text)
    code = re.search(r'"(?:Code|code)"\s*:\s*"([A-Za-z.]{1,64})"', text)
    if not status and (not code or code[1] == "Success"):
        return ("the answer is incomplete" if "result:" in text else "nothing there"), False
    words = " ".join([code[1] if code else "refused", f"(HTTP {status[1]})" if status else ""]).strip()
    if code and (advice := _ADVICE.get(code[1])):
        words += f": {advice}"
    rule = classify(code[1] if code else "", int(status[1]) if status else 0)
    return words, issubclass(rule.error, IMSTransientError)
