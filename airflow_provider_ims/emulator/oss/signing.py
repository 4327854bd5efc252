"""Signatures of OSS, V4 and V1 in headers, as the official SDKs make them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from calendar import timegm
from collections.abc import Mapping
from urllib.parse import quote

from airflow_provider_ims.emulator.keys import Key
from airflow_provider_ims.emulator.oss.request import Refusal, Request

_SKEW = 15 * 60
"""Seconds that a request's date may be off."""

SUBRESOURCES_V1 = {
    *("acl", "bucketInfo", "location", "stat", "delete", "append", "tagging", "objectMeta", "uploads"),
    *(
        "uploadId",
        "partNumber",
        "security-token",
        "position",
        "restore",
        "callback",
        "callback-var",
        "versions",
    ),
    *("versioning", "versionId", "sequential", "continuation-token", "symlink", "resourceGroup"),
    *("response-content-type", "response-content-language", "response-expires", "response-cache-control"),
    *("response-content-disposition", "response-content-encoding"),
}
"""Parameters of a query that belong to what V1 signs, and ask for other than a file's content."""


def check(request: Request, keys: Mapping[str, Key], region: str) -> Key:
    """Return the key that signed a request.

    :param keys: by their ids.
    :param region: what a V4 signature must name.
    :raises Refusal: if the signature is none or wrong, or the key's token is.
    """
    authorization = request.headers.get("Authorization", "")
    v4 = re.fullmatch(
        r"OSS4-HMAC-SHA256 Credential=([^,/]+)/([^,]+?)(?:, ?AdditionalHeaders=([^,]*))?, ?Signature=(\w+)",
        authorization,
    )
    v1 = re.fullmatch(r"OSS ([^:]+):(\S+)", authorization)
    if not v4 and not v1:
        raise Refusal(403, "AccessDenied", "Anonymous access is forbidden for this operation.")
    key_id = (v4 or v1)[1]  # type: ignore[index]
    key = keys.get(key_id)
    if key is None or not key.active:
        raise Refusal(
            403, "InvalidAccessKeyId", "The OSS Access Key Id you provided does not exist in our records."
        )
    if v4:
        _check_date(request.headers.get("x-oss-date", ""), "%Y%m%dT%H%M%SZ")
        expected, given = _sign_v4(request, key.secret, v4[2], v4[3] or "", region), v4[4]
    else:
        _check_date(request.headers.get("Date", ""), "%a, %d %b %Y %H:%M:%S GMT")
        expected, given = _sign_v1(request, key.secret), v1[2]  # type: ignore[index]
    if not hmac.compare_digest(expected, given):
        raise Refusal(
            403,
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. Check your key and "
            "signing method.",
        )
    token = request.headers.get("x-oss-security-token") or request.headers.get("security-token")
    if token != key.security_token:
        raise Refusal(403, "InvalidSecurityToken", "The security token you provided is invalid.")
    if key.expires is not None and key.expires <= time.time():
        raise Refusal(403, "SecurityTokenExpired", "The security token you provided has expired.")
    return key


def _check_date(text: str, form: str) -> None:
    try:
        sent = timegm(time.strptime(text, form))
    except ValueError:
        raise Refusal(403, "AccessDenied", "OSS authentication requires a valid Date.") from None
    if abs(time.time() - sent) > _SKEW:
        raise Refusal(
            403,
            "RequestTimeTooSkewed",
            "The difference between the request time and the current time is too large.",
        )


def _sign_v4(request: Request, secret: str, scope: str, additional: str, region: str) -> str:
    day, named, product, _ = (*scope.split("/"), "", "", "")[:4]
    if (named, product) != (region, "oss") or not request.headers["x-oss-date"].startswith(day):
        raise Refusal(
            400, "InvalidArgument", f"Invalid signing region in Authorization header: {named or 'none'}."
        )
    signed = {name for name in additional.lower().split(";") if name}
    pairs = (pair.partition("=") for pair in request.raw_query.split("&") if pair)
    ordered = sorted((name, value) for name, _, value in pairs)
    query = "&".join(f"{name}={value}" if value else name for name, value in ordered)
    headers = "".join(
        f"{name}:{value.strip()}\n"
        for name, value in sorted((name.lower(), value) for name, value in request.headers.items())
        if name.startswith("x-oss-") or name in ("content-type", "content-md5") or name in signed
    )
    return signature_v4(
        secret,
        scope=scope,
        date=request.headers["x-oss-date"],
        method=request.method,
        resource=f"/{request.bucket}/{request.key}" if request.bucket else "/",
        query=query,
        headers=headers,
        additional=additional,
    )


def _sign_v1(request: Request, secret: str) -> str:
    headers = "".join(
        f"{name}:{value.strip()}\n"
        for name, value in sorted((name.lower(), value) for name, value in request.headers.items())
        if name.startswith("x-oss-")
    )
    signed = sorted((name, value) for name, value in request.query.items() if name in SUBRESOURCES_V1)
    query = "&".join(f"{name}={value}" if value else name for name, value in signed)
    return signature_v1(
        secret,
        method=request.method,
        md5=request.headers.get("Content-MD5", ""),
        content_type=request.headers.get("Content-Type", ""),
        date=request.headers.get("x-oss-date") or request.headers.get("Date") or "",
        headers=headers,
        resource=f"/{request.bucket}/{request.key}" + (f"?{query}" if query else ""),
    )


def signature_v4(
    secret: str,
    *,
    scope: str,
    date: str,
    method: str,
    resource: str,
    query: str,
    headers: str,
    additional: str,
) -> str:
    """Sign a request as V4 does.

    :param scope: ``<day>/<region>/oss/aliyun_v4_request``.
    :param resource: ``/bucket/key``, not encoded; ``query`` and ``headers`` are canonical.
    """
    canonical = "\n".join(
        [method, quote(resource, safe="/~"), query, headers, additional, "UNSIGNED-PAYLOAD"]
    )
    to_sign = "\n".join(["OSS4-HMAC-SHA256", date, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"aliyun_v4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, to_sign.encode(), "sha256").hex()


def signature_v1(
    secret: str, *, method: str, md5: str, content_type: str, date: str, headers: str, resource: str
) -> str:
    """Sign a request as V1 does; ``resource`` is ``/bucket/key`` with the sub-resources of the query."""
    to_sign = f"{method}\n{md5}\n{content_type}\n{date}\n{headers}{resource}"
    return base64.b64encode(hmac.digest(secret.encode(), to_sign.encode(), "sha1")).decode()
