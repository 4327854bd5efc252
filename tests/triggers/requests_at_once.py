"""How many requests were under way side by side; unlike the time that they took, whatever else the machine does."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from typing import Any


def most_at_once(requests: Iterable[dict[str, Any]]) -> int:
    """Return the most requests that the emulator had at the same time."""
    begun_and_ended = [
        change for one in requests for change in ((one["at"], 1), (one["at"] + one["seconds"], -1))
    ]
    return max(accumulate(change for _, change in sorted(begun_and_ended)))
