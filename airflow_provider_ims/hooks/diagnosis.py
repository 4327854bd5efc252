"""What the form's Test button says: one cheap read, and in a sentence what it shows and what to do about it."""

from __future__ import annotations

import queue
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow_provider_ims.api.credentials import NO_CREDENTIALS
from airflow_provider_ims.api.endpoints import region_host
from airflow_provider_ims.api.errors import IMSAPIError

if TYPE_CHECKING:
    from airflow_provider_ims.connection import ConnectionSettings

# The form waits this long at most, whatever hangs: name resolution and an answer that trickles have no limit.
PATIENCE_SECONDS = 14.0
_CONNECT_SECONDS = 4.0
_READ_SECONDS = 6.0

# By the longest prefix of the error's code.
_SENTENCES = {
    "InvalidAccessKeyId": (
        "Alibaba Cloud does not know this AccessKey ID: check login (AccessKey ID) for a slip, and in the "
        "RAM console that the key still exists"
    ),
    "InvalidAccessKeyId.Inactive": (
        "The AccessKey is disabled: enable it in the RAM console, or use another one"
    ),
    "SignatureDoesNotMatch": (
        "The AccessKey ID is right, but the AccessKey Secret is not: enter password (AccessKey Secret) anew"
    ),
    "IncompleteSignature": (
        "The signature did not arrive as it was sent: something on the way, perhaps a proxy, changes the "
        "headers of requests to {host}"
    ),
    "InvalidSecurityToken": (
        "The security token does not belong to this AccessKey ID: enter ID, secret and token as one "
        "AssumeRole answer gave them"
    ),
    "InvalidSecurityToken.Expired": (
        "The security token has expired: enter a fresh AccessKey ID, secret and token, or choose a "
        "credential type that renews them by itself, such as ram_role_arn"
    ),
    "MissingSecurityToken": "This AccessKey is a temporary one: enter the security token that came with it",
    "InvalidTimeStamp": "The clock of this machine is {off}: set it right, for example by NTP",
    "Forbidden": (
        "The key is right, but lacks the permission to list media: allow its user or role the RAM action "
        "{action}, which this test and plans need (a run that only deletes does without)"
    ),
    "Forbidden.RiskControl": (
        "Alibaba Cloud has restricted this account: its owner has to settle that in the console"
    ),
    "Forbidden.UserVerification": (
        "Alibaba Cloud wants this account verified: its owner has to do that in the console"
    ),
    "OperationDenied": (
        "IMS is not activated for this account in {place}: activate it at "
        "https://ims.console.aliyun.com/summary, or choose the region where it is"
    ),
    "OperationDenied.Suspended": (
        "IMS is suspended for this account because of an overdue payment: settle the bill"
    ),
    "Throttling": "IMS takes no more requests from this account just now: test again in a minute",
    "InternalError": "IMS answers with an error of its own: test again in a few minutes",
    "OtherProduct": "The host {host} belongs to Alibaba Cloud, but not to IMS: leave Endpoint empty and set Region",
    "BadAnswer": (
        "The host {host} answers, but not as IMS does: check {where}, and whether something on the way answers in "
        "its place"
    ),
    "UntrustedCertificate": (
        "The TLS certificate of {host} is not trusted: set 'verify' to the path of the CA bundle that "
        "vouches for it, unless somebody else answers in its place"
    ),
    "NoTLS": "No request could be sent: {message}",
    "ProxyRefused": "No request could be sent: {message}",
    "NoConnection": (
        "There is no connection, for {message}: check {where}, and that this machine may go there"
    ),
    "NoAnswer": "There is no answer, for {message}: check {where}, and that it is an IMS endpoint",
    "Fetched": (
        "The credentials of type {kind} were fetched, but IMS refuses them: check where they come from"
    ),
    NO_CREDENTIALS: "There are {message}",
    "Nowhere": "There are {message}; enter AccessKey ID and Secret, or choose a credential type",
}

_SAME_AS = {
    "NoPermission": "Forbidden",
    "RequestsTooFrequent": "Throttling",
    "ServiceBusy": "Throttling",
    "ServiceUnavailable": "InternalError",
    "HTTP": "BadAnswer",
    "UnusableAddress": "NoConnection",
    **dict.fromkeys(("InvalidApi", "InvalidAction", "InvalidProduct", "NoSuchVersion"), "OtherProduct"),
}


def diagnose(settings: ConnectionSettings) -> tuple[bool, str]:
    """Ask for one medium and say how that went.

    :returns: whether it went well, and the sentence that the form shows. It holds no secret.
    """
    answers: queue.SimpleQueue[tuple[bool, str]] = queue.SimpleQueue()
    attempt = _Attempt(settings)
    threading.Thread(target=lambda: answers.put(attempt.make()), name="ims-test", daemon=True).start()
    try:
        well, words = answers.get(timeout=PATIENCE_SECONDS)
    except queue.Empty:
        well, words = False, f"No answer within {PATIENCE_SECONDS:g} s while {attempt.doing}."
    notes = (f"Note: {warning}{'' if warning.endswith('?') else '.'}" for warning in settings.warnings)
    return well, " ".join([words, *notes])


class _Attempt:
    """One read, from the credentials to the answer. ``doing`` tells where it is."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self.settings = settings
        self.host = settings.endpoint.host
        self.doing = "starting"

    def make(self) -> tuple[bool, str]:
        """Make it; whatever goes wrong ends up in the words."""
        try:
            return True, self._read()
        except IMSAPIError as error:
            return False, f"{self._explain(error)}{_reference(error)}."
        except Exception as error:  # noqa: BLE001 - the form shows whatever it is, but not the text: it may quote
            return False, f"The test broke off while {self.doing}: {type(error).__name__}."

    def _read(self) -> str:
        from airflow_provider_ims.api import operations
        from airflow_provider_ims.api.client import IMSClient

        settings = self.settings
        self.doing = f"fetching credentials of type {settings.credential_type}"
        settings.credentials.current()
        self.doing = f"asking {self.host}"
        client = IMSClient(
            settings.endpoint,
            settings.credentials,
            connect_timeout=min(settings.connect_timeout, _CONNECT_SECONDS),
            read_timeout=min(settings.read_timeout, _READ_SECONDS),
            retry_seconds=0,
            min_tries=1,
            verify=settings.verify,
            proxy=settings.proxy,
        )
        try:
            page = operations.list_media_basic_infos(client, max_results=1).value
        finally:
            client.close()
        count = f"{page.total:,} media are visible" if page.total is not None else "its media can be listed"
        place = f"IMS in {settings.region} ({self.host})" if settings.region else f"IMS at {self.host}"
        words = f"Connected to {place}: {count} to this key."
        if client.clock_offset:
            minutes = client.clock_offset.total_seconds() / 60
            words += (
                f" The clock of this machine is {_off(minutes)}; requests make up for it, but set it right."
            )
        return words

    def _explain(self, error: IMSAPIError) -> str:
        settings = self.settings
        known = [*_SENTENCES, *_SAME_AS]
        rule = max(
            (code for code in known if error.code.lower().startswith(code.lower())), key=len, default=""
        )
        rule = _SAME_AS.get(rule, rule)
        is_typed_in = settings.credential_type in ("access_key", "sts")
        if rule.startswith(("InvalidAccessKeyId", "Signature", "InvalidSecurityToken")) and not is_typed_in:
            rule = "Fetched"
        if rule == NO_CREDENTIALS and settings.credential_type == "default":
            rule = "Nowhere"
        minutes = (error.service_date - datetime.now(UTC)).total_seconds() / 60 if error.service_date else 0
        return _SENTENCES.get(rule, "IMS refuses the request: {message}").format(
            host=self.host,
            where=self._where(),
            place=settings.region or self.host,
            kind=settings.credential_type,
            action=f"ice:{error.action}",
            off=_off(minutes),
            message=error.message,
        )

    def _where(self) -> str:
        settings = self.settings
        if settings.region and self.host == region_host(settings.region, "vpc"):
            where = "Region and Network (a vpc host is reached only from a VPC in that region)"
        elif settings.region and self.host == region_host(settings.region):
            where = "Region"
        else:
            where = "Endpoint"
            if settings.endpoint.scheme == "https":
                where += " (with http:// in front if it has no TLS)"
        return f"{where} and Proxy" if settings.proxy else where


def _off(minutes: float) -> str:
    if abs(minutes) < 1:
        return "off"
    off = f"{abs(minutes):.0f} minutes" if abs(minutes) < 2880 else f"{abs(minutes) / 1440:.0f} days"
    return f"{off} {'behind' if minutes > 0 else 'ahead'}"


def _reference(error: IMSAPIError) -> str:
    """What the service's support asks for; nothing when the service never answered."""
    if not error.http_status:
        return ""
    return f" ({error.code}{f', request id {error.request_id}' if error.request_id else ''})"
