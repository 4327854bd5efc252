"""Points in time as the service writes them: UTC, whole seconds, ``yyyy-MM-ddTHH:mm:ssZ``."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
_PATTERN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def to_text(seconds: float) -> str:
    """Write seconds since the epoch."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime(_FORMAT)


def from_text(text: str) -> int:
    """Read the service's spelling into seconds since the epoch.

    :raises ValueError: for any other spelling.
    """
    if not _PATTERN.fullmatch(text):
        raise ValueError(f"{text!r} is not a UTC time like 2024-01-31T08:00:00Z")
    return int(datetime.strptime(text, _FORMAT).replace(tzinfo=UTC).timestamp())
