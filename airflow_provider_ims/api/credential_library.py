"""``alibabacloud-credentials``, made fit for a run. The only module that imports it, which takes half a second.

Out of the box the library follows redirects with signed requests, sends through ``HTTP_PROXY`` what ``NO_PROXY``
excludes, starts a thread for each chain, reads answers of any length, and writes whole answers and signed URLs to its
log and into its errors.
"""

from __future__ import annotations

import json
import logging
import os
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from alibabacloud_credentials import provider as providers
from alibabacloud_credentials.client import Client
from alibabacloud_credentials.exceptions import CredentialException
from alibabacloud_credentials.models import Config
from alibabacloud_credentials.utils import auth_util as environment
from requests.utils import DEFAULT_CA_BUNDLE_PATH, should_bypass_proxies
from Tea.core import TeaCore  # type: ignore[import-untyped]

from airflow_provider_ims.api.errors import IMSTransientError, classify
from airflow_provider_ims.api.exception_chain import find_cause
from airflow_provider_ims.api.transport import BoundedAdapter, Exchange
from airflow_provider_ims.api.transport_errors import AnswerTooLong

METADATA_HOST = "100.100.100.200"

FIRST_USABLE = (1, 0, 3)
"""The release of the library that is the first whose log can be kept from handlers, and that needs no event loop."""

READ_SECONDS, WHOLE_SECONDS, MAX_ANSWER_BYTES = 10.0, 20.0, 2**20
"""What fetching takes at most: for each part of an answer, and for the whole of it."""

_LOGGERS = ("credentials", "alibabacloud-tea", "urllib3.connectionpool", "urllib3.util.retry")
_unheard: ContextVar[bool] = ContextVar("_unheard", default=False)
_is_ours: ContextVar[bool] = ContextVar("_is_ours", default=False)

log = logging.getLogger(__name__)

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
    """Return the library's client for a kind of credentials.

    :param fields: as its ``Config`` names them.
    :raises ValueError: the installed release can't be used. Airflow 2.11.0, 3.0 and 3.1.0 came with such.
    """
    installed = version("alibabacloud-credentials")
    if tuple(map(int, re.findall(r"\d+", installed)[:3])) < FIRST_USABLE:
        raise ValueError(
            f"alibabacloud-credentials {installed} writes secrets into the log and does not work in threads; install "
            f"{'.'.join(map(str, FIRST_USABLE))} or a newer one, or use a connection with AccessKey ID and Secret"
        )
    _prepare_sessions(kind, fields)
    if kind == "default":
        return Client(provider=DefaultChain())
    if kind == "ecs_ram_role":
        return Client(provider=_ecs_ram_role(fields.get("role_name")))
    return Client(Config(type=kind, **fields))


def get_credentials(client: Client, kind: str, *, is_new: bool) -> Any:
    """Return what the library's client has or fetches.

    :param is_new: it can't have any yet, so it must fetch them; and must do that by a session of ours.
    """
    token = _is_ours.set(False)
    try:
        with unheard():
            found = client.get_credential()
        is_ours = _is_ours.get()
    finally:
        _is_ours.reset(token)
    # Those of the default chain may come out of a file.
    if is_new and kind != "default" and not is_ours:
        log.error(
            "alibabacloud-credentials %s no longer sends its requests as this provider expects: redirects are "
            "followed, and answers of any length are read. Report it, and use an older version until then.",
            version("alibabacloud-credentials"),
        )
    return found


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
                tried.append(f"{place}: {describe(error)[0]}")
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
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_is_heard)  # adds it once
    token = _unheard.set(True)
    try:
        yield
    finally:
        _unheard.reset(token)


def _is_heard(_: logging.LogRecord) -> bool:
    return not _unheard.get()


class _Adapter(BoundedAdapter):
    """Trusts what the library does: the system's authorities and those of ``certifi``."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        context = ssl.create_default_context()
        context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
        super().init_poolmanager(*args, **options, ssl_context=context)


class _Session(requests.Session):
    """Sends the library's requests: within bounds, not on to where an answer points, and not against NO_PROXY."""

    def __init__(self) -> None:
        super().__init__()
        self.mount("http://", _Adapter())
        self.mount("https://", _Adapter())

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        _is_ours.set(True)
        if should_bypass_proxies(request.url or "", no_proxy=None):
            options["proxies"] = {}
        with Exchange(READ_SECONDS, WHOLE_SECONDS, max_bytes=MAX_ANSWER_BYTES):
            return super().send(request, **options | {"allow_redirects": False, "stream": False})


# The library offers no way to give it a session, and keeps its own in a private table.
_sessions: dict[str, requests.Session] | None = getattr(TeaCore, "_sessions", None)


def _forget_sessions() -> None:
    """A connection that a fork took along would be read by both processes."""
    if _sessions:
        _sessions.clear()


os.register_at_fork(after_in_child=_forget_sessions)


def _prepare_sessions(kind: str, fields: Mapping[str, Any]) -> None:
    if kind in ("ecs_ram_role", "default"):
        scheme, host = "http", f"{METADATA_HOST}:80"
    elif kind == "credentials_uri":
        address = urlsplit(fields["credentials_uri"])
        scheme, host = address.scheme, f"{address.hostname}:{address.port or 80}"
    else:
        scheme, host = "https", f"{fields.get('sts_endpoint') or 'sts.aliyuncs.com'}:80"
    if _sessions is not None:
        _sessions[f"{scheme}://{host}"] = _Session()


def describe(error: BaseException) -> tuple[str, bool]:
    """Return what kept the library from fetching, in other words than its own, and whether it may go better soon."""
    if isinstance(error, NoneFound):
        return str(error), False
    if find_cause(error, AnswerTooLong):
        return "the answer is longer than any that credentials come in", False
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
    """Return status and code out of a text that may hold a whole answer, secrets included."""
    status = re.search(r"(?i)http_?code[=: ]+(\d{3})", text)
    code = re.search(r'"(?:Code|code)"\s*:\s*"([A-Za-z.]{1,64})"', text)
    if not status and (not code or code[1] == "Success"):
        return ("the answer is incomplete" if "result:" in text else "nothing there"), False
    words = " ".join([code[1] if code else "refused", f"(HTTP {status[1]})" if status else ""]).strip()
    if code and (advice := _ADVICE.get(code[1])):
        words += f": {advice}"
    rule = classify(code[1] if code else "", int(status[1]) if status else 0)
    return words, issubclass(rule.error, IMSTransientError)
