"""Parameters of a call: text into what an operation works with, or the refusal that the text deserves."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from airflow_provider_ims.emulator import bounded_json, times
from airflow_provider_ims.emulator.errors import invalid, missing
from airflow_provider_ims.emulator.library import Position

_DEFAULT_AUTH_TIMEOUT = 3600
_LONGEST_AUTH_TIMEOUT = 86400


def entries(params: Mapping[str, str], name: str) -> list[str]:
    """Split a comma-separated parameter; entries stay as they were written, empty ones are dropped."""
    return [entry for entry in params.get(name, "").split(",") if entry.strip()]


def boolean(params: Mapping[str, str], name: str, *, default: bool) -> bool:
    """Read ``true`` or ``false``, in any case of letters."""
    text = params.get(name, "").lower()
    if text not in ("", "true", "false"):
        raise invalid(name, f"{params[name]!r} is neither true nor false.")
    return text == "true" if text else default


def whole_number(params: Mapping[str, str], name: str, *, default: int, low: int, high: int) -> int:
    """Read a number from ``low`` to ``high``."""
    text = params.get(name)
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(high)) and low <= int(text) <= high):
        raise invalid(name, f"{text!r} is no whole number from {low} to {high}.")
    return int(text)


def auth_timeout(params: Mapping[str, str]) -> int:
    """Read for how many seconds signed URLs shall be good."""
    return whole_number(
        params, "AuthTimeout", default=_DEFAULT_AUTH_TIMEOUT, low=1, high=_LONGEST_AUTH_TIMEOUT
    )


def point_in_time(params: Mapping[str, str], name: str) -> int | None:
    """Read a time into seconds since the epoch; None when it is not given."""
    text = params.get(name)
    if not text:
        return None
    try:
        return times.from_text(text)
    except ValueError as error:
        raise invalid(name, f"{error}.") from None


def json_value(text: str, name: str, kind: type) -> Any:
    """Read JSON of one kind, ``list`` or ``dict``."""
    try:
        value = bounded_json.loads(text)
    except ValueError as error:
        raise invalid(name, f"it is no JSON: {error}.") from None
    if not isinstance(value, kind):
        raise invalid(name, f"it must be a JSON {'list' if kind is list else 'object'}.")
    return value


def group(params: Mapping[str, str], name: str) -> list[dict[str, Any]]:
    """Read a JSON list of objects, which must be there."""
    if not params.get(name):
        raise missing(name)
    group = json_value(params[name], name, list)
    if not group or not all(isinstance(entry, dict) for entry in group):
        raise invalid(name, "it must be a list of objects with at least one entry.")
    return list(group)


def page_token(position: Position) -> str:
    """Write the position after which the next page begins."""
    return base64.urlsafe_b64encode(f"{position.created} {position.media_id}".encode()).decode()


def position(token: str) -> Position:
    """Read what :func:`page_token` wrote."""
    try:
        created, media_id = base64.urlsafe_b64decode(token.encode()).decode().split(" ")
        return Position(int(created), media_id)
    except (binascii.Error, ValueError):
        raise invalid("NextToken", f"{token!r} was not given out by this service.") from None
