"""Requests to OSS with the official SDK, as an IMS connection says: its keys, time-outs, proxy, TLS and retry time.

The SDK signs (V4), sends and parses. Three things are done here instead of there: retries, because its own end
after three tries; the proxy, because it hands ``requests`` a form that is not looked at; and the CA bundle, for
which it has no option.
"""

from __future__ import annotations

import random
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import alibabacloud_oss_v2 as oss
import requests
import urllib3
from alibabacloud_oss_v2 import exceptions, retry, transport, types
from requests.adapters import HTTPAdapter

from airflow_provider_ims import __version__
from airflow_provider_ims.api.credentials import CredentialSource
from airflow_provider_ims.api.errors import IMSAPIError, IMSTransientError
from airflow_provider_ims.api.exception_chain import causes, find_cause
from airflow_provider_ims.api.transport_errors import to_api_error
from airflow_provider_ims.connection import ConnectionSettings

T = TypeVar("T")

_MAX_CONNECTIONS = 32
_MIN_TRIES = 3
_MAX_RENEWALS = 3  # what another thread fetched may have expired by now, too
_MAX_WORDS = 200

RIGHTS = {
    "put_object": "oss:PutObject",
    "initiate_multipart_upload": "oss:PutObject",
    "upload_part": "oss:PutObject",
    "complete_multipart_upload": "oss:PutObject",
    "abort_multipart_upload": "oss:AbortMultipartUpload",
    "get_object": "oss:GetObject",
    "head_object": "oss:GetObject",
    "copy_object": "oss:GetObject and oss:PutObject",
    "delete_object": "oss:DeleteObject",
    "delete_multiple_objects": "oss:DeleteObject",
    "list_objects_v2": "oss:ListObjects",
}
"""Which right an operation takes; https://www.alibabacloud.com/help/en/oss/user-guide/ram-policy-overview."""

# https://www.alibabacloud.com/help/en/oss/support/http-status-code-403
_EXPIRED = {"SecurityTokenExpired", "InvalidSecurityToken", "InvalidAccessKeyId"}
_KEY_TROUBLE = {
    "InvalidAccessKeyId": "the AccessKey ID is not known",
    "SignatureDoesNotMatch": "the AccessKey Secret is wrong, or oss_endpoint is of another region",
    "SecurityTokenExpired": "the security token has expired",
    "InvalidSecurityToken": "the security token is not valid",
    "RequestTimeTooSkewed": "this machine's clock is off by more than 15 minutes",
}
_TRANSIENT_CODES = {"RequestTimeout", "OperationAborted", "BadErrorResponse"}


class OSSClient:
    """Calls OSS operations; safe to share between threads.

    :param settings: of the IMS connection.
    :param named: what an error calls the connection, such as ``connection 'ims_default'``.
    :raises ValueError: if the connection tells neither a region nor an endpoint of OSS, or not which region signs.
    """

    def __init__(self, settings: ConnectionSettings, named: str) -> None:
        if settings.oss_endpoint is None or not settings.region:
            raise ValueError(f"{named}: extra 'region' is not set, which oss:// paths need")
        self.host = settings.oss_endpoint.host
        self._named = named
        self._credentials = settings.credentials
        self._retry_seconds = settings.retry_seconds
        self._timeout = (settings.connect_timeout, settings.read_timeout)
        self._client = oss.Client(
            oss.Config(
                region=settings.region,
                endpoint=settings.oss_endpoint.url,
                credentials_provider=_Provider(settings.credentials),
                retryer=retry.NopRetryer(),
                retry_max_attempts=1,
                user_agent=f"airflow-provider-ims/{__version__}",
                http_client=transport.RequestsHttpClient(
                    session=_Session(settings.oss_endpoint.url, settings.verify, settings.proxy),
                    connect_timeout=settings.connect_timeout,
                    readwrite_timeout=settings.read_timeout,
                ),
            )
        )

    def call(self, operation: str, request: Any, read: Callable[[Any], T] = lambda result: result) -> T:
        """Call an operation, again while that can help: throttling, 5xx, no answer.

        :param operation: the SDK's name of it.
        :param request: the SDK's request.
        :param read: takes what is wanted from the result; a body that breaks off is asked for again.
        :raises FileNotFoundError: if the object or the bucket is not there.
        :raises FileExistsError: if it is there, and must not be.
        :raises PermissionError: if OSS refuses; it names the right that is missing.
        :raises OSError: if nothing went through in the connection's retry time, or OSS can't do it.
        """
        give_up = time.monotonic() + self._retry_seconds
        tries = 0
        renewals = 0
        while True:
            tries += 1
            try:
                return read(getattr(self._client, operation)(request))
            except (exceptions.BaseError, requests.RequestException) as raised:
                error = _innermost(raised)
            code = getattr(error, "code", None)
            if code in _EXPIRED and renewals < _MAX_RENEWALS and self._credentials.renew():
                renewals += 1
                continue
            if not _is_retryable(error) or (time.monotonic() >= give_up and tries >= _MIN_TRIES):
                break
            time.sleep(random.uniform(0, min(20, 0.25 * 2 ** min(tries, 10))))
        # Out here, so that what was sent and read does not hang on the error.
        raise self._explain(operation, request, error, tries)

    def _explain(self, operation: str, request: Any, error: Exception, tries: int) -> OSError:
        bucket, key = request.bucket, getattr(request, "key", None)
        if not isinstance(error, exceptions.ServiceError):
            return self._explain_no_answer(operation, error, tries)
        code, status = str(error.code), error.status_code
        if code == "NoSuchBucket":
            return FileNotFoundError(
                f"the bucket {bucket} does not exist at {self.host}, and none is made; make it, or mend the path"
            )
        if status == 404:
            return FileNotFoundError(f"oss://{bucket}/{key or ''} does not exist ({code})")
        if code == "FileAlreadyExists":
            return FileExistsError(f"oss://{bucket}/{key} exists")
        said = " ".join(str(error.message or "").split())[:_MAX_WORDS]
        tail = f" ({code}, HTTP {status}, request id {error.request_id or 'unknown'})"
        if code in _KEY_TROUBLE:
            return PermissionError(f"OSS refuses {self._named}: {_KEY_TROUBLE[code]}{tail}")
        if "signing region" in said.lower():
            return PermissionError(
                f"OSS refuses {self._named}: its region does not fit to {self.host}; correct region or "
                f"oss_endpoint{tail}"
            )
        elsewhere = (error.error_fileds or {}).get("Endpoint")
        if elsewhere and status in (301, 307, 403):
            return PermissionError(
                f"the bucket {bucket} is not at {self.host}: set extra 'oss_endpoint' or the region of "
                f"{self._named} to that of {str(elsewhere)[:_MAX_WORDS]}{tail}"
            )
        if code == "AccessDenied":
            return PermissionError(
                f"OSS refuses it to {self._named}: its key needs {RIGHTS[operation]} on {bucket}"
                f"{'/*' if operation != 'list_objects_v2' else ''}; {said or 'access is denied'}{tail}"
            )
        if status in (401, 403):
            return PermissionError(f"OSS refuses it to {self._named}: {said or 'no reason is given'}{tail}")
        if _is_retryable(error):
            return OSError(f"OSS did not take it in {tries} tries: {said or 'no reason is given'}{tail}")
        return OSError(f"OSS can't do it: {said or 'no reason is given'}{tail}")

    def _explain_no_answer(self, operation: str, error: Exception, tries: int) -> OSError:
        if isinstance(error, IMSAPIError):  # of the credentials, with a sentence of its own
            kind = OSError if isinstance(error, IMSTransientError) else PermissionError
            return kind(f"{self._named} gives no keys for OSS: {error}")
        if isinstance(error, exceptions.InconsistentError):
            return OSError(
                f"what arrived at {self.host} is not what was sent, in {tries} tries; is a proxy between?"
            )
        if isinstance(error, exceptions.BaseError):
            return OSError(f"the OSS library refuses it: {' '.join(str(error).split())[:_MAX_WORDS]}")
        inner = next(
            (
                cause
                for cause in causes(error)
                if isinstance(cause, urllib3.exceptions.HTTPError)
                and not isinstance(cause, urllib3.exceptions.MaxRetryError)
            ),
            error,
        )
        connecting = (
            urllib3.exceptions.NewConnectionError,
            urllib3.exceptions.ConnectTimeoutError,
            urllib3.exceptions.ProxyError,
        )
        connect_timeout, answer_timeout = self._timeout
        message = to_api_error(
            inner,
            action=operation,
            host=self.host,
            is_sent=not isinstance(inner, connecting),
            connect_timeout=connect_timeout,
            answer_timeout=answer_timeout,
        ).message
        return OSError(f"{message}; see region, network, proxy and oss_endpoint of {self._named}")


class _Provider(types.CredentialsProvider):  # type: ignore[misc]
    """The connection's keys for the SDK, which asks for each request: key, secret and token together."""

    def __init__(self, source: CredentialSource) -> None:
        self._source = source

    def get_credentials(self) -> Any:
        """Return one consistent set."""
        return types.Credentials(*self._source.current())


class _Session(requests.Session):
    """One pool of connections; proxy and CA bundle as given, or of the environment. ``~/.netrc`` is not read."""

    def __init__(self, url: str, verify: bool | str, proxy: str | None) -> None:
        super().__init__()
        given = {"http": proxy, "https": proxy} if proxy else {}
        self._transport = self.merge_environment_settings(url, given, None, verify, None)
        self.trust_env = False
        self._lock = threading.Lock()
        adapter = HTTPAdapter(pool_connections=_MAX_CONNECTIONS, pool_maxsize=_MAX_CONNECTIONS)
        self.mount("https://", adapter)
        self.mount("http://", adapter)

    def request(self, method: str, url: str, **options: Any) -> requests.Response:  # type: ignore[override]
        """Send, whatever the SDK makes of proxy and TLS."""
        options |= {"proxies": self._transport["proxies"], "verify": self._transport["verify"]}
        return super().request(method, url, **options)


def _innermost(error: Exception) -> Exception:
    """Take the SDK's wrapping off."""
    while isinstance(error, exceptions.BaseError) and isinstance(
        inner := error.kwargs.get("error"), Exception
    ):
        error = inner
    return error


def _is_retryable(error: Exception) -> bool:
    if isinstance(error, exceptions.ServiceError):
        return bool(
            error.status_code >= 500 or error.status_code in (408, 429) or error.code in _TRANSIENT_CODES
        ) and not (error.code == "BadErrorResponse" and error.status_code < 500)
    if isinstance(error, IMSAPIError):
        return isinstance(error, IMSTransientError)
    if find_cause(error, ssl.SSLCertVerificationError) or find_cause(error, requests.exceptions.InvalidURL):
        return False
    return isinstance(
        error, exceptions.InconsistentError | requests.RequestException | urllib3.exceptions.HTTPError
    )
