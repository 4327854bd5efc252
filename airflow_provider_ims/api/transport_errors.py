"""Why no answer came: what the HTTP library and the operating system say, as one of our errors."""

from __future__ import annotations

import ssl

import requests
import urllib3

from airflow_provider_ims.api.errors import IMSAPIError, IMSTransientError
from airflow_provider_ims.api.exception_chain import find_cause, last_words


def no_answer(action: str, error: Exception, *, host: str, timeout: tuple[float, float]) -> IMSAPIError:
    """Say in words why no answer came, and whether the service may have had the request."""
    if find_cause(error, ssl.SSLCertVerificationError):
        return IMSAPIError(
            f"the TLS certificate of {host} is not trusted", code="UntrustedCertificate", action=action
        )
    if isinstance(error, requests.RequestException | urllib3.exceptions.LocationValueError):
        return IMSAPIError(
            f"{host}, or the proxy on the way to it, is no address that can be used",
            code="UnusableAddress",
            action=action,
        )
    if isinstance(error, urllib3.exceptions.SSLError):
        # It may have broken before the request or after it; nothing tells which.
        return IMSTransientError(
            f"the TLS connection to {host} failed", code="NoConnection", action=action, answer_lost=True
        )
    if isinstance(error, urllib3.exceptions.ProxyError):
        return IMSTransientError(
            f"the proxy on the way to {host} could not be used", code="NoConnection", action=action
        )
    if isinstance(error, urllib3.exceptions.NameResolutionError):
        return IMSTransientError(f"the host {host} is not known", code="NoConnection", action=action)
    if isinstance(error, urllib3.exceptions.NewConnectionError):
        return IMSTransientError(
            f"{host} could not be reached: {last_words(error)}", code="NoConnection", action=action
        )
    if isinstance(error, urllib3.exceptions.ConnectTimeoutError):
        return IMSTransientError(
            f"{host} accepted no connection within {timeout[0]:g} s",
            code="NoConnection",
            action=action,
        )
    if find_cause(error, urllib3.exceptions.ReadTimeoutError):
        words = f"no whole answer from {host} within {timeout[1]:g} s"
    elif find_cause(error, urllib3.exceptions.IncompleteRead):
        words = f"the answer from {host} was cut short"
    else:
        words = f"the connection to {host} broke before the whole answer came: {last_words(error)}"
    return IMSTransientError(words, code="NoAnswer", action=action, answer_lost=True)
