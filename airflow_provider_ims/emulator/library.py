"""The media library: what is registered, what reads still show, and which files are there.

Made for a million media: compact entries, found by id and URL at once, listed by creation time with bisection.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

_LAST_ID = "\x7f"
"""Sorts after every media id."""

_KEPT_COUNTS = 32
_COMPACTION_FLOOR = 1000


class Files(Protocol):
    """Where the files of media lie, if they are there at all."""

    def put_for_service(self, bucket: str, key: str, content: bytes, *, replace: bool) -> None:
        """Put a file there, unless one is there that is not to be replaced."""

    def remove_for_service(self, bucket: str, key: str) -> None:
        """Take a file away, unless the service may not."""


@dataclass(slots=True, eq=False)
class Medium:
    """One media asset.

    :param created: seconds since the epoch.
    :param title: None stands for the file's name.
    :param tags: comma-separated, as the service shows them.
    :param size: bytes of the file.
    :param streams: URLs of what was transcoded from it, each with a file of its own.
    :param protected: deletions are refused (``ForbiddenList``).
    :param undeletable: deletions are ignored (``IgnoredList``) although reads show it.
    :param deleted: no longer registered; reads may go on to show it for a while.
    """

    media_id: str
    url: str
    created: int
    title: str | None = None
    media_type: str = "video"
    source: str = "oss"
    business_type: str = "general"
    status: str = "Normal"
    tags: str = ""
    size: int = 0
    streams: tuple[str, ...] = ()
    protected: bool = False
    undeletable: bool = False
    deleted: bool = False

    @property
    def position(self) -> Position:
        """Where the medium stands when sorted by creation time."""
        return Position(self.created, self.media_id)

    @property
    def file_name(self) -> str:
        """The last part of the URL."""
        return self.url.rsplit("/", 1)[-1]


def shown_title(title: str | None, url: str) -> str:
    """Give what reads show as a title: the file's name where there is none."""
    return title if title is not None else url.rsplit("/", 1)[-1]


class Position(NamedTuple):
    """A place in the order of creation; media of the same second are sorted by id."""

    created: int
    media_id: str


class Filter(NamedTuple):
    """What a listing asks for; None takes everything.

    :param after: creation time in seconds, exclusive.
    :param until: creation time in seconds, inclusive.
    """

    after: int | None = None
    until: int | None = None
    media_type: str | None = None
    business_type: str | None = None
    source: str | None = None
    status: str | None = None
    media_id: str | None = None

    def takes(self, medium: Medium) -> bool:
        """Tell whether the medium is asked for."""
        return (
            (self.after is None or medium.created > self.after)
            and (self.until is None or medium.created <= self.until)
            and (self.media_type is None or medium.media_type == self.media_type)
            and (self.business_type is None or medium.business_type == self.business_type)
            and (self.source is None or medium.source == self.source)
            and (self.status is None or medium.status == self.status)
            and (self.media_id is None or medium.media_id == self.media_id)
        )


@dataclass(slots=True)
class Library:
    """All media of one account in one region.

    :param region: the region in which ``oss://`` URLs are meant.
    :param files: where each medium has its file, named after the media id; None to only remember whether it has one.
    """

    region: str
    files: Files | None = None
    _by_id: dict[str, Medium] = field(default_factory=dict)
    # A URL has nearly always one medium; a list for each would cost a quarter of the memory.
    _by_url: dict[str, Medium | list[Medium]] = field(default_factory=dict)
    _order: list[Medium] = field(default_factory=list)
    _sorted: bool = True
    _absent: list[int] = field(default_factory=list)
    _files_gone: set[str] = field(default_factory=set)
    _leaving: list[tuple[float, str]] = field(default_factory=list)
    _counts: OrderedDict[Filter, int] = field(default_factory=OrderedDict)

    def __len__(self) -> int:
        """Count the media that reads show."""
        return len(self._by_id)

    def __iter__(self) -> Iterator[Medium]:
        """Give the media that reads show, oldest first."""
        self._sort()
        return (medium for medium in self._order if self._by_id.get(medium.media_id) is medium)

    def normal_url(self, url: str) -> str:
        """Write the spellings of one URL alike: ``http``, ``https`` and ``oss`` schemes, an empty ``?``."""
        scheme, separator, rest = url.strip().removesuffix("?").partition("://")
        scheme = scheme.lower()
        if not separator or scheme not in ("http", "https", "oss"):
            return url.strip()
        if scheme == "oss":
            bucket, _, key = rest.partition("/")
            rest = f"{bucket}.oss-{self.region}.aliyuncs.com/{key}"
        return f"https://{rest}"

    def add(self, medium: Medium) -> None:
        """Register a medium; its file is there.

        :raises ValueError: if its id is taken.
        """
        if medium.media_id in self._by_id:
            raise ValueError(f"the media id {medium.media_id} is already registered")
        self._by_id[medium.media_id] = medium
        url = self.normal_url(medium.url)
        if url == medium.url:
            url = medium.url  # one text in memory instead of two equal ones
        others = self._by_url.get(url)
        if others is None:
            self._by_url[url] = medium
        elif isinstance(others, list):
            others.append(medium)
        else:
            self._by_url[url] = [others, medium]
        if self._sorted and self._order and self._order[-1].created >= medium.created:
            self._sorted = self._order[-1].position < medium.position
        self._order.append(medium)
        # What somebody put there and then registered stays as it is.
        self._put_file(url, medium.media_id.encode(), replace=False)
        self._recount(medium, 1)

    def shown(self, media_id: str) -> Medium | None:
        """Give what reads show of a media id."""
        return self._by_id.get(media_id)

    def shown_at(self, url: str) -> list[Medium]:
        """Give what reads show of a URL."""
        found = self._by_url.get(self.normal_url(url))
        if found is None:
            return []
        return list(found) if isinstance(found, list) else [found]

    def registered(self, media_id: str) -> list[Medium]:
        """Give the medium of an id, unless it was deleted and reads merely lag behind."""
        medium = self._by_id.get(media_id.strip())
        return [] if medium is None or medium.deleted else [medium]

    def registered_at(self, url: str) -> list[Medium]:
        """Give the media of a URL, without those that were deleted while reads lag behind."""
        return [medium for medium in self.shown_at(url) if not medium.deleted]

    def has_file(self, medium: Medium) -> bool:
        """Tell whether the medium's file is in its bucket."""
        return self.normal_url(medium.url) not in self._files_gone

    def write_file(self, url: str, content: bytes) -> None:
        """Write a file as a job does, over what may be there."""
        self._put_file(self.normal_url(url), content, replace=True)

    def _put_file(self, url: str, content: bytes, *, replace: bool) -> None:
        self._files_gone.discard(url)
        if self.files is not None:
            self.files.put_for_service(*_bucket_and_key(url), content, replace=replace)

    def remove_file(self, medium: Medium) -> None:
        """Take the medium's file out of its bucket."""
        url = self.normal_url(medium.url)
        self._files_gone.add(url)
        if self.files is not None:
            self.files.remove_for_service(*_bucket_and_key(url))

    def delete(self, medium: Medium, *, shown_until: float | None = None) -> None:
        """Take a medium out of the library; its file stays.

        :param shown_until: reads go on to show it until then, seconds since the epoch.
        """
        medium.deleted = True
        if shown_until is None:
            self._forget(medium)
        else:
            heapq.heappush(self._leaving, (shown_until, medium.media_id))

    def settle(self, now: float) -> None:
        """Let reads catch up with deletions that are due."""
        while self._leaving and self._leaving[0][0] <= now:
            self._forget(self._by_id[heapq.heappop(self._leaving)[1]])

    def count(self, wanted: Filter) -> int:
        """Count the media a listing takes. Kept up to date for the filters asked for last."""
        if wanted == Filter():
            return len(self._by_id)
        if wanted == Filter(after=wanted.after, until=wanted.until):
            return self._count_window(wanted)
        if wanted not in self._counts:
            self._counts[wanted] = sum(1 for _ in self._matching(wanted, None, descending=False))
            if len(self._counts) > _KEPT_COUNTS:
                self._counts.popitem(last=False)
        self._counts.move_to_end(wanted)
        return self._counts[wanted]

    def _count_window(self, wanted: Filter) -> int:
        """Count by bisection: a listing that goes on by creation time asks for another window each time."""
        self._sort()
        low, high = self._bounds(wanted)
        first = 0 if wanted.after is None else bisect_right(self._absent, wanted.after)
        last = len(self._absent) if wanted.until is None else bisect_right(self._absent, wanted.until)
        return max(0, high - low) - max(0, last - first)

    def _bounds(self, wanted: Filter) -> tuple[int, int]:
        """Give where the media of a time window begin and end in the order of creation."""
        order = self._order
        low = 0 if wanted.after is None else _index_after(order, Position(wanted.after, _LAST_ID))
        high = len(order) if wanted.until is None else _index_after(order, Position(wanted.until, _LAST_ID))
        return low, high

    def page(
        self, wanted: Filter, size: int, *, after: Position | None = None, descending: bool = False
    ) -> tuple[list[Medium], Position | None]:
        """Give the next media of a listing, and where to go on; None at its end.

        :param after: where the last page ended.
        """
        media: list[Medium] = []
        for medium in self._matching(wanted, after, descending=descending):
            if len(media) == size:
                return media, media[-1].position
            media.append(medium)
        return media, None

    def _matching(self, wanted: Filter, after: Position | None, *, descending: bool) -> Iterator[Medium]:
        self._sort()
        order = self._order
        low, high = self._bounds(wanted)
        if after is not None and descending:
            high = min(high, bisect_left(order, after, key=lambda medium: medium.position))
        elif after is not None:
            low = max(low, _index_after(order, after))
        for index in range(high - 1, low - 1, -1) if descending else range(low, high):
            medium = order[index]
            if wanted.takes(medium) and self._by_id.get(medium.media_id) is medium:
                yield medium

    def _sort(self) -> None:
        if not self._sorted:
            self._order.sort(key=lambda medium: medium.position)
            self._sorted = True

    def _forget(self, medium: Medium) -> None:
        del self._by_id[medium.media_id]
        url = self.normal_url(medium.url)
        others = self._by_url[url]
        if isinstance(others, list) and len(others) > 1:
            others.remove(medium)
        else:
            del self._by_url[url]
        self._recount(medium, -1)
        # Taking one out of a long list moves all behind it: absent ones stay until they are many.
        insort(self._absent, medium.created)
        if len(self._absent) > max(_COMPACTION_FLOOR, len(self._order) // 4):
            self._order = [kept for kept in self._order if self._by_id.get(kept.media_id) is kept]
            self._absent.clear()

    def _recount(self, medium: Medium, by: int) -> None:
        for wanted in self._counts:
            if wanted.takes(medium):
                self._counts[wanted] += by


def _bucket_and_key(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.netloc.partition(".")[0], unquote(parts.path).lstrip("/")


def _index_after(order: list[Medium], position: Position) -> int:
    return bisect_right(order, position, key=lambda medium: medium.position)
