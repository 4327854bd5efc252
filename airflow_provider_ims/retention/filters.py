"""The filters of a retention policy as users write them, and how each is read.

A filter that is given and names nothing is refused, so that a template that renders to nothing does not widen the
selection; so is what can't be read for certain.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypedDict

import pendulum

from airflow_provider_ims.api.identifiers import show
from airflow_provider_ims.arguments import is_nothing

Age = timedelta | str
Moment = datetime | date | str
StrOrList = str | Collection[str]


class RetentionFilters(TypedDict, total=False):
    """The filters by name; the one place where they are listed.

    ``older_than``, or instead ``created_before``: a duration above zero (``pendulum.Duration``, ``timedelta``, or
    text such as ``P90D``), or a time; a date means its first moment in UTC. ``media_type``, ``source``,
    ``business_type``, ``status``: a text or several, of which one has to fit, compared without regard to case.
    ``require_tags``: all of them are needed, spelled just so. ``exclude_tags``: one is enough to keep a medium,
    whatever its case or character width. ``title_pattern``: ``*``, ``?`` and ``[...]`` as in a shell; has to fit
    the whole title, case included. ``keep_latest``: at least 1.
    """

    older_than: Age | None
    created_before: Moment | None
    media_type: StrOrList | None
    source: StrOrList | None
    business_type: StrOrList | None
    status: StrOrList
    require_tags: StrOrList | None
    exclude_tags: StrOrList | None
    title_pattern: str | None
    keep_latest: int | str | None


RETENTION_FILTERS = tuple(RetentionFilters.__annotations__)
LIST_FILTERS = ("media_type", "source", "business_type", "status", "require_tags", "exclude_tags")

# Each part at most once, in order. Parsers that take more read P12M4M as four months.
# Not compiled here: most imports of this file need only the names of the filters.
_DURATION = (
    r"P(?=[0-9T])(?:(?P<weeks>[0-9]{1,6})W"
    r"|(?:(?P<years>[0-9]{1,6})Y)?(?:(?P<months>[0-9]{1,6})M)?(?:(?P<days>[0-9]{1,6})D)?"
    r"(?:T(?=[0-9])(?:(?P<hours>[0-9]{1,9})H)?(?:(?P<minutes>[0-9]{1,9})M)?(?:(?P<seconds>[0-9]{1,9})S)?)?)"
)
_MOMENT = (
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"(?P<time>[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?)?"
)


def read_duration(given: Any) -> pendulum.Duration:
    """Return how old media have to be.

    :raises ValueError: for what is no duration; as text, for anything but one ISO 8601 duration in whole numbers.
    """
    if isinstance(given, str) and (parts := re.fullmatch(_DURATION, given.strip())):
        return pendulum.duration(**{unit: int(number) for unit, number in parts.groupdict("0").items()})
    if isinstance(given, pendulum.Duration) and not isinstance(given, pendulum.Interval):
        return given
    if isinstance(given, timedelta):
        return pendulum.duration(days=given.days, seconds=given.seconds, microseconds=given.microseconds)
    raise ValueError(f"older_than is {show(given)}, not a duration such as P90D or timedelta(days=90)")


def read_moment(given: Any) -> datetime:
    """Return the moment before which media have to be created.

    :raises ValueError: for what is no time with a zone, and no date.
    """
    read = given
    if isinstance(given, str) and (shape := re.fullmatch(_MOMENT, given.strip())):
        try:
            read = (datetime if shape["time"] else date).fromisoformat(given.strip())
        except ValueError:
            read = None
    if isinstance(read, datetime):
        if read.tzinfo is None:
            raise ValueError(f"created_before is {str(given)!r}, which has no time zone; add Z for UTC")
        try:
            return read.astimezone(UTC)
        except (ValueError, OverflowError):
            raise ValueError(f"created_before is {str(given)!r}, which is no time in UTC") from None
    if isinstance(read, date):
        return datetime(read.year, read.month, read.day, tzinfo=UTC)
    raise ValueError(
        f"created_before is {show(given)}, not a date or time such as 2026-01-31 or 2026-01-31T12:00:00Z"
    )


def read_pattern(given: Any) -> str | None:
    """Return the pattern of titles; None for None.

    :raises ValueError: for what is no text, or names nothing.
    """
    if given is None:
        return None
    if not isinstance(given, str):
        raise ValueError(f"title_pattern is {show(given)} ({type(given).__name__}), not a text")
    if is_nothing(given):
        raise ValueError(
            f"title_pattern is {show(given)}, which names nothing; leave it out to do without this filter"
        )
    return given
