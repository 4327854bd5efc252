"""What a peer says, made fit to be repeated: in an exception, a log, a report, XCom.

The peer is IMS, a proxy on the way, or whoever answers in their place. Its text may be a copy of the request with
the signature in it, or a link that opens a file; it may be of any length, and hold characters that forge a line of a
log or turn its reading direction.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

MAX_MESSAGE = 500
MAX_ID = 100
CUT = "***"

# So many characters of a secret in a row are cut out, wherever the copy of it begins or ends.
_RUN = 8
# What follows the path of a URL, also of one without a scheme, and of one that is encoded once more.
_QUERY = re.compile(r"(?i)(\?|%3f)[^\s\"'<>]*?(=|%3d)[^\s\"'<>]*")
_USER = re.compile(r"//[^\s/@]+@")
_NAMED = re.compile(
    r"(?i)\b((?:[\w-]*(?:signature|token|secret|password)|authorization)[\"']?\s*[=:]\s*[\"']?)"
    r"(?!\*\*\*)(?:(?:bearer|basic)\s+)?[^\s&,;\"']+"
)
# The service's own ids; none of them is, or has, a part of a secret.
_UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


def sanitize(text: object, *, limit: int = MAX_MESSAGE, secrets: Iterable[str] = ()) -> str:
    r"""Return a text of at most ``limit`` characters, all printable, without secrets and without queries of URLs.

    What is not printable becomes ``\uXXXX``; what is cut out, ``***``.

    :param text: text, or whatever else stood in its place.
    :param secrets: of the request that was answered; copies are found whole, in part and percent-encoded.
    """
    # Bounded first, so that a long text costs no time; twice as long, so that little is missing after the cuts.
    said = str(text)[: 4 * limit].strip()
    said = _cut_secrets(said, secrets)
    said = _QUERY.sub(rf"\1{CUT}", said)
    said = _USER.sub(f"//{CUT}@", said)
    said = _NAMED.sub(rf"\1{CUT}", said)
    said = escape(said[:limit])
    return said if len(said) <= limit else f"{said[: limit - 3]}..."


def sanitize_id(text: object, *, secrets: Iterable[str] = ()) -> str | None:
    """Return a request id as it came, if it is one, else :func:`sanitize` it to 100 characters; None for none."""
    if isinstance(text, str) and _UUID.fullmatch(text):
        return text
    return (sanitize(text, limit=MAX_ID, secrets=secrets) or None) if isinstance(text, str) else None


def escape(text: str) -> str:
    r"""Return the text with ``\uXXXX`` for whatever is not printable: controls, line ends, marks of direction."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else f"\\u{ord(one):04x}" if ord(one) < 0x10000 else f"\\U{ord(one):08x}"
        for one in text
    )


def _cut_secrets(text: str, secrets: Iterable[str]) -> str:
    """Cut out every run of characters that stands in a secret; those that are shorter than a run are none."""
    spellings = {
        form
        for one in secrets
        for form in (one, quote(one, safe="~"), quote_plus(one), one.upper(), one.lower())
    }
    runs = {one[at : at + _RUN] for one in spellings for at in range(len(one) - _RUN + 1)}
    said, end = "", 0
    for at in range(len(text)):
        if text[at : at + _RUN] in runs:
            said += "" if at < end else CUT
            end = at + _RUN
        elif at >= end:
            said += text[at]
    return said
