"""A retention policy -> which media it selects, and why it leaves each other one alone.

Everything unclear is kept: a medium whose creation time, status, type or tags can't be read is never selected.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import cached_property
from heapq import heappush, heappushpop
from typing import Any, NamedTuple, Unpack

import pendulum

from airflow_provider_ims.api.identifiers import check_media_id
from airflow_provider_ims.api.operations import MediaInfo
from airflow_provider_ims.api.times import read_time, write_time
from airflow_provider_ims.arguments import read_whole_number, read_words
from airflow_provider_ims.retention.filters import (
    LIST_FILTERS,
    RetentionFilters,
    read_duration,
    read_moment,
    read_pattern,
)

KEEP_LATEST = "keep_latest"
DELETED = "already deleted"
UNDECIDED = "undecided: "
EXCLUSIONS = {
    "older_than": "are not old enough",
    "created_before": "were created too late",
    "status": "have another status",
    "media_type": "are of another type",
    "source": "have another source",
    "business_type": "are of another business type",
    "title_pattern": "have a title that does not match",
    "require_tags": "lack a tag that is required",
    "exclude_tags": "carry a tag that is excluded",
    KEEP_LATEST: "are among the newest, which stay whatever their age",
    DELETED: "are deleted already",
}
"""Why media stay, by the filter that keeps them: ends of a sentence that begins "they"."""

# Characters that choose how the one before them is drawn.
_VARIATIONS = frozenset(map(chr, range(0xFE00, 0xFE10)))


class Exclusion(NamedTuple):
    """Why a medium is left alone: the filter of the policy that keeps it, and a message for the report."""

    by: str
    message: str


@dataclass(frozen=True)
class RetentionPolicy:
    """Which media may go. Checked, with every time in UTC; made by :func:`make_policy`.

    :param created_before: exclusive; media from then on are too young.
    :param older_than: as it was asked for, None when ``created_before`` was.
    :param keep_latest: so many of the newest that pass all other filters stay, the too young among them.
    """

    created_before: datetime
    older_than: str | None
    media_type: tuple[str, ...] | None
    source: tuple[str, ...] | None
    business_type: tuple[str, ...] | None
    status: tuple[str, ...]
    title_pattern: str | None
    require_tags: tuple[str, ...] | None
    exclude_tags: tuple[str, ...] | None
    keep_latest: int | None

    @property
    def age_filter(self) -> str:
        """Name of the parameter that the limit comes from."""
        return "older_than" if self.older_than else "created_before"

    def why_kept(self, medium: MediaInfo) -> Exclusion | None:
        """Hold a medium against all filters but those of age and number; None if it passes.

        Denials come first, then whatever can't be read, so that no other filter can hide them.
        """
        if medium.is_gone:
            return Exclusion(DELETED, f"it was deleted at {medium.deleted}")
        if denied := self._excluded.intersection(_folded(medium.tags or ())):
            return Exclusion("exclude_tags", f"it carries the tag {min(denied)!r}")
        if unreadable := self._unreadable(medium):
            return Exclusion(UNDECIDED + unreadable, f"its {unreadable} can't be read")
        for name, wanted in self._exact:
            value = getattr(medium, name)
            if value.casefold() not in wanted:
                return Exclusion(name, f"its {name} is {value}")
        if self.title_pattern and not fnmatchcase(str(medium.title), self.title_pattern):
            return Exclusion("title_pattern", f"its title does not match {self.title_pattern!r}")
        if missing := self._required.difference(medium.tags or ()):
            return Exclusion("require_tags", f"it lacks the tag {min(missing)!r}")
        return None

    def describe(self) -> list[str]:
        """Return the policy as ends of a sentence that begins "A medium is selected if it", one for each filter."""
        before = f"before {write_time(self.created_before)}"
        limit = f"was created {before}"
        if self.older_than:
            limit = (
                f"was created more than {describe_duration(self.older_than)} before the run, that is {before}"
            )
        ends = [limit, f"has the status {' or '.join(self.status)}"]
        if self.media_type:
            ends.append(f"is of the type {' or '.join(self.media_type)}")
        if self.source:
            ends.append(f"has the source {' or '.join(self.source)}")
        if self.business_type:
            ends.append(f"is of the business type {' or '.join(self.business_type)}")
        if self.title_pattern:
            ends.append(f"has a title that matches {self.title_pattern}")
        if self.require_tags:
            ends.append(f"carries {_tags(self.require_tags, 'and')}")
        if self.exclude_tags:
            ends.append(f"does not carry {_tags(self.exclude_tags, 'or')}")
        if self.keep_latest:
            ends.append(f"is not one of the newest {self.keep_latest:,} that fit all of this but the age")
        return ends

    def as_json(self) -> dict[str, Any]:
        """Give the policy as it stands in a plan."""
        shown = {field.name: getattr(self, field.name) for field in fields(self)}
        lists = {name: list(value) for name, value in shown.items() if isinstance(value, tuple)}
        return {**shown, **lists, "created_before": write_time(self.created_before)}

    def _unreadable(self, medium: MediaInfo) -> str | None:
        if not _is_media_id(medium.media_id):
            return "media id"
        if read_time(medium.created) is None:
            return "creation time"
        if medium.tags is None:
            return "tags"
        for name in self._needed:
            if getattr(medium, name) is None:
                return name
        return None

    @cached_property
    def _needed(self) -> tuple[str, ...]:
        filters = tuple(name for name, _ in self._exact)
        return ("media_type", *filters, "title") if self.title_pattern else ("media_type", *filters)

    @cached_property
    def _exact(self) -> tuple[tuple[str, frozenset[str]], ...]:
        named = ((name, getattr(self, name)) for name in ("status", "media_type", "source", "business_type"))
        return tuple((name, frozenset(map(str.casefold, wanted))) for name, wanted in named if wanted)

    @cached_property
    def _excluded(self) -> frozenset[str]:
        return frozenset(_folded(self.exclude_tags or ()))

    @cached_property
    def _required(self) -> frozenset[str]:
        return frozenset(self.require_tags or ())


def describe_exclusion(by: str) -> str:
    """Return why media stay that a filter keeps: the end of a sentence that begins "they"."""
    if by.startswith(UNDECIDED):
        unreadable = by.removeprefix(UNDECIDED)
        return (
            f"have {unreadable}"
            if unreadable.startswith("too ")
            else f"have no {unreadable} that can be read"
        )
    return EXCLUSIONS.get(by, f"are kept by {by}")


def describe_duration(spelled: str) -> str:
    """Return an ISO 8601 duration in words, such as ``90 days`` for ``P90D``."""
    date_part, _, clock = spelled.removeprefix("P").partition("T")
    units = {"Y": "year", "M": "month", "W": "week", "D": "day"}, {"H": "hour", "M": "minute", "S": "second"}
    words = [
        f"{int(number):,} {names[letter]}{'' if int(number) == 1 else 's'}"
        for part, names in zip((date_part, clock), units, strict=True)
        for number, letter in re.findall(r"([0-9]{1,9})([YMWDHS])", part)
        if letter in names
    ]
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1]))) if words else spelled


def _is_media_id(value: str) -> bool:
    try:
        return check_media_id(value) == value
    except ValueError:
        return False


def _tags(tags: tuple[str, ...], joined_by: str) -> str:
    return f"the {'tag' if len(tags) == 1 else 'tags'} {f' {joined_by} '.join(tags)}"


class Selection:
    """Goes through a library and picks what the policy takes; counts everything it sees.

    :ivar population: media seen.
    :ivar kept: how many of them stay, by the filter that keeps them.
    """

    def __init__(self, policy: RetentionPolicy) -> None:
        self.policy = policy
        self.population = 0
        self.kept: Counter[str] = Counter()

    def pick(self, media: Iterable[MediaInfo]) -> Iterator[tuple[datetime, MediaInfo]]:
        """Give the media that are selected with their creation times, in no particular order.

        The newest are found by their moment of creation and, where that is the same, by their id, whatever the
        order in which the media come.
        """
        newest: list[tuple[datetime, str, int, MediaInfo]] = []
        for medium in media:
            self.population += 1
            if kept := self.policy.why_kept(medium):
                self.kept[kept.by] += 1
                continue
            created = read_time(medium.created)
            assert created is not None, "why_kept keeps media without a creation time"
            if self.policy.keep_latest:
                item = (created, medium.media_id, self.population, medium)
                if len(newest) < self.policy.keep_latest:
                    heappush(newest, item)
                    continue
                created, _, _, medium = heappushpop(newest, item)
            if created < self.policy.created_before:
                yield created, medium
            else:
                self.kept[self.policy.age_filter] += 1
        for created, *_ in newest:
            self.kept[KEEP_LATEST if created < self.policy.created_before else self.policy.age_filter] += 1

    @property
    def undecided(self) -> int:
        """How many stay because something about them can't be read."""
        return sum(count for by, count in self.kept.items() if by.startswith(UNDECIDED))


def make_policy(*, as_of: datetime, **filters: Unpack[RetentionFilters]) -> RetentionPolicy:
    """Check a policy as a user writes it.

    :param as_of: the moment that ages are counted to.
    :param filters: see :class:`~airflow_provider_ims.retention.filters.RetentionFilters`; None does without one.
    :raises ValueError: naming the filter that makes no sense.
    """
    given = {"status": ("Normal",), **filters}
    older_than, created_before = given.get("older_than"), given.get("created_before")
    if (older_than is None) == (created_before is None):
        raise ValueError("exactly one of older_than and created_before is needed")
    age = None if older_than is None else read_duration(older_than)
    limit = read_moment(created_before) if age is None else _back(as_of, age)
    if given["status"] is None:
        raise ValueError("status is None; name the status that media have to have, such as Normal")
    words: dict[str, Any] = {
        name: None if given.get(name) is None else read_words(name, given[name]) for name in LIST_FILTERS
    }
    return RetentionPolicy(
        created_before=datetime.fromtimestamp(int(min(limit, as_of).timestamp()), UTC),
        older_than=None if age is None else _spell(age),
        title_pattern=read_pattern(given.get("title_pattern")),
        keep_latest=read_whole_number("keep_latest", given.get("keep_latest"), least=1),
        **words,
    )


def read_policy(shown: Any) -> RetentionPolicy:
    """Read a policy from a plan.

    :raises ValueError: when it is not one of :meth:`RetentionPolicy.as_json`.
    """
    names = [field.name for field in fields(RetentionPolicy)]
    if not isinstance(shown, Mapping) or not set(names) <= set(shown):
        raise ValueError("the policy lacks some of its filters")
    limit = read_time(shown["created_before"])
    if limit is None:
        raise ValueError("the policy's created_before is no time")
    given = {name: shown[name] for name in names if name not in ("older_than", "created_before")}
    read = make_policy(as_of=limit, created_before=limit, **given)
    return replace(read, older_than=shown["older_than"])


def why_kept(policy: RetentionPolicy, row: Mapping[str, Any], now: MediaInfo) -> str | None:
    """Return why a planned medium must be left alone by now, or None if it may go.

    One that is proved to be deleted may go: its deletion will find out.

    :param policy: the plan's own.
    :param row: the medium's line of the plan.
    :param now: the medium as it was read just now.
    """
    if now.is_gone:
        return None
    if read_time(now.created) is None or read_time(now.created) != read_time(row.get("created")):
        return f"it was created {now.created or 'at an unknown time'}, but {row.get('created')} when it was planned"
    kept = policy.why_kept(now)
    return kept.message if kept else None


def _back(as_of: datetime, age: pendulum.Duration) -> datetime:
    try:
        # Made anew: a pendulum moment in a zone that is not pendulum's loses the zone when it is reckoned with.
        limit = pendulum.from_timestamp(as_of.timestamp()) - age
    except (ValueError, OverflowError):
        raise ValueError(f"older_than is {_spell(age)}, which is before all time") from None
    if limit >= as_of:
        raise ValueError(f"older_than is {_spell(age)}, not a time above zero")
    return limit


def _spell(age: pendulum.Duration) -> str:
    """Write a duration in ISO 8601."""
    days = age.weeks * 7 + age.remaining_days
    date_part = "".join(
        f"{number}{unit}" for number, unit in ((age.years, "Y"), (age.months, "M"), (days, "D")) if number
    )
    clock = ((age.hours, "H"), (age.minutes, "M"), (age.remaining_seconds, "S"))
    time_part = "".join(f"{number}{unit}" for number, unit in clock if number)
    return f"P{date_part}T{time_part}" if time_part else f"P{date_part or '0D'}"


def _folded(tags: Iterable[str]) -> Iterator[str]:
    """Bring tags into a form in which those that look alike are the same: marks that nobody sees come with a copy."""
    for tag in tags:
        seen = "".join(one for one in tag if unicodedata.category(one) != "Cf" and one not in _VARIATIONS)
        yield " ".join(unicodedata.normalize("NFKC", seen).casefold().split())
