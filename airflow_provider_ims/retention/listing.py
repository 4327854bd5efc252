"""A listing of the library that is whole, or fails.

The service's pages can't be taken at their word: its documentation says that a listing shows at most the first
100 matches, and in the next breath offers page tokens; and what others delete meanwhile may shift the pages. So
the library is walked by creation time instead. Every answer tells how many media there are from some moment on
(``TotalCount``); when the walk goes on behind a stretch of the library, exactly the media of this stretch must be
missing from that number. A stretch for which this does not hold is asked for by itself, and cut in two until each
part is shown whole. What can't be shown whole ends the listing with an error.

The walk costs one request for each 99 media, and remembers no more than two pages of them.

Source: https://www.alibabacloud.com/help/en/ims/developer-reference/api-ice-2020-11-09-listmediabasicinfos
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from airflow_provider_ims.api import operations
from airflow_provider_ims.api.client import IMSClient
from airflow_provider_ims.api.errors import IMSAPIError, IMSAuthError, IMSPermissionError, IMSTransientError
from airflow_provider_ims.api.operations import MAX_PAGE, MediaInfo, MediaPage
from airflow_provider_ims.api.times import read_time, write_time

SECOND = timedelta(seconds=1)
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
# How often an answer that contradicts itself is asked for again. Whatever is behind it has some seconds to pass.
TRIES = 4
PAUSE_SECONDS = 0.5
SECONDS_BETWEEN_LOG_LINES = 10.0

log = logging.getLogger(__name__)


class Window(NamedTuple):
    """What the service shows of a time window: its oldest media, and how many it says there are in all."""

    media: tuple[MediaInfo, ...]
    total: int

    @property
    def is_whole(self) -> bool:
        """Whether all that are there are shown. A full page may as well be cut, and its count with it."""
        return len(self.media) == self.total < MAX_PAGE


def list_whole(client: IMSClient, until: datetime) -> Iterator[MediaInfo]:
    """Give every medium of the library, from the oldest to those created at ``until``, each once.

    A medium that is deleted during the listing may be among them or not; every other one is.

    :param until: in the past, so that nothing is added behind the walk's back; to the second.
    :raises IMSAPIError: with code ``IncompleteListing`` when the service does not show all media that it counts.
    """
    return _Walk(client, until.replace(microsecond=0)).media()


class _Walk:
    """One listing. ``_given`` are the ids given last: the service may show them again behind a boundary."""

    def __init__(self, client: IMSClient, until: datetime) -> None:
        self._client = client
        self._until = until
        self._given: Collection[str] = ()
        self._count = 0
        self._largest_total = 0
        self._next_log_line = time.monotonic() + SECONDS_BETWEEN_LOG_LINES

    def media(self) -> Iterator[MediaInfo]:
        start, ahead = BEGINNING, self._look(BEGINNING, self._until)
        while ahead.total or ahead.media:
            self._tell_progress(start, ahead)
            stretch, boundary = _next_stretch(ahead)
            if stretch:
                behind = self._look(boundary, self._until, known={medium.media_id for medium in stretch})
                if behind.total == ahead.total - len(stretch):
                    yield from self._give(stretch)
                    start, ahead = boundary, behind
                    continue
            last = _last_second(ahead.media)
            # The last second may have more media than are shown. If there is no other, it has to be gone through.
            boundary = min(max(last - SECOND, start + SECOND), self._until) if last else self._until
            yield from self._part_by_part(start, boundary)
            start, ahead = boundary, self._look(boundary, self._until)

    def _part_by_part(self, start: datetime, end: datetime) -> Iterator[MediaInfo]:
        """Give the media of a window, cut in two until the service shows each part whole."""
        window = self._look(start, end)
        if window.is_whole:
            yield from self._give(window.media)
        elif end - start > SECOND:
            middle = start + timedelta(seconds=(end - start) // SECOND // 2)
            yield from self._part_by_part(start, middle)
            yield from self._part_by_part(middle, end)
        else:
            yield from self._give(self._page_by_page(start, end))

    def _page_by_page(self, start: datetime, end: datetime) -> tuple[MediaInfo, ...]:
        """Read a single second, which can't be cut in two, with page tokens; again if it does not add up."""
        for attempt in range(TRIES):
            _pause(attempt)
            found, totals = self._all_pages(start, end)
            if totals == {len(found)} and not self._may_be_cut(found, start, end):
                return tuple(medium for media_id, medium in found.items() if media_id not in self._given)
        raise _incomplete(
            f"of the media created in the second up to {write_time(end)}, the service counts "
            f"{max(total or 0 for total in totals):,} and shows {len(found):,}, which may not be all"
        )

    def _all_pages(self, start: datetime, end: datetime) -> tuple[dict[str, MediaInfo], set[int | None]]:
        """Follow the page tokens; give the media and the totals that were told, None where the pages broke off."""
        found: dict[str, MediaInfo] = {}
        totals: set[int | None] = set()
        tokens: list[str] = []
        while True:
            try:
                page = self._ask(start, end, tokens[-1] if tokens else None)
            except (IMSTransientError, IMSAuthError, IMSPermissionError):
                raise
            except IMSAPIError as error:
                if not tokens:
                    raise
                log.warning("A page token was not accepted, so the pages are asked for anew: %s.", error)
                return found, totals | {None}
            found.update((medium.media_id, medium) for medium in page.media)
            totals.add(page.total)
            if not page.next_token:
                return found, totals
            if page.next_token in tokens or len(tokens) > len(found) + MAX_PAGE:
                return found, totals | {None}
            tokens.append(page.next_token)

    def _may_be_cut(self, found: Collection[str], start: datetime, end: datetime) -> bool:
        """Whether the service may show and count the first 100 matches only. Then others come last."""
        if len(found) != MAX_PAGE or self._largest_total > MAX_PAGE:
            return False
        return {medium.media_id for medium in self._ask(start, end, newest_first=True).media} != set(found)

    def _look(self, start: datetime, end: datetime, known: Collection[str] | None = None) -> Window:
        """Ask for the oldest media of a window, leaving out those that are known already."""
        if start >= end:
            return Window((), 0)
        known = self._given if known is None else known
        for attempt in range(TRIES):
            _pause(attempt)
            page = self._ask(start, end)
            if page.media or not page.total:
                break
        if page.total is None:
            raise _incomplete("the service does not tell how many media there are (TotalCount)")
        shown = {medium.media_id: medium for medium in page.media}
        new = tuple(medium for media_id, medium in shown.items() if media_id not in known)
        return Window(new, page.total - (len(shown) - len(new)))

    def _ask(
        self, start: datetime, end: datetime, token: str | None = None, *, newest_first: bool = False
    ) -> MediaPage:
        page = operations.list_media_basic_infos(
            self._client,
            start_time=write_time(start),
            end_time=write_time(end),
            sort_by="desc" if newest_first else "asc",
            include_file_basic_info=True,
            next_token=token,
        ).value
        self._largest_total = max(self._largest_total, page.total or 0)
        for medium in page.media:
            created = read_time(medium.created)
            if created and not start <= created <= end:
                raise _incomplete(
                    f"asked for media created from {write_time(start)} to {write_time(end)}, the service shows "
                    f"{medium.media_id}, created {medium.created}"
                )
        return page

    def _give(self, media: tuple[MediaInfo, ...]) -> tuple[MediaInfo, ...]:
        self._given = {medium.media_id for medium in media}
        self._count += len(media)
        return media

    def _tell_progress(self, start: datetime, ahead: Window) -> None:
        if time.monotonic() >= self._next_log_line:
            self._next_log_line = time.monotonic() + SECONDS_BETWEEN_LOG_LINES
            log.info(
                "Listed %s of %s media, up to those created %s.",
                f"{self._count:,}",
                f"{self._count + ahead.total:,}",
                write_time(start),
            )


def _pause(attempt: int) -> None:
    if attempt:
        time.sleep(PAUSE_SECONDS * attempt)


def _next_stretch(ahead: Window) -> tuple[tuple[MediaInfo, ...], datetime]:
    """Find the media that are shown with all others up to a boundary, if the pages are what they should be.

    The last second that is shown may go on behind the page's end, unless the page shows all there are.
    """
    times = [read_time(medium.created) for medium in ahead.media]
    known = [moment for moment in times if moment]
    if not known or known != sorted(known):
        return (), BEGINNING
    if ahead.is_whole:
        return ahead.media, known[-1]
    return ahead.media[: times.index(known[-1])], known[-1] - SECOND


def _last_second(media: tuple[MediaInfo, ...]) -> datetime | None:
    return max((moment for medium in media if (moment := read_time(medium.created))), default=None)


def _incomplete(message: str) -> IMSAPIError:
    return IMSAPIError(
        f"{message}. A plan from part of the library is never made",
        code="IncompleteListing",
        action="ListMediaBasicInfos",
    )
