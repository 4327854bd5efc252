"""A plan: the file that says which media a retention policy selects, to be read, approved, and deleted as it is.

JSON lines. The first describes the plan, each other is a medium, sorted by creation time and id: the same library
and policy give the same bytes, and the plan's SHA-256 stands for exactly these media.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_ims.api.errors import GuardError
from airflow_provider_ims.api.operations import MediaInfo
from airflow_provider_ims.api.sanitize import escape
from airflow_provider_ims.api.times import read_time, write_time
from airflow_provider_ims.arguments import read_percent, read_whole_number
from airflow_provider_ims.files.storage import (
    MAX_LINE_BYTES,
    check_writable,
    storage_path,
    to_line,
    write_whole,
)
from airflow_provider_ims.retention.policy import UNDECIDED, RetentionPolicy, Selection, read_policy

if TYPE_CHECKING:
    from airflow_provider_ims.compat import ObjectStoragePath

PLAN_FORMAT = 1
ROWS_SHOWN = 20
TOO_LONG = f"{UNDECIDED}too long a title, URL or tags"
"""Who reads the plan takes no longer lines, and what is cut could not be compared when it is deleted."""


@dataclass(frozen=True)
class Caps:
    """More than this is taken for a mistake. None does without.

    :param max_media: media that may be selected.
    :param max_percent: how much of the library may be selected, 0 to 100.
    """

    max_media: int | None
    max_percent: float | None

    def why_refused(self, selected: int, population: int) -> str | None:
        """Say which cap a selection goes over; None if none."""
        if self.max_media is not None and selected > self.max_media:
            return f"{selected:,} media are selected, more than max_media={self.max_media:,}"
        if self.max_percent is not None and selected * 100 > self.max_percent * population:
            return (
                f"{selected:,} of {population:,} media are selected ({percentage(selected, population)}%), "
                f"more than max_percent={self.max_percent:g}"
            )
        return None


@dataclass(frozen=True)
class Plan:
    """A plan that was written.

    :param path: where it is.
    :param digest: SHA-256 of its bytes, in hex.
    :param header: its first line.
    :param first: the oldest rows, ``last`` the newest; together all of them if they are few.
    """

    path: ObjectStoragePath
    digest: str
    header: dict[str, Any]
    policy: RetentionPolicy
    first: list[dict[str, Any]]
    last: list[dict[str, Any]]

    def describe(self) -> list[str]:
        """Return a summary of the plan in lines for the log."""
        header = self.header
        kept: dict[str, int] = header["kept"]
        counts = f"Selected {header['selected']:,} of {header['population']:,} media"
        if header["selected"]:
            size = file_size(header["bytes"]) + (" or more" if header["size_unknown"] else "")
            lines = [
                f"{counts} ({header['percent']}%), {size}, created {header['oldest']} to {header['newest']}: "
                f"{self.path}, SHA-256 {self.digest}."
            ]
        else:
            most = max(kept, key=lambda by: kept[by], default=None)
            lines = [f"{counts}." + (f" Most were kept by {most}: {kept[most]:,}." if most else "")]
        width = len(f"{max(kept.values(), default=0):,}")
        return lines + [f"Kept {count:>{width},} by {by}" for by, count in kept.items()]


@dataclass
class _PlanStats:
    """What the rows of a plan add up to, counted while the library is still being listed."""

    selection: Selection
    as_of: datetime
    size: int = 0
    size_unknown: int = 0
    months: Counter[str] = field(default_factory=Counter)
    selected_months: Counter[str] = field(default_factory=Counter)
    types: Counter[str] = field(default_factory=Counter)
    type_bytes: Counter[str] = field(default_factory=Counter)

    def rows(self, media: Iterable[MediaInfo]) -> Iterator[tuple[str, str, bytes]]:
        """Return what is selected: creation time, id, and the plan's line."""
        for created, medium in self.selection.pick(self._count_months(media)):
            created_text = write_time(created)
            line = to_line(_row(medium, created_text, (self.as_of - created).days))
            if len(line) > MAX_LINE_BYTES:
                self.selection.kept[TOO_LONG] += 1
                continue
            self.size += medium.size or 0
            self.size_unknown += medium.size is None
            self.types[str(medium.media_type)] += 1
            self.type_bytes[str(medium.media_type)] += medium.size or 0
            self.selected_months[created_text[:7]] += 1
            yield created_text, medium.media_id, line

    def by_month(self) -> dict[str, list[int]]:
        """Return how many media were created in a month (``2026-01``), and how many of them are selected."""
        return {month: [count, self.selected_months[month]] for month, count in sorted(self.months.items())}

    def by_type(self) -> dict[str, list[int]]:
        """Return how many media of a type are selected, and their bytes."""
        return {kind: [count, self.type_bytes[kind]] for kind, count in sorted(self.types.items())}

    def _count_months(self, media: Iterable[MediaInfo]) -> Iterator[MediaInfo]:
        for medium in media:
            created = read_time(medium.created)
            self.months[write_time(created)[:7] if created else ""] += 1
            yield medium


def write_plan(
    path: str | ObjectStoragePath,
    media: Iterable[MediaInfo],
    *,
    policy: RetentionPolicy,
    caps: Caps,
    as_of: datetime,
    region: str | None,
    host: str,
) -> Plan:
    """Select from a library and write the plan, marked as refused if it goes over a cap.

    Before the first medium is asked for, it is tried whether the plan can be written; and what stood in its place
    stays as it was until the new plan is whole.

    :param media: the whole library, in any order, each medium once.
    :param as_of: the moment that ages are counted to.
    :param region: where the library is; ``host`` was asked for it.
    :raises GuardError: if the plan can't be written.
    :raises StorageError: if it can't be written just now.
    """
    target = check_plan_path(path)
    stats = _PlanStats(Selection(policy), as_of)
    # A database without a name lies in a temporary file; a library of any size is sorted in little memory.
    with closing(sqlite3.connect("")) as database:
        database.execute(
            "CREATE TABLE plan (created TEXT, media_id TEXT, line BLOB, PRIMARY KEY (created, media_id))"
            " WITHOUT ROWID"
        )
        database.executemany("INSERT INTO plan VALUES (?, ?, ?)", stats.rows(media))
        header = _header(stats, database, caps, region, host)
        digest = write_whole(target, _lines(header, database))
        first = _shown(database, "ASC", ROWS_SHOWN)
        last = _shown(database, "DESC", min(ROWS_SHOWN, max(0, header["selected"] - ROWS_SHOWN)))[::-1]
    return Plan(target, digest, header, policy, first, last)


def page_path(plan: ObjectStoragePath) -> ObjectStoragePath:
    """Return where the page for people lies that goes with a plan."""
    return plan.parent / f"{plan.name}.html"


def check_plan_path(path: str | ObjectStoragePath) -> ObjectStoragePath:
    """Return the path of a plan, once it was tried whether one can be written there.

    :raises GuardError: if it can't.
    :raises StorageError: if it can't just now.
    :raises ValueError: if there is no such store.
    """
    target = storage_path(path, "manifest")
    check_writable(target.parent, "manifest", (target, page_path(target)))
    return target


def read_caps(max_media: int | str | None, max_percent: float | str | None) -> Caps:
    """Check caps as a user writes them.

    :raises ValueError: naming the one that makes no sense.
    """
    return Caps(read_whole_number("max_media", max_media, least=0), read_percent("max_percent", max_percent))


def check_plan(header: Mapping[str, Any], *, region: str | None, host: str, rows: int) -> RetentionPolicy:
    """Return the policy of a plan that may be deleted from here, and refuse any other plan.

    :param header: its first line.
    :param region: of the connection, as ``host``.
    :param rows: how many media it names.
    :raises GuardError: saying why.
    """
    if header.get("plan") != PLAN_FORMAT:
        raise _guard_error(
            f"the plan has format {header.get('plan')!r}, and only {PLAN_FORMAT} is known; make a new one"
        )
    if header.get("refused") is not None or "refused" not in header:
        raise _guard_error(
            f"the plan is marked as not to be deleted: {header.get('refused', 'it lacks the mark')}"
        )
    if (header.get("region"), header.get("host")) != (region, host):
        raise _guard_error(
            f"the plan was made for {_place(header.get('region'), header.get('host'))}, "
            f"but the connection is to {_place(region, host)}"
        )
    if header.get("selected") != rows:
        raise _guard_error(
            f"the plan says that it names {header.get('selected')!r} media, but it names {rows:,}"
        )
    try:
        return read_policy(header.get("policy"))
    except ValueError as error:
        raise _guard_error(f"the plan's policy can't be read: {error}") from None


def _guard_error(words: str) -> GuardError:
    return GuardError(f"{words}. Nothing was deleted")


def _place(region: object, host: object) -> str:
    return f"{region} ({host})" if region else f"{host}"


def printable(value: object, longest: int) -> str:
    """Return anybody's text for people to read: cut where it is long, invisible characters shown as their codes."""
    text = str(value)
    if len(text) > longest:
        text = f"{text[:longest]}… ({len(text):,} characters)"
    return escape(text)


def percentage(part: int, whole: int) -> float:
    """Give a share in percent, to two places."""
    return round(100 * part / whole, 2) if whole else 0.0


def file_size(count: int | float) -> str:
    """Write a number of bytes with a unit that keeps it short."""
    unit, *larger = "bytes", "kB", "MB", "GB", "TB", "PB", "EB"
    while count >= 1000 and larger:
        count, unit = count / 1000, larger.pop(0)
    return f"{count:,} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"


def _header(
    stats: _PlanStats, database: sqlite3.Connection, caps: Caps, region: str | None, host: str
) -> dict[str, Any]:
    selection = stats.selection
    selected, oldest, newest = database.execute(
        "SELECT count(*), min(created), max(created) FROM plan"
    ).fetchone()
    return {
        "plan": PLAN_FORMAT,
        "refused": caps.why_refused(selected, selection.population),
        "region": region,
        "host": host,
        "as_of": write_time(stats.as_of),
        "policy": selection.policy.as_json(),
        "max_media": caps.max_media,
        "max_percent": caps.max_percent,
        "population": selection.population,
        "selected": selected,
        "percent": percentage(selected, selection.population),
        "bytes": stats.size,
        "size_unknown": stats.size_unknown,
        "oldest": oldest,
        "newest": newest,
        "kept": dict(sorted(selection.kept.items(), key=lambda item: (-item[1], item[0]))),
        "undecided": selection.undecided,
        "months": stats.by_month(),
        "types": stats.by_type(),
    }


def _row(medium: MediaInfo, created: str, days: int) -> dict[str, Any]:
    return {
        "media_id": medium.media_id,
        "input_url": medium.input_url,
        "title": medium.title,
        "media_type": medium.media_type,
        "created": created,
        "size": medium.size,
        "tags": sorted(medium.tags or ()),
        "reason": f"{days} days old",
    }


def _lines(header: dict[str, Any], database: sqlite3.Connection) -> Iterator[bytes]:
    yield to_line(header)
    for (line,) in database.execute("SELECT line FROM plan ORDER BY created, media_id"):
        yield line


def _shown(database: sqlite3.Connection, order: str, count: int) -> list[dict[str, Any]]:
    found = database.execute(
        f"SELECT line FROM plan ORDER BY created {order}, media_id {order} LIMIT ?", (count,)
    )
    return [json.loads(line) for (line,) in found]
