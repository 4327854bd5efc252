"""Values of a checkpoint as they are read: others may have written there, so each is checked for its type and size.

Each function that reads raises ValueError for what can't be one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
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


def spell_runs(numbers: Iterable[int]) -> list[int]:
    """Spell a set of numbers: how many are left out from 0 on, how many follow one another, and so on in turns."""
    spelled: list[int] = []
    end = 0
    for number in sorted(numbers):
        if spelled and number == end:
            spelled[-1] += 1
        else:
            spelled += [number - end, 1]
        end = number + 1
    return spelled


def runs(value: Any, end: int) -> Iterator[range]:
    """Return the runs of numbers that :func:`spell_runs` spelled, all below ``end``."""
    at = 0
    spelled = iter(items(value, 2 * end))
    for left_out, length in zip(spelled, spelled, strict=True):
        first = at + number(left_out, end)
        at = first + number(length, end)
        if not first < at <= end:
            raise ValueError("a run of numbers in it is none")
        yield range(first, at)


def numbers(value: Any, end: int) -> Iterator[int]:
    """Return the numbers of these runs."""
    return chain.from_iterable(runs(value, end))
