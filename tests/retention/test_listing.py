"""A listing is whole, or an error. What the service does to it here was seen, documented or feared."""

from __future__ import annotations

import json
import logging
import os
import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from airflow_provider_ims.api.errors import IMSAPIError, IMSPermissionError
from airflow_provider_ims.api.times import read_time, write_time
from airflow_provider_ims.retention import listing
from airflow_provider_ims.retention.listing import list_whole
from airflow_provider_ims.retention.plan import read_caps, write_plan
from airflow_provider_ims.retention.policy import make_policy
from tests.retention.listing_service import Faults, ListingService, Medium, any_library, library, text_of

GENERATED_RUNS = int(os.environ.get("GENERATED_RUNS", "100"))


@pytest.fixture(scope="module")
def running_service() -> Iterator[ListingService]:
    with ListingService() as service:
        yield service


@pytest.fixture(params=[listing.MIN_MEDIA_TO_CUT, 120], ids=["", "cut small"])
def service(
    running_service: ListingService, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> ListingService:
    """Small libraries are cut into time windows as large ones are, if the tests shall see that."""
    monkeypatch.setattr(listing, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(listing, "MIN_MEDIA_TO_CUT", request.param)
    return running_service


def listed(service: ListingService, until: float | None = None) -> list[str]:
    moment = datetime.fromtimestamp(time.time() if until is None else until, UTC)
    client = service.client(retry_seconds=10)
    try:
        return [medium.media_id for medium in list_whole(client, moment)]
    finally:
        client.close()


def check_whole(service: ListingService) -> None:
    """List, and hold the result against what is there."""
    there = [medium.media_id for medium in service.media]
    found = listed(service)
    assert len(found) == len(set(found))
    assert sorted(found) == sorted(there)


@pytest.mark.parametrize("count", [0, 1, 2, 99, 100, 101, 199, 200, 201, 1000])
def test_lists_everything(service: ListingService, count: int) -> None:
    service.load(library(count))
    check_whole(service)
    cuts = count // (listing.MIN_MEDIA_TO_CUT // 4)
    assert service.requests <= count / 99 + 4 + 2 * cuts


@pytest.mark.parametrize("count", [1, 99, 100, 101, 350])
def test_media_of_one_second(service: ListingService, count: int) -> None:
    now = time.time() - 3600
    service.load([Medium(f"{number:032x}", int(now)) for number in range(count)])
    check_whole(service)


def test_crowded_seconds_among_others(service: ListingService) -> None:
    service.load(library(2000, per_second=150))
    check_whole(service)


def test_ends_at_the_second_asked_for(service: ListingService) -> None:
    now = int(time.time() - 3600)
    service.load([Medium(f"{number:032x}", now + number) for number in range(300)])
    assert len(listed(service, until=now + 120)) == 121


FAULTS = {
    "only the first 100 matches": Faults(cap=100),
    "only the first 100 matches, and no more are counted": Faults(cap=100, total_is_capped=True),
    "only the first 10 matches, and no more are counted": Faults(cap=10, total_is_capped=True),
    "short pages": Faults(short_pages=0.5),
    "an empty page in the middle": Faults(empty_pages=0.2),
    "skipped entries": Faults(skips=0.3),
    "repeated entries": Faults(repeats=0.5),
    "lost tokens": Faults(lost_tokens=1),
    "newest first": Faults(order="desc"),
    "no order": Faults(order="random"),
    "no order, and only 100 matches are shown and counted": Faults(
        cap=100, total_is_capped=True, order="random"
    ),
    "an inclusive start": Faults(start_is_inclusive=True),
}


@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS.keys())
def test_completes_in_spite_of(service: ListingService, faults: Faults) -> None:
    service.load(library(730, seed=1, per_second=3), faults)
    check_whole(service)


def test_a_wrong_order_that_adds_up(service: ListingService) -> None:
    """The newest in place of the oldest: as many as there should be, and not those that are there."""
    service.load(library(300, per_second=1), Faults(order="swapped once"))
    check_whole(service)


def test_fractions_of_seconds_that_are_not_shown(service: ListingService) -> None:
    rng = random.Random(2)
    newest = int(time.time() - 7200)
    service.load([Medium(f"{number:032x}", newest - rng.random() * 20) for number in range(1500)])
    check_whole(service)


@pytest.mark.parametrize("readable", [0.0, 0.02, 0.9])
def test_media_without_a_creation_time(service: ListingService, readable: float) -> None:
    rng = random.Random(3)
    media = library(400, seed=3)
    for medium in media:
        if rng.random() > readable:
            medium.basic = {"CreateTime": rng.choice([None, "", "yesterday", "2026-01-01"])}
    service.load(media)
    check_whole(service)


def test_media_without_a_creation_time_are_listed_once(service: ListingService) -> None:
    """Nothing tells which second they belong to, so they may be met in one stretch and again in the next."""
    rng = random.Random(302)
    service.load(any_library(rng, 3000), seed=302)
    check_whole(service)
    rng = random.Random(102)
    any_faults(rng)
    service.load(any_library(rng, 1500), Faults(start_is_inclusive=True), 102)
    check_whole(service)


def test_media_that_others_delete_meanwhile(service: ListingService) -> None:
    service.load(library(1000, seed=4), Faults(deletes=5))
    before = {medium.media_id for medium in service.media}
    found = listed(service)
    after = {medium.media_id for medium in service.media}
    assert len(found) == len(set(found))
    assert after <= set(found) <= before
    assert len(after) < len(before)


@pytest.mark.parametrize("calm_from", [None, 6], ids=["all the while", "at first"])
def test_a_crowded_second_in_which_others_delete_and_register(
    service: ListingService, calm_from: int | None
) -> None:
    """One that is deleted moves the others across a page's end; one that is added makes the count right again."""
    created = int(time.time() - 7200)
    for seed in range(10):
        media = [Medium(f"{number:032x}", created) for number in range(443)]
        service.load(media, Faults(deletes=1, adds_late=1, calm_from=calm_from), seed)
        before = {medium.media_id for medium in media}
        with suppress(IMSAPIError) if calm_from is None else nullcontext():
            found = set(listed(service))
            assert before & {medium.media_id for medium in service.media} <= found


def test_a_gap_in_a_page_that_one_who_is_added_makes_up_for(service: ListingService) -> None:
    for seed in range(20):
        media = library(1000, seed=seed)
        service.load(media, Faults(skips=0.3, deletes=1, adds_late=1), seed)
        before = {medium.media_id for medium in media}
        with suppress(IMSAPIError):
            found = set(listed(service))
            assert before & {medium.media_id for medium in service.media} <= found


NEVER_WHOLE = {
    "more in one second than are shown": Faults(cap=100),
    "more in one second than are shown and counted": Faults(cap=100, total_is_capped=True),
    "tokens that are never accepted": Faults(bad_tokens=1),
    "tokens that are never given": Faults(lost_tokens=1),
    "tokens that never end": Faults(endless_tokens=True),
    "a medium that is counted and never shown": Faults(skips=1),
    "no count is told": Faults(wrong_total=None),
    "nothing is counted": Faults(wrong_total=0),
    "less is counted": Faults(wrong_total=7),
    "more is counted": Faults(wrong_total=7000),
    "nothing is shown": Faults(empty_pages=1),
}


@pytest.mark.parametrize("faults", NEVER_WHOLE.values(), ids=NEVER_WHOLE.keys())
def test_fails_rather_than_show_a_part(service: ListingService, faults: Faults) -> None:
    now = int(time.time() - 3600)
    service.load([Medium(f"{number:032x}", now - number // 200) for number in range(400)], faults)
    with pytest.raises(IMSAPIError) as raised:
        listed(service)
    assert raised.value.code == "IncompleteListing"
    assert "TotalCount" in str(raised.value) or "may not be all" in str(raised.value)


def test_fails_when_the_window_is_not_kept_to(service: ListingService) -> None:
    service.load(library(300), Faults(ignores_start=True))
    with pytest.raises(IMSAPIError, match="asked for media created from"):
        listed(service)


def test_a_refusal_is_not_taken_for_the_end(service: ListingService) -> None:
    service.load(library(300), Faults(throttles=1))
    client = service.client(retry_seconds=0.1)
    with pytest.raises(IMSAPIError, match="Throttling"):
        list(list_whole(client, datetime.now(UTC)))


def any_faults(rng: random.Random) -> Faults:
    """Put two or three ways to misbehave together."""
    faults = Faults()
    ways = {
        "cap": 100,
        "short_pages": rng.random(),
        "empty_pages": rng.random() / 4,
        "skips": rng.random() / 3,
        "repeats": rng.random(),
        "bad_tokens": rng.random() / 2,
        "lost_tokens": rng.random(),
        "throttles": 0.03,
        "unavailable": 0.03,
        "resets": 0.03,
        "deletes": rng.randint(1, 5),
        "adds": rng.randint(1, 5),
        "adds_late": rng.randint(1, 2),
        "calm_from": rng.randint(2, 20),
        "total_is_capped": True,
        "start_is_inclusive": True,
        "order": rng.choice(["desc", "random"]),
    }
    for name in rng.sample(sorted(ways), rng.choice([1, 2, 2, 3])):
        setattr(faults, name, ways[name])
    return faults


def test_generated_runs(service: ListingService) -> None:
    """None of many libraries under many faults is listed wrongly without an error."""
    outcomes: Counter[str] = Counter()
    for seed in range(GENERATED_RUNS):
        rng = random.Random(seed)
        faults = any_faults(rng)
        media = any_library(rng, 1500)
        service.load(media, faults, seed)
        before = {medium.media_id for medium in media}
        try:
            found = listed(service, until=time.time() - 60)
        except IMSAPIError as error:
            outcomes[error.code] += 1
            continue
        now = {medium.media_id for medium in service.media}
        assert len(found) == len(set(found)), (seed, faults)
        assert before & now <= set(found), (seed, faults)
        assert not [one for one in set(found) - before if not one.startswith("added")], (seed, faults)
        outcomes["whole"] += 1
    print(f"\n{GENERATED_RUNS:,} generated listings: {dict(outcomes)}, 0 wrong without an error")
    # A listing that always fails would be right, and of no use.
    assert outcomes["whole"] > GENERATED_RUNS * 0.8


def test_generated_plans(service: ListingService, tmp_path: Path) -> None:
    """Plans of libraries of awkward shapes are what a naive selection of what is there gives."""
    as_of = datetime.fromtimestamp(int(time.time()) - 1800, UTC)
    policy = make_policy(as_of=as_of, older_than="P30D", exclude_tags="hold")
    limit = policy.created_before.timestamp()
    for seed in range(GENERATED_RUNS // 2):
        rng = random.Random(seed)
        media = any_library(rng, 3000)
        service.load(media, Faults(throttles=0.02, resets=0.02, unavailable=0.02), seed)
        client = service.client(retry_seconds=10)
        plan = write_plan(
            str(tmp_path / "plan.jsonl"),
            list_whole(client, as_of),
            policy=policy,
            caps=read_caps(None, None),
            as_of=as_of,
            region=None,
            host="h",
        )
        client.close()
        naive = sorted(
            (text_of(medium.created), medium.media_id)
            for medium in media
            if medium.created < limit and medium.basic in ({}, {"Title": None})
        )
        rows = [json.loads(line) for line in (tmp_path / "plan.jsonl").read_text().splitlines()[1:]]
        assert [(row["created"], row["media_id"]) for row in rows] == naive, seed
        assert plan.header["population"] == len(media), seed


def test_windows_are_listed_side_by_side_and_only_so_many(running_service: ListingService) -> None:
    """Creation times are uneven: nearly all media were created in one hour of ten years."""
    hour = int(time.time()) - 5 * 365 * 86400
    media = [Medium(f"{number:032x}", hour + number % 3600) for number in range(9000)]
    media += [Medium(f"{number:032x}", hour + (number - 9500) * 300_000) for number in range(9000, 10_000)]
    running_service.load(media, seconds=0.3)
    check_whole(running_service)
    assert 4 <= running_service.most_in_flight <= listing.MAX_WINDOWS
    assert running_service.requests <= len(media) / 99 * 2


def test_a_refusal_of_the_first_request_is_one(service: ListingService) -> None:
    service.load(library(5000), Faults(refuses_from=1), seconds=0.01)
    with pytest.raises(IMSPermissionError):
        listed(service)
    assert service.requests == 1


def test_a_refusal_ends_all_windows(service: ListingService) -> None:
    service.load(library(20_000), Faults(refuses_from=60), seconds=0.02)
    with pytest.raises(IMSPermissionError):
        listed(service)
    assert service.requests < 60 + listing.MAX_WINDOWS


def windows_end() -> bool:
    """Whether the threads of all windows end, once an answer that is under way has come."""
    deadline = time.monotonic() + 20
    while at_work := any(thread.name.startswith("list ") for thread in threading.enumerate()):
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)
    return not at_work


def test_a_listing_that_is_given_up_ends(service: ListingService) -> None:
    service.load(library(20_000), seconds=0.02)
    client = service.client()
    with closing(list_whole(client, datetime.now(UTC))) as media:
        for _ in range(2000):
            next(media)
    assert windows_end()
    asked = service.requests
    time.sleep(0.1)
    assert service.requests == asked < 250


class TaskTimeout(BaseException):
    """What Airflow raises in a signal handler."""


def test_a_time_out_of_the_task_ends_a_listing_that_waits(service: ListingService) -> None:
    """Airflow's comes as an exception out of a signal handler, while answers are waited for."""

    def strike(*_: object) -> None:
        raise TaskTimeout

    before = signal.signal(signal.SIGALRM, strike)
    try:
        for after in (0.05, 0.3, 0.7):
            service.load(library(20_000), seconds=0.2)
            client = service.client()
            media = list_whole(client, datetime.now(UTC))
            signal.setitimer(signal.ITIMER_REAL, after)
            with pytest.raises(TaskTimeout):
                sum(1 for _ in media)
            assert windows_end()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_time_out_of_the_task_ends_a_listing_that_begins(
    service: ListingService, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def be_struck(thread: threading.Thread) -> None:
        start(thread)
        if thread.name.startswith("list "):  # and not one of the service
            raise TaskTimeout

    service.load(library(20_000))
    media = list_whole(service.client(), datetime.now(UTC))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", be_struck)
        with pytest.raises(TaskTimeout):
            next(media)
    assert windows_end()


def test_progress_is_logged(
    service: ListingService, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "SECONDS_BETWEEN_LOG_LINES", 0)
    service.load(library(250))
    with caplog.at_level(logging.INFO):
        listed(service)
    assert re.search(r"Listed \d+ of 2\d\d media; time windows being listed: \d\.", caplog.text)


@pytest.mark.parametrize(
    "text", [None, "", "2026-01-31", "2026-01-31T12:00:00", "31.01.2026", "1769860800", "soon"]
)
def test_what_names_no_moment_is_not_guessed(text: str | None) -> None:
    assert read_time(text) is None


def test_times_are_read_and_written_as_the_service_does() -> None:
    moment = read_time("2026-01-31T20:00:00+08:00")
    assert moment == read_time("2026-01-31T12:00:00Z")
    assert moment is not None
    assert write_time(moment) == "2026-01-31T12:00:00Z"
