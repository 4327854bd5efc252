"""ACS3-HMAC-SHA256, Alibaba Cloud's request signature V3, as pure functions: text in, text out.

Each step of the published algorithm is a function of its own, so that a test vector can pin each step:
canonical query -> canonical headers -> canonical request -> string to sign -> signature.

Source: https://www.alibabacloud.com/help/en/sdk/product-overview/v3-request-structure-and-signature
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import quote

ALGORITHM = "ACS3-HMAC-SHA256"
EMPTY_PAYLOAD_HASH = hashlib.sha256(b"").hexdigest()


def percent_encode(text: str) -> str:
    """Encode as UTF-8, all but ``A-Z a-z 0-9 - _ . ~``; a space becomes ``%20``."""
    # Of a list of ids only the commas need it, and what needs none is quick.
    return "%2C".join(quote(part, safe="~") for part in text.split(","))


def canonical_query(params: Mapping[str, str]) -> str:
    """Join the encoded parameters, sorted by name; an empty value keeps its ``=``.

    The result is sent as the URL's query too, so that what is signed is what travels.
    """
    return "&".join(f"{percent_encode(name)}={percent_encode(params[name])}" for name in sorted(params))


def canonical_headers(headers: Mapping[str, str]) -> tuple[str, str]:
    """Return the header block (each line ends in a newline) and the names as ``SignedHeaders`` lists them."""
    lines = sorted((name.lower(), value.strip()) for name, value in headers.items())
    return "".join(f"{name}:{value}\n" for name, value in lines), ";".join(name for name, _ in lines)


def canonical_request(
    method: str, path: str, query: str, headers: Mapping[str, str], payload_hash: str
) -> str:
    """Assemble the canonical request. Every header handed in is signed."""
    header_block, signed_headers = canonical_headers(headers)
    return "\n".join((method, path, query, header_block, signed_headers, payload_hash))


def string_to_sign(canonical: str) -> str:
    """Name the algorithm and hash the canonical request."""
    return f"{ALGORITHM}\n{hashlib.sha256(canonical.encode()).hexdigest()}"


def signature(access_key_secret: str, to_sign: str) -> str:
    """HMAC-SHA256 with the AccessKey secret itself: no key derivation, no region or date scope."""
    return hmac.new(access_key_secret.encode(), to_sign.encode(), hashlib.sha256).hexdigest()


def authorization(access_key_id: str, signed_headers: str, signature: str) -> str:
    """Return the value of the ``Authorization`` header."""
    return f"{ALGORITHM} Credential={access_key_id},SignedHeaders={signed_headers},Signature={signature}"


def signed_headers(
    *,
    method: str,
    host: str,
    action: str,
    version: str,
    query: str,
    access_key_id: str,
    access_key_secret: str,
    security_token: str | None,
    date: str,
    nonce: str,
) -> dict[str, str]:
    """Return the headers of one RPC-style request with an empty body, ``Authorization`` included.

    Only what the algorithm demands is signed (``host`` and every ``x-acs-*``): a proxy that rewrites
    ``User-Agent`` then does no harm.

    :param query: the canonical query, as :func:`canonical_query` makes it.
    :param security_token: of temporary (STS) credentials.
    :param date: UTC, ``YYYY-MM-DDTHH:MM:SSZ``, at most 15 minutes off the service's clock.
    :param nonce: never used before by this key.
    """
    headers = {
        "host": host,
        "x-acs-action": action,
        "x-acs-content-sha256": EMPTY_PAYLOAD_HASH,
        "x-acs-date": date,
        "x-acs-signature-nonce": nonce,
        "x-acs-version": version,
    }
    if security_token:
        headers["x-acs-accesskey-id"] = access_key_id
        headers["x-acs-security-token"] = security_token
    canonical = canonical_request(method, "/", query, headers, EMPTY_PAYLOAD_HASH)
    headers["Authorization"] = authorization(
        access_key_id,
        canonical_headers(headers)[1],
        signature(access_key_secret, string_to_sign(canonical)),
    )
    return headers
