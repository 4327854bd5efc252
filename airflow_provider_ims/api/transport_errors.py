"""Why no answer came: what the HTTP library, TLS and the operating system say, as one of our errors.

A table for each stage of an exchange; the first case whose type is found in an error or its causes counts. What the
peer said stands in none of the messages.
"""

from __future__ import annotations

import http.client
import os
import ssl
from typing import NamedTuple

import requests
import urllib3

from airflow_provider_ims.api.errors import IMSAPIError, IMSTransientError
from airflow_provider_ims.api.exception_chain import causes, find_cause


class AnswerTooLong(http.client.HTTPException):
    """More was sent than any answer of IMS is long."""


class TLSRefused(OSError):
    """What is at that port speaks no TLS, or none that this machine speaks."""


class ProxyRefused(OSError):
    """A proxy let no connection through; the status that it said so with is the argument."""


class _Case(NamedTuple):
    """What may have been raised, and what the caller is told of it."""

    raised: tuple[type[BaseException], ...]
    code: str
    message: str


_errors = urllib3.exceptions

# Before a request was sent, and no later try changes it.
_HOPELESS = (
    _Case(
        (ssl.SSLCertVerificationError,),
        "UntrustedCertificate",
        "the TLS certificate of {host} is not trusted",
    ),
    _Case(
        (TLSRefused,),
        "NoTLS",
        "{host} speaks no TLS at that port; name the right one, or put http:// in front of the host",
    ),
    _Case(
        (requests.RequestException, _errors.LocationValueError, http.client.InvalidURL),
        "UnusableAddress",
        "{host}, or the proxy on the way to it, is no address that can be used",
    ),
)
# Before a request was sent.
_CONNECTING = (
    _Case((ProxyRefused,), "NoConnection", "the proxy let no connection to {host} through (HTTP {status})"),
    _Case(
        (_errors.ProxyError,), "NoConnection", "the proxy on the way to {host} could not be used: {reason}"
    ),
    _Case((_errors.NameResolutionError,), "NoConnection", "the host {host} is not known"),
    _Case((_errors.NewConnectionError,), "NoConnection", "{host} could not be reached: {reason}"),
    _Case(
        (_errors.ConnectTimeoutError, TimeoutError, _errors.ReadTimeoutError),
        "NoConnection",
        "{host} accepted no connection within {connect_timeout:g} s",
    ),
    _Case((ssl.SSLError, _errors.SSLError), "NoConnection", "the TLS connection to {host} failed"),
    _Case((Exception,), "NoConnection", "{host} could not be reached: {reason}"),
)
_BROKE = "the connection to {host} broke before the whole answer came: "
# The service may have had it.
_SENT = (
    _Case((AnswerTooLong,), "BadAnswer", "the answer from {host} is longer than any of IMS"),
    _Case(
        (_errors.ReadTimeoutError, TimeoutError),
        "NoAnswer",
        "no whole answer from {host} within {answer_timeout:.3g} s",
    ),
    _Case(
        (_errors.IncompleteRead, http.client.IncompleteRead),
        "NoAnswer",
        "the answer from {host} was cut short",
    ),
    _Case((http.client.RemoteDisconnected,), "NoAnswer", _BROKE + "it was closed"),
    _Case((_errors.DecodeError,), "NoAnswer", _BROKE + "what came can't be decoded"),
    _Case((http.client.HTTPException, ValueError), "NoAnswer", _BROKE + "what came is no HTTP"),
    _Case((ssl.SSLError, _errors.SSLError), "NoAnswer", "the TLS connection to {host} broke"),
    _Case((Exception,), "NoAnswer", _BROKE + "{reason}"),
)


def to_api_error(
    error: Exception, *, action: str, host: str, is_sent: bool, connect_timeout: float, answer_timeout: float
) -> IMSAPIError:
    """Return what the caller is told.

    It is not raised from here, and not from ``error``: that one holds the request with its signature.

    :param is_sent: the request may have been read at the other end.
    """
    for case in (*_HOPELESS, *(_SENT if is_sent else _CONNECTING)):
        if not find_cause(error, case.raised):
            continue
        refused = find_cause(error, ProxyRefused)
        status = refused.args[0] if refused else None
        message = case.message.format(
            host=host,
            reason=_reason(error),
            status=status,
            connect_timeout=connect_timeout,
            answer_timeout=answer_timeout,
        )
        if case in _HOPELESS:
            return IMSAPIError(message, code=case.code, action=action)
        if status and 400 <= status < 500 and status not in (408, 429):
            return IMSAPIError(
                f"{message}; check its user and password, and what it allows",
                code="ProxyRefused",
                action=action,
            )
        return IMSTransientError(message, code=case.code, action=action, answer_lost=is_sent)
    raise AssertionError("the last case fits every error")


def _reason(error: Exception) -> str:
    """Return the operating system's words."""
    numbers = (one.errno for one in causes(error) if isinstance(one, OSError))
    number = next((one for one in numbers if one and one > 0), None)
    return os.strerror(number) if number else "no reason is given"
