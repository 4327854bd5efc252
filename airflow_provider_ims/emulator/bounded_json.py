"""JSON that a stranger sent: read within bounds, so that nothing in it can be kept that can't be shown again."""

from __future__ import annotations

import json
import math
from typing import Any

_DEEPEST = 32
_LARGEST = 2**63 - 1


def loads(text: str | bytes) -> Any:
    """Read JSON of at most 32 levels, with numbers that are finite and fit into 64 bits.

    :raises ValueError: says what is wrong with it.
    """
    try:
        value = json.loads(text, parse_int=_whole, parse_float=_finite, parse_constant=_no_constant)
    except RecursionError:
        raise _too_deep() from None
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return value
    raise _too_deep()


def _too_deep() -> ValueError:
    return ValueError(f"the JSON is nested deeper than {_DEEPEST} levels")


def _whole(text: str) -> int:
    number = int(text) if len(text) <= len(str(_LARGEST)) + 1 else _LARGEST + 1
    if abs(number) > _LARGEST:
        raise ValueError(f"the number {text[:30]} does not fit into 64 bits")
    return number


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:30]} is too large")
    return number


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON")
