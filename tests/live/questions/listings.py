"""Listings: pages, bounds and order of ListMediaBasicInfos. Asked first, for it needs more than a hundred media."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any

from airflow_provider_ims.api import operations
from airflow_provider_ims.api.errors import IMSAPIError
from airflow_provider_ims.api.operations import MAX_PAGE, MediaInfo, MediaPage
from airflow_provider_ims.api.times import read_time
from tests.live.media import NotTold
from tests.live.question import Answer, Run, question, until

NEEDED = MAX_PAGE + 5


def _first_and_last(run: Run) -> tuple[str, str]:
    """Return the creation times of the oldest and the newest of some media, which are all of the run's own."""
    media = run.media.some(NEEDED)
    times = []
    for medium in (media[0], media[-1]):
        shown = operations.get_media_info(run.client, media_id=medium.media_id).value
        if not shown or not shown.created:
            raise NotTold("a medium shows no CreateTime")
        times.append(shown.created)
    return times[0], times[1]


def moved(text: str, seconds: int) -> str:
    moment = read_time(text)
    if moment is None:
        raise NotTold(f"CreateTime is {text!r}")
    return (moment + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _window(run: Run) -> dict[str, Any]:
    first, last = _first_and_last(run)
    return {"start_time": moved(first, -1), "end_time": last}


def _own(run: Run, media: list[MediaInfo]) -> list[str]:
    own = {medium.media_id for medium in run.media.some(NEEDED)}
    return [medium.media_id for medium in media if medium.media_id in own]


@question(
    "Do page tokens of a listing lead beyond 100 media?",
    belief="They do: 100 is the most of a page, not of the whole listing.",
    where="api/operations.py, list_all_media; retention/listing.py",
    if_not="Plans and hook.list_media_basic_infos() notice by TotalCount, and list shorter times, which costs more "
    "requests.",
)
def tokens_beyond_100(run: Run) -> Answer:
    window = _window(run)
    pages: list[MediaPage] = []

    def all_are_listed() -> bool:
        pages[:] = _pages(run, window)
        return len(_own(run, [medium for page in pages for medium in page.media])) >= NEEDED

    waited = until(all_are_listed, 5, 1)
    listed = _own(run, [medium for page in pages for medium in page.media])
    try:
        went_on = len(_own(run, list(operations.list_all_media(run.client, **window)))) >= NEEDED
        seen = f"The code lists {'all of them' if went_on else 'no more of them'}."
    except IMSAPIError as error:
        seen = f"The code ends with {error.code}: {error.message}."
    return Answer(
        {"listed": len(listed), "of": NEEDED, "TotalCount": pages[0].total}, waited is not None, seen
    )


def _pages(run: Run, window: dict[str, Any]) -> Iterator[MediaPage]:
    """Follow the tokens and nothing else."""
    token: str | None = None
    while True:
        page = operations.list_media_basic_infos(run.client, **window, next_token=token).value
        yield page
        if not (token := page.next_token):
            return


@question(
    "Is TotalCount the number of all matches?",
    belief="It is; a listing that is shorter is not whole.",
    where="retention/listing.py",
    if_not="A plan is refused as incomplete though it is whole, or taken for whole though it is not.",
)
def total_count(run: Run) -> Answer:
    window = _window(run)
    totals = [
        operations.list_media_basic_infos(run.client, **window, max_results=n).value.total for n in (1, 100)
    ]
    value = {"of_a_page_of_1": totals[0], "of_a_page_of_100": totals[1], "own_media": NEEDED}
    return Answer(value, all(total is not None and total >= NEEDED for total in totals))


@question(
    "Is StartTime exclusive and EndTime inclusive?",
    belief="Both as documented, to the second.",
    where="retention/listing.py, which splits a library into windows that meet",
    if_not="Windows overlap, which is harmless, or leave a second out, which a plan notices by TotalCount.",
)
def bounds_of_a_window(run: Run) -> Answer:
    first, _ = _first_and_last(run)

    def lists_first(start: str, end: str) -> bool:
        media = operations.list_all_media(run.client, start_time=start, end_time=end)
        return any(medium.media_id == run.media.some(NEEDED)[0].media_id for medium in media)

    at_end = lists_first(moved(first, -1), first)
    at_start = lists_first(first, moved(first, 1))
    value = {
        "StartTime": "inclusive" if at_start else "exclusive",
        "EndTime": "inclusive" if at_end else "exclusive",
    }
    return Answer(value, at_end and not at_start)


@question(
    "Are media listed in the order of their creation?",
    belief="SortBy=asc gives the oldest first.",
    where="retention/listing.py",
    if_not="A plan whose listing is cut short goes on from the wrong time; it notices by TotalCount.",
)
def order_of_a_listing(run: Run) -> Answer:
    times = [
        read_time(medium.created)
        for medium in operations.list_all_media(run.client, **_window(run), sort_by="asc", max_results=50)
    ]
    known = [moment for moment in times if moment]
    return Answer(
        {"ascending": all(a <= b for a, b in pairwise(known)), "without_time": len(times) - len(known)},
        len(known) == len(times) and all(a <= b for a, b in pairwise(known)),
    )


@question(
    "Does paging skip media when those of an earlier page are deleted meanwhile?",
    belief="Nothing is known; the code collects first and deletes afterwards.",
    where="retention/plan.py",
    if_not="Nothing there depends on it.",
)
def paging_while_deleting(run: Run) -> Answer:
    window = {**_window(run), "sort_by": "asc", "max_results": 10}
    before = _own(run, list(operations.list_all_media(run.client, **{**window, "max_results": 100})))
    page = operations.list_media_basic_infos(run.client, **window).value
    if not page.next_token:
        raise NotTold("there is no second page")
    doomed = run.media.take(5, of=[medium.media_id for medium in page.media])
    operations.delete_media_infos(
        run.client, media_ids=[own.media_id for own in doomed], delete_physical_files=False
    )
    until(lambda: operations.get_media_info(run.client, media_id=doomed[-1].media_id).value is None, 30)
    following = operations.list_media_basic_infos(run.client, **window, next_token=page.next_token).value
    expected = before[10:20]
    skipped = len(set(expected) - {medium.media_id for medium in following.media})
    return Answer({"skipped": skipped, "deleted_meanwhile": 5}, None)
