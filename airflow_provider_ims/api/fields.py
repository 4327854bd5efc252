"""How fields of an answer are read: leniently where that can't hide anything, strictly where it could."""

from __future__ import annotations

import re
from json import loads
from typing import Any

# Far above the size of any file; more digits are no number but an attack on whoever reads them.
_MAX_DIGITS = 18


def text(value: Any) -> str | None:
    """Return a text without white space around it; None for anything else, and for an empty one."""
    return value.strip() or None if isinstance(value, str) else None


def number(value: Any) -> int | None:
    """Return a whole number, or one that came as text; None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if abs(value) < 10**_MAX_DIGITS else None
    is_number = isinstance(value, str) and re.fullmatch(rf"\s*\d{{1,{_MAX_DIGITS}}}\s*", value)
    return int(value) if is_number else None


def mapping(value: Any) -> dict[str, Any]:
    """Return an object; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


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
