"""Points in time as the service spells them: UTC, to the second, ``yyyy-MM-ddTHH:mm:ssZ``."""

from __future__ import annotations

from datetime import UTC, datetime


def read_time(text: object) -> datetime | None:
    """Return what the service, or a plan, shows as a moment; None for what names no moment for sure."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else None
    except (ValueError, OverflowError):  # the first year in a zone east of Greenwich lies before all time
        return None


def write_time(moment: datetime) -> str:
    """Return a moment as the service spells it; what is below a second is cut off."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
