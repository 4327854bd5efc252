"""What stands before every operation: the API gateway's checks of a request, in the service's order.

Action, version, key, signature, body hash, date, nonce, security token, permission. The codes are those of
https://help.aliyun.com/document_detail/48054.html, the rules for signatures those of
https://www.alibabacloud.com/help/en/sdk/product-overview/v3-request-structure-and-signature.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Container
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from airflow_provider_ims.api import signing
from airflow_provider_ims.emulator import times
from airflow_provider_ims.emulator.errors import Refusal
from airflow_provider_ims.emulator.keys import Key

VERSION = "2020-11-09"
CLOCK_TOLERANCE = 15 * 60
NONCE_MEMORY = 30 * 60

_AUTHORIZATION = re.compile(
    rf"{signing.ALGORITHM} +Credential=([^,\s]+), *SignedHeaders=([^,\s]+), *Signature=([0-9a-f]{{64}})"
)
_REDACTED = "***"


@dataclass(slots=True)
class Request:
    """One HTTP request, as it came off the wire."""

    method: str
    path: str
    headers: dict[str, str]
    params: dict[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        """Parameters that came in the body, as the SDK sends those that may be long."""
        if not self.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            return {}
        return dict(parse_qsl(self.body.decode(errors="replace"), keep_blank_values=True))


def parse_request(
    method: str, path: str, query: bytes, raw_headers: list[tuple[bytes, bytes]], body: bytes
) -> Request:
    """Decode a request; several values of one header are sorted and joined, as the signature wants them."""
    values: dict[str, list[str]] = {}
    for name, value in raw_headers:
        values.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1").strip())
    headers = {
        name: found[0] if len(found) == 1 else ",".join(sorted(found)) for name, found in values.items()
    }
    params = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    return Request(method, path, headers, params, body)


@dataclass(slots=True)
class Gateway:
    """Keys and spent nonces, and the checks made of them.

    :param operations: names of the operations that exist.
    """

    operations: Container[str]
    keys: dict[str, Key]
    _nonces: dict[tuple[str, str], float] = field(default_factory=dict)

    def check_operation(self, request: Request) -> str:
        """Give the operation that is asked for.

        :raises Refusal: if there is no such operation, version, method or path.
        """
        if request.method not in ("GET", "POST"):
            raise Refusal(400, "UnsupportedHTTPMethod", f"The HTTP method {request.method} is not supported.")
        action = request.headers.get("x-acs-action", "")
        if not action:
            raise Refusal(400, "MissingAction", "The header x-acs-action is mandatory for this request.")
        if action not in self.operations or request.path != "/":
            raise Refusal(404, "InvalidApi.NotFound", f"Specified api is not found: {action} {request.path}")
        version = request.headers.get("x-acs-version", "")
        if not version:
            raise Refusal(400, "MissingVersion", "The header x-acs-version is mandatory for this request.")
        if version != VERSION:
            raise Refusal(400, "NoSuchVersion", f"The specified version {version} does not exist.")
        return action

    def check_caller(self, request: Request, *, now: float) -> Key:
        """Give the key that signed the request, and spend its nonce.

        :param now: the gateway's clock, seconds since the epoch.
        :raises Refusal: if the key, the signature, the body, the date, the nonce or the token is not right.
        """
        key_id, signed_names, signature = _authorization(request)
        key = self.keys.get(key_id)
        if key is None:
            raise Refusal(404, "InvalidAccessKeyId.NotFound", "Specified access key is not found.")
        if not key.active:
            raise Refusal(400, "InvalidAccessKeyId.Inactive", "Specified access key is disabled.")
        _check_signature(request, key, signed_names, signature)
        _check_date(request, now)
        self._spend_nonce(request, key)
        _check_token(request, key, now)
        return key

    def check_permission(self, key: Key, action: str) -> None:
        """Ask RAM.

        :raises Refusal: if the key's policies do not allow the operation.
        """
        if not key.may(action):
            raise Refusal(
                403,
                "Forbidden.RAM",
                f"User not authorized to operate on the specified resource. Required permission: ice:{action}.",
                details={
                    "AccessDeniedDetail": {
                        "AuthAction": f"ice:{action}",
                        "AuthPrincipalType": "SubUser",
                        "AuthPrincipalOwnerId": "1000000000000000",
                        "AuthPrincipalDisplayName": key.key_id,
                        "NoPermissionType": "ImplicitDeny",
                        "PolicyType": "AccountLevelIdentityBasedPolicy",
                    }
                },
            )

    def _spend_nonce(self, request: Request, key: Key) -> None:
        nonce = (key.key_id, request.headers.get("x-acs-signature-nonce", ""))
        if not nonce[1]:
            raise Refusal(400, "MissingSignatureNonce", "The header x-acs-signature-nonce is mandatory.")
        now = time.monotonic()
        while self._nonces:
            oldest = next(iter(self._nonces))
            if now - self._nonces[oldest] <= NONCE_MEMORY:
                break
            del self._nonces[oldest]
        if nonce in self._nonces:
            raise Refusal(400, "SignatureNonceUsed", "Specified signature nonce was used already.")
        self._nonces[nonce] = now


def _authorization(request: Request) -> tuple[str, list[str], str]:
    value = request.headers.get("authorization")
    if value is None:
        hint = (
            " Signatures of version 2 (in the query) are not emulated."
            if "Signature" in request.params
            else ""
        )
        raise Refusal(400, "IncompleteSignature", f"The request carries no Authorization header.{hint}")
    match = _AUTHORIZATION.fullmatch(value)
    if match is None:
        raise Refusal(
            400,
            "IncompleteSignature",
            f"The Authorization header is not of the form {signing.ALGORITHM} "
            "Credential=...,SignedHeaders=...,Signature=...",
        )
    signed_names = match[2].lower().split(";")
    for name in request.headers:
        # The SDK's asynchronous client sends an unsigned content-type with its empty body.
        required = name == "host" or name.startswith("x-acs-") or (name == "content-type" and request.body)
        if required and name not in signed_names:
            raise Refusal(400, "IncompleteSignature", f"The header {name} must be signed, but is not.")
    for name in ("host", *signed_names):
        if name not in request.headers:
            raise Refusal(400, "IncompleteSignature", f"The signed header {name} is not in the request.")
    return match[1], signed_names, match[3]


def _check_signature(request: Request, key: Key, signed_names: list[str], signature: str) -> None:
    body_hash = hashlib.sha256(request.body).hexdigest()
    # The hash that was sent goes into the signature; whether it is the body's own is asked afterwards.
    sent_hash = request.headers.get("x-acs-content-sha256")
    if sent_hash is None:
        raise Refusal(400, "IncompleteSignature", "The header x-acs-content-sha256 is mandatory.")
    signed = {name: request.headers[name] for name in signed_names}
    query = signing.canonical_query(request.params)
    canonical = signing.canonical_request(request.method, request.path, query, signed, sent_hash)
    to_sign = signing.string_to_sign(canonical)
    if not hmac.compare_digest(signing.signature(key.secret, to_sign), signature):
        if "x-acs-security-token" in signed:
            signed["x-acs-security-token"] = _REDACTED
        shown = signing.canonical_request(request.method, request.path, query, signed, sent_hash)
        raise Refusal(
            400,
            "SignatureDoesNotMatch",
            "Specified signature does not match our calculation. "
            f"server string to sign is: {to_sign}, server canonicalized request is: {shown}",
        )
    if sent_hash != body_hash:
        raise Refusal(
            400,
            "SignatureDoesNotMatch",
            f"x-acs-content-sha256 is {sent_hash}, but the SHA-256 of the body is {body_hash}.",
        )


def _check_date(request: Request, now: float) -> None:
    text = request.headers.get("x-acs-date", "")
    try:
        sent = times.from_text(text)
    except ValueError as error:
        raise Refusal(400, "InvalidTimeStamp.Format", f"Specified time stamp: {error}.") from None
    if abs(now - sent) > CLOCK_TOLERANCE:
        raise Refusal(
            400,
            "InvalidTimeStamp.Expired",
            f"Specified time stamp {text} is more than 15 minutes off the server's {times.to_text(now)}.",
        )


def _check_token(request: Request, key: Key, now: float) -> None:
    token = request.headers.get("x-acs-security-token", "")
    if key.security_token is None:
        if token:
            raise Refusal(
                400,
                "InvalidSecurityToken.MismatchWithAccessKey",
                "Specified SecurityToken mismatches with the AccessKey.",
            )
        return
    if not token:
        raise Refusal(400, "MissingSecurityToken", "SecurityToken is mandatory for this action.")
    if not hmac.compare_digest(token.encode(), key.security_token.encode()):
        raise Refusal(400, "InvalidSecurityToken.Malformed", "Specified SecurityToken is malformed.")
    if key.expires is not None and now >= key.expires:
        raise expired_token()


def expired_token() -> Refusal:
    """The security token was right once."""
    return Refusal(400, "InvalidSecurityToken.Expired", "Specified SecurityToken is expired.")
