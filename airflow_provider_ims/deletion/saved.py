"""Values of a checkpoint as they are read: others may have written there, so each is checked for its type and size.

Each function raises ValueError for what can't be one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

MAX_TEXT = 1000
"""No text in a checkpoint is longer; neither is a list that is no list of numbers."""


def number(value: Any, most: int = 2**53) -> int:
    """Return a number from 0 to ``most``."""
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError("a number in it is none")
    return value


def seconds(value: Any) -> float:
    """Return a time in seconds."""
    if type(value) not in (int, float) or not 0 <= value < 2**53:
        raise ValueError("its time is none")
    return float(value)


def text(value: Any, most: int = MAX_TEXT) -> str:
    """Return a text of at most ``most`` characters."""
    if not isinstance(value, str) or len(value) > most:
        raise ValueError("a text in it is none")
    return value


def writer_name(value: Any) -> str:
    """Return the name of a writer: it becomes part of a path."""
    if not (name := text(value)).replace("-", "").isalnum():
        raise ValueError("the name of a writer is none")
    return name


def items(value: Any, most: int) -> list[Any]:
    """Return a list of at most ``most`` values."""
    if not isinstance(value, list) or len(value) > most:
        raise ValueError("a list in it is none")
    return value


def mapping(value: Any) -> dict[str, Any]:
    """Return a JSON object."""
    if not isinstance(value, dict):
        raise ValueError("an object in it is none")
    return value


def span(value: Any, end: int) -> tuple[int, int]:
    """Return (first, end) of numbers that follow one another, all below ``end``."""
    first, last = (number(one, end) for one in items(value, 2))
    if first > last:
        raise ValueError("a range in it is none")
    return first, last


def spans(value: Any, end: int) -> Iterator[int]:
    """Return the numbers of a list of (first, end)."""
    seen = 0
    for row in items(value, end):
        first, last = span(row, end)
        seen += last - first
        if seen > end:
            raise ValueError("its ranges overlap")
        yield from range(first, last)
