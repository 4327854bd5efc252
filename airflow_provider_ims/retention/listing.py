"""A listing of the library that is whole, or fails.

The service's pages can't be taken at their word: its documentation says that a listing shows at most the first
100 matches, and in the next breath offers page tokens; and what others delete meanwhile may shift the pages. So
the library is listed by creation time instead, a time window by itself:

- **Within a window**, every answer tells how many media there are from some moment on (``TotalCount``). When the
  listing goes on behind a stretch of the window, exactly the media of this stretch must be missing from that number.
  A stretch for which this does not hold, or from a page with gaps, is asked for by itself, and cut in two until each
  part is shown whole by one answer. A single second that is too crowded for one is read until two readings agree.
- **Windows are listed side by side**, up to ``MAX_WINDOWS`` at a time. There is one at first, the whole library.
  While there is room for another, a window with much left hands its newer half to a new one. The cut follows what
  the window shows, so that windows come to lie where the media are, however unevenly those were created.
- **In the end** at least as many media must have been shown as the service counts in the whole library.

What can't be shown whole ends the listing with an error. It costs one request for each 99 media, two for each cut,
and each page of a crowded second twice; and remembers two pages of media for each window and a few for whoever goes
through them.

Source: https://www.alibabacloud.com/help/en/ims/developer-reference/api-ice-2020-11-09-listmediabasicinfos
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Collection, Generator, Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from airflow_provider_ims.api import operations
from airflow_provider_ims.api.client import IMSClient
from airflow_provider_ims.api.errors import (
    IMSAPIError,
    IMSAuthError,
    IMSPermissionError,
    IMSTransientError,
)
from airflow_provider_ims.api.operations import MAX_PAGE, MediaInfo, MediaPage
from airflow_provider_ims.api.times import read_time, write_time

SECOND = timedelta(seconds=1)
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
# How often an answer that contradicts itself is asked for again. Whatever is behind it has some seconds to pass.
TRIES = 4
PAUSE_SECONDS = 0.5
SECONDS_BETWEEN_LOG_LINES = 10.0
MAX_WINDOWS = 16
# A window with fewer media left is not worth a cut, which costs two requests.
MIN_MEDIA_TO_CUT = 8 * MAX_PAGE
# Pages that wait for whoever goes through the listing; then the windows wait.
MAX_WAITING_PAGES = 16
NAP_SECONDS = 0.02
# A listing that is given up waits for the answers that are under way, but no longer than this.
SECONDS_TO_END = 2.0

Page = tuple[MediaInfo, ...]

log = logging.getLogger(__name__)


class Window(NamedTuple):
    """A span of creation times, to the second; ``start`` is exclusive, ``end`` inclusive, as the service has it."""

    start: datetime
    end: datetime

    def __str__(self) -> str:
        return f"{write_time(self.start)} to {write_time(self.end)}"


class Shown(NamedTuple):
    """What one answer shows of a window: its oldest media, and how many the service counts there in all.

    ``has_gaps`` says that it shows fewer than it could, so that one is missing among them for all we know.
    """

    media: Page
    total: int
    has_gaps: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether all that are there are shown. A full page may as well be cut, and its count with it."""
        return len(self.media) == self.total < MAX_PAGE


def list_whole(client: IMSClient, until: datetime) -> Generator[MediaInfo, None, None]:
    """Return every medium of the library that was created up to ``until``, each once, in no particular order.

    A medium that is deleted or added during the listing may be among them or not; every other one is. Close the
    iterator to end the listing early.

    :param until: in the past, so that nothing is added to what was listed already; to the second.
    :raises IMSAPIError: with code ``IncompleteListing`` when the service does not show all media that it counts.
    """
    return _Listing(client, Window(BEGINNING, until.replace(microsecond=0))).media()


class _Listing:
    """The windows of one listing: starts them, collects what they show, and ends all when one fails.

    Each window is listed by a thread of its own. ``media()`` runs in the caller's thread, which an exception out of
    a signal handler may strike at any moment (a task's time-out): it waits on a queue that such an exception can't
    leave locked.
    """

    def __init__(self, client: IMSClient, whole: Window) -> None:
        self._client = client
        self._whole = whole
        self._stop = threading.Event()
        self._pages: queue.SimpleQueue[Page | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        # The windows that are being listed, and how many media the service counts in what is left of each.
        self._left: dict[_WindowLister, int] = {}
        self._undated: set[str] = set()
        self._error: BaseException | None = None
        self.largest_total = 0

    def media(self) -> Generator[MediaInfo, None, None]:
        listed = 0
        next_log_line = time.monotonic() + SECONDS_BETWEEN_LOG_LINES
        try:
            # In here: it may be struck once the thread runs.
            self.start(_WindowLister(self, self._whole))
            while (page := self._next_page(next_log_line)) is not None:
                listed += len(page)
                yield from page
                if time.monotonic() >= next_log_line:
                    next_log_line = time.monotonic() + SECONDS_BETWEEN_LOG_LINES
                    self._log_progress(listed)
            if self._error:
                raise self._error
            self._check_sum(listed)
        finally:
            self._end()

    def start(self, lister: _WindowLister) -> bool:
        """List a window in a new thread; False if there is no room for another."""
        thread = threading.Thread(
            target=self._list, args=(lister,), name=f"list {lister.window}", daemon=True
        )
        with self._lock:
            if len(self._left) >= MAX_WINDOWS:
                return False
            self._left[lister] = 0
        try:
            thread.start()
        except RuntimeError:  # there can't be more threads
            with self._lock:
                del self._left[lister]
            if not self._left:
                raise
            return False
        return True

    def may_cut(self, lister: _WindowLister, left: int) -> bool:
        """Take note of what is left of a window; True if another may take half of it.

        A window that has much less left than the largest leaves the room to that one.
        """
        with self._lock:
            self._left[lister] = left
            has_room = len(self._left) < MAX_WINDOWS
            return has_room and left >= MIN_MEDIA_TO_CUT and 2 * left >= max(self._left.values())

    def ask(
        self, window: Window, token: str | None = None, *, newest_first: bool = False, at_most: int = MAX_PAGE
    ) -> MediaPage:
        page = operations.list_media_basic_infos(
            self._client,
            start_time=write_time(window.start),
            end_time=write_time(window.end),
            sort_by="desc" if newest_first else "asc",
            include_file_basic_info=True,
            max_results=at_most,
            next_token=token,
            stop=self._stop,
        ).value
        self.largest_total = max(self.largest_total, page.total or 0)
        for medium in page.media:
            created = read_time(medium.created)
            if created and not window.start <= created <= window.end:
                raise _incomplete(
                    f"asked for media created from {window}, the service shows "
                    f"{medium.media_id}, created {medium.created}"
                )
        return page

    def pause(self, attempt: int) -> None:
        """Wait before what contradicted itself is asked for again."""
        if attempt:
            self._stop.wait(PAUSE_SECONDS * attempt)

    def _list(self, lister: _WindowLister) -> None:
        """Hand on what a window shows; the last to end says that it was the last."""
        try:
            for page in lister.pages():
                while self._pages.qsize() >= MAX_WAITING_PAGES and not self._stop.wait(NAP_SECONDS):
                    pass
                self._pages.put(self._without_repeated(page))
        except BaseException as error:  # noqa: BLE001 - raised again by media()
            with self._lock:
                self._error = self._error or error
            self._stop.set()
        with self._lock:
            del self._left[lister]
            is_last = not self._left
        if is_last:
            self._pages.put(None)

    def _without_repeated(self, page: Page) -> Page:
        """Leave out media that were shown before, of those that show no creation time.

        Nothing tells where one of them belongs, so it may have been shown with an earlier stretch already.
        """
        undated = {medium.media_id for medium in page if read_time(medium.created) is None}
        if not undated:
            return page
        with self._lock:
            repeated = undated & self._undated
            self._undated |= undated
        return tuple(medium for medium in page if medium.media_id not in repeated)

    def _next_page(self, until: float) -> Page | None:
        """Wait for a page; an empty one when time is up, None when all windows have ended."""
        try:
            return self._pages.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            return ()

    def _check_sum(self, listed: int) -> None:
        """Raise if fewer media were shown than there are. What was deleted meanwhile is no longer counted."""
        for attempt in range(TRIES):
            self.pause(attempt)
            total = self.ask(self._whole, at_most=1).total
            if total is not None and total <= listed:
                return
        raise _incomplete(
            f"of the media created up to {write_time(self._whole.end)}, the service counts {total or 0:,} "
            f"(TotalCount) and shows {listed:,}"
        )

    def _log_progress(self, listed: int) -> None:
        with self._lock:
            left, windows = sum(self._left.values()), len(self._left)
        log.info(
            "Listed %s of %s media; time windows being listed: %d.",
            f"{listed:,}",
            f"{listed + left:,}",
            windows,
        )

    def _end(self) -> None:
        """Let no window go on. Answers that are under way change nothing, so they are not waited for long."""
        self._stop.set()
        deadline = time.monotonic() + SECONDS_TO_END
        while self._left and time.monotonic() < deadline:
            time.sleep(NAP_SECONDS)


class _WindowLister:
    """Lists one window. ``_given`` are the ids given last: the service may show them again behind a boundary.

    :param given: ids of media at the window's start, which belong to the window before.
    :param ahead: what the service shows of the window, if that is known already.
    """

    def __init__(
        self, listing: _Listing, window: Window, given: Collection[str] = (), ahead: Shown | None = None
    ) -> None:
        self._listing = listing
        self.window = window
        self._given = given
        self._ahead = ahead

    def pages(self, *, may_cut: bool = True) -> Iterator[Page]:
        """Return the window's media, in parts that are each shown whole."""
        ahead = self._ahead or self._look(self.window)
        while ahead.total or ahead.media:
            while may_cut and self._listing.may_cut(self, ahead.total):
                if (older_half := self._cut(ahead)) is None:
                    break
                ahead = older_half
            start, end = self.window
            stretch, boundary = _next_stretch(ahead)
            if stretch:
                behind = self._look(Window(boundary, end), known={medium.media_id for medium in stretch})
                if behind.total == ahead.total - len(stretch):
                    yield self._give(stretch)
                    self.window, ahead = Window(boundary, end), behind
                    continue
            last = max(_creation_times(ahead.media), default=None)
            # The last second may have more media than are shown. If there is no other, it has to be gone through.
            boundary = min(max(last - SECOND, start + SECOND), end) if last else end
            yield from self._part_by_part(Window(start, boundary))
            self.window = Window(boundary, end)
            ahead = self._look(self.window)

    def _cut(self, ahead: Shown) -> Shown | None:
        """Hand the newer half of the window to another lister; return what is shown of the older, None if not cut.

        The service may show the media of the second before a window's start with the window, though its
        documentation says that it doesn't. So they are looked up, for the newer half to leave out.
        """
        cut = self._find_cut(ahead)
        if cut is None:
            return None
        start, end = self.window
        second_before = _WindowLister(self._listing, Window(cut - SECOND, cut))
        known = {medium.media_id for page in second_before.pages(may_cut=False) for medium in page}
        newer = Window(cut, end)
        shown = self._look(newer, known)
        # All that remains of the count is older. That it is right is proved, as always, by what lies behind.
        older_total = max(0, ahead.total - shown.total)
        if shown.total and not self._listing.start(_WindowLister(self._listing, newer, known, shown)):
            return None
        self.window = Window(start, cut)
        return Shown(ahead.media, older_total, ahead.has_gaps)

    def _find_cut(self, ahead: Shown) -> datetime | None:
        """Find a moment behind all media that are shown, with about half of those that are not behind it.

        If they were all created as close together as those that are shown, it is found at once; and otherwise, like
        anything in a sorted list, by halving what remains.
        """
        times = _creation_times(ahead.media)
        if not times or len(times) < len(ahead.media) or times != sorted(times):
            return None
        first, last, end = times[0], times[-1], self.window.end
        expected_seconds = max((last - first).total_seconds() / len(times) * ahead.total, 2.0)
        seconds = min(expected_seconds, (end - last).total_seconds())
        cut = last + timedelta(seconds=seconds // 2)
        return cut if last < cut < end else None

    def _part_by_part(self, window: Window) -> Iterator[Page]:
        """Return the media of a window, cut in two until the service shows each part whole."""
        shown = self._look(window)
        start, end = window
        if shown.is_whole:
            yield self._give(shown.media)
        elif end - start > SECOND:
            middle = start + timedelta(seconds=(end - start) // SECOND // 2)
            yield from self._part_by_part(Window(start, middle))
            yield from self._part_by_part(Window(middle, end))
        else:
            yield self._give(self._page_by_page(window))

    def _page_by_page(self, window: Window) -> Page:
        """Read a single second, which can't be cut in two, with page tokens, until two readings are the same.

        One that adds up proves nothing: what is deleted moves the others to a page that was read already, and what
        is added takes its place in the count. But then it was shown before, and the next reading lacks it.
        """
        readings: list[Collection[str]] = []
        for attempt in range(TRIES + 1):
            self._listing.pause(attempt - len(readings))
            found, totals = self._all_pages(window)
            if totals != {len(found)} or self._may_be_cut(found, window):
                continue
            if found.keys() in readings:
                return tuple(medium for media_id, medium in found.items() if media_id not in self._given)
            readings.append(found.keys())
        raise _incomplete(
            f"of the media created in the second up to {write_time(window.end)}, the service counts "
            f"{max(total or 0 for total in totals):,} and shows {len(found):,}, which may not be all, or not the "
            "same each time"
        )

    def _all_pages(self, window: Window) -> tuple[dict[str, MediaInfo], set[int | None]]:
        """Follow the page tokens; return the media and the totals that came, None where the pages broke off."""
        found: dict[str, MediaInfo] = {}
        totals: set[int | None] = set()
        tokens: list[str] = []
        while True:
            try:
                page = self._listing.ask(window, tokens[-1] if tokens else None)
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

    def _may_be_cut(self, found: Collection[str], window: Window) -> bool:
        """Whether the service may show and count the first 100 matches only. Then others come last."""
        if len(found) != MAX_PAGE or self._listing.largest_total > MAX_PAGE:
            return False
        newest = self._listing.ask(window, newest_first=True)
        return {medium.media_id for medium in newest.media} != set(found)

    def _look(self, window: Window, known: Collection[str] | None = None) -> Shown:
        """Ask for the oldest media of a window, leaving out those that are known already."""
        if window.start >= window.end:
            return Shown((), 0)
        known = self._given if known is None else known
        for attempt in range(TRIES):
            self._listing.pause(attempt)
            page = self._listing.ask(window)
            if page.media or not page.total:
                break
        if page.total is None:
            raise _incomplete("the service does not tell how many media there are (TotalCount)")
        shown = {medium.media_id: medium for medium in page.media}
        new = tuple(medium for media_id, medium in shown.items() if media_id not in known)
        return Shown(new, page.total - (len(shown) - len(new)), len(shown) < min(page.total, MAX_PAGE))

    def _give(self, media: Page) -> Page:
        self._given = {medium.media_id for medium in media}
        return media


def _next_stretch(ahead: Shown) -> tuple[Page, datetime]:
    """Find the media that are shown with all others up to a boundary, if the pages are what they should be.

    The last second that is shown may go on behind the page's end, unless the page shows all there are.
    """
    times = [read_time(medium.created) for medium in ahead.media]
    known = [moment for moment in times if moment]
    if ahead.has_gaps or not known or known != sorted(known):
        return (), BEGINNING
    if ahead.is_whole:
        return ahead.media, known[-1]
    return ahead.media[: times.index(known[-1])], known[-1] - SECOND


def _creation_times(media: Page) -> list[datetime]:
    return [moment for medium in media if (moment := read_time(medium.created))]


def _incomplete(message: str) -> IMSAPIError:
    return IMSAPIError(
        f"{message}. A plan from part of the library is never made",
        code="IncompleteListing",
        action="ListMediaBasicInfos",
    )
