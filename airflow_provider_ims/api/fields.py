"""How fields of an answer are read: leniently where that can't hide anything, strictly where it could."""

from __future__ import annotations

import re
from json import loads
from typing import Any

from airflow_provider_ims.api.sanitize import escape

LARGEST_NUMBER = 2**63 - 1
"""Above this a number is none that the service means: no file has so many bytes, no library so many media."""


# What an answer of any operation may have, besides what it is about.
_ENVELOPE = (
    "RequestId",
    "requestId",
    "Code",
    "code",
    "Message",
    "message",
    "Success",
    "HttpStatusCode",
    "HostId",
)


def check_nothing_else(body: dict[str, Any]) -> None:
    """Raise ValueError if an answer that is about nothing tells something else: it is of another operation then."""
    for name, value in body.items():
        if name not in _ENVELOPE and value not in (None, "", [], {}):
            raise ValueError(f"it is of another operation, for it has {escape(name[:100])}")


def text(value: Any) -> str | None:
    """Return a text without white space around it; None for anything else, and for an empty one."""
    return value.strip() or None if isinstance(value, str) else None


def number(value: Any) -> int | None:
    """Return a count or a size, also one that came as text; None for anything else, negative and absurd ones too."""
    # Bounded first: Python refuses to read thousands of digits.
    if isinstance(value, str) and re.fullmatch(rf"\s*\d{{1,{len(str(LARGEST_NUMBER))}}}\s*", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= LARGEST_NUMBER else None


def mapping(value: Any) -> dict[str, Any]:
    """Return an object; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def texts(body: dict[str, Any], name: str) -> tuple[str, ...]:
    """Return a list of texts, which may be null or absent.

    :raises ValueError: if it is anything else.
    """
    values = body.get(name)
    if values is None:
        return ()
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"its {name} is no list of texts")
    return tuple(values)


def objects(body: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Return a list of objects, which may be null or absent.

    :raises ValueError: if it is anything else.
    """
    values = body.get(name)
    if values is None:
        return []
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise ValueError(f"its {name} is no list of objects")
    return values


def unsigned(url: Any) -> str | None:
    """Return a URL without its query, which carries the signature."""
    given = text(url)
    return given.split("?", 1)[0] if given else None


def parsed(value: Any) -> Any:
    """Return what JSON in a text says; None if it is broken, or nested too deeply. What is no text stays as it is."""
    if not isinstance(value, str):
        return value
    try:
        return loads(value)
    except (ValueError, RecursionError):
        return None
