from __future__ import annotations

import faulthandler
import random
import re
import signal
import threading
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import BaseOperator, TaskDeferred

from airflow_provider_ims.api.client import IMSClient
from airflow_provider_ims.emulator import Emulator
from airflow_provider_ims.exceptions import IMSAuthError
from airflow_provider_ims.hooks.ims import IMSHook
from airflow_provider_ims.pytest_plugin import MakeConnection
from airflow_provider_ims.triggers.events import WaitTimedOut
from airflow_provider_ims.triggers.wait import MediaWait, wait_until_gone
from tests.triggers.requests_at_once import most_at_once


@pytest.fixture(autouse=True)
def connection(ims_connection: str, make_ims_connection: MakeConnection) -> MakeConnection:
    return make_ims_connection


def wait(ids: list[str], **options: Any) -> None:
    wait_until_gone(
        BaseOperator(task_id="waits"),
        MediaWait(IMSHook(), "media_id", ids),
        **{
            "poll_interval": 0.3,
            "deadline": time.time() + 15,
            "deferrable": False,
            "kwargs": {"result": {"deleted": 3}},
            **options,
        },
    )


def test_returns_when_all_are_gone_and_asks_only_for_what_is_left(ims_emulator: Emulator) -> None:
    ids = ims_emulator.generate(40)
    hook = IMSHook()
    hook.delete_media_infos(media_ids=ids[:20])
    threading.Timer(1, lambda: hook.delete_media_infos(media_ids=ids[20:])).start()
    wait(ids)
    first, second, *later = ims_emulator.requests("BatchGetMediaInfos")
    assert {len(first["targets"]), len(second["targets"])} == {20}
    assert later
    assert all(sorted(request["targets"]) == sorted(ids[20:]) for request in later)


def test_says_how_many_are_left_when_time_is_up(ims_emulator: Emulator) -> None:
    ids = ims_emulator.generate(3)
    with pytest.raises(WaitTimedOut, match="3 were still pending"):
        wait(ids, deadline=time.time() + 1)


def test_defers_with_what_is_left(ims_emulator: Emulator) -> None:
    ids = ims_emulator.generate(3)
    IMSHook().delete_media_infos(media_ids=ids[:1])
    with pytest.raises(TaskDeferred) as caught:
        wait(ids, deferrable=True)
    assert caught.value.trigger.serialize()[1]["media_ids"] == ids[1:]
    assert caught.value.method_name == "execute_complete"
    assert caught.value.kwargs == {"result": {"deleted": 3}}


def test_what_is_gone_is_not_deferred(ims_emulator: Emulator) -> None:
    wait(["0123456789abcdef0123456789abcdef"], deferrable=True)


def test_a_refusal_ends_it_with_few_requests(ims_emulator: Emulator, connection: MakeConnection) -> None:
    connection(password="wrong")
    with pytest.raises(IMSAuthError):
        wait(ims_emulator.generate(1000))
    assert ims_emulator.stats()["requests"] <= 20


def test_trouble_after_the_first_look_is_ridden_out(
    ims_emulator: Emulator,
    connection: MakeConnection,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids = ims_emulator.generate(2)
    connection(extra={"retry_seconds": 0})
    monkeypatch.setitem(IMSClient.__init__.__kwdefaults__, "min_tries", 2)
    ims_emulator.add_fault("reset", action="BatchGetMediaInfos", skip=1, times=2)
    threading.Timer(1.5, lambda: IMSHook().delete_media_infos(media_ids=ids)).start()
    wait(ids)
    assert "This look failed" in caplog.text


class TaskTimeout(BaseException):
    """What Airflow raises in a signal handler."""


@pytest.fixture
def strike() -> Iterator[None]:
    """Lets ``signal.setitimer`` raise; a look that never ends is told by all stacks, and ends the tests."""

    def raise_time_out(*_: object) -> None:
        raise TaskTimeout

    before = signal.signal(signal.SIGALRM, raise_time_out)
    faulthandler.dump_traceback_later(280, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_a_look_can_be_struck_by_a_signal_at_any_time(ims_emulator: Emulator, strike: None) -> None:
    ids = ims_emulator.generate(60)
    media = MediaWait(IMSHook(), "media_id", ids)
    assert not media.is_over()
    chance = random.Random(1)
    struck = 0
    for _ in range(150):
        try:
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.0005, 0.03))
            media.is_over()
            signal.setitimer(signal.ITIMER_REAL, 0)
        except TaskTimeout:
            struck += 1
        assert sorted(media.pending) == sorted(ids)
    assert struck > 20
    deadline = time.monotonic() + 60
    while looking := [one.name for one in threading.enumerate() if one.name.startswith("ims-look")]:
        assert time.monotonic() < deadline, looking
        time.sleep(0.05)


def test_a_worker_that_waits_says_how_many_are_shown(
    ims_emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    ids = ims_emulator.generate(3)
    with caplog.at_level("INFO"), pytest.raises(WaitTimedOut):
        wait([*ids, "absent"], deadline=time.time() + 1.2)
    assert caplog.text.count("1 of 4 media is gone.") == 1


def test_a_look_at_many_asks_side_by_side(ims_emulator: Emulator) -> None:
    ids = ims_emulator.generate(2000)
    ims_emulator.add_fault("delay", milliseconds=30)
    wait = MediaWait(IMSHook(), "media_id", [*ids, *(f"absent-{number}" for number in range(2000))])
    assert not wait.is_over()
    assert wait.pending == ids
    assert most_at_once(ims_emulator.requests("BatchGetMediaInfos")) >= 4


def test_a_long_look_says_how_far_it_is(
    ims_emulator: Emulator,
    connection: MakeConnection,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection(extra={"retry_seconds": 60})
    monkeypatch.setattr("airflow_provider_ims.triggers.log_interval.LOG_SECONDS", 0.5)
    ims_emulator.add_fault("limit", rate=100)
    shown = ims_emulator.generate(20)
    wait = MediaWait(IMSHook(), "media_id", [*shown, *(f"absent-{number}" for number in range(3000))])
    began = time.monotonic()
    with caplog.at_level("INFO"):
        assert not wait.is_over()
    told = [
        (int(gone.replace(",", "")), total)
        for gone, total in re.findall(r"([\d,]+) of ([\d,]+) media are gone\.", caplog.text)
    ]
    assert 2 <= len(told) <= (time.monotonic() - began) / 0.5
    assert {total for _, total in told} == {"3,020"}
    assert sorted(told) == told
    assert told[0][0] < told[-1][0] < 3000
    assert wait.describe() == "3,000 of 3,020 media are gone."


def test_a_look_at_a_report_of_200000_lines_needs_little_memory(
    monkeypatch: pytest.MonkeyPatch, connection: MakeConnection
) -> None:
    monkeypatch.setattr("airflow_provider_ims.triggers.wait.still_pending", lambda *_: set())
    wait = MediaWait(IMSHook(), "media_id", (f"{number:032x}" for number in range(200_000)))
    tracemalloc.start()
    try:
        assert wait.is_over()
        assert tracemalloc.get_traced_memory()[1] < 3e6
    finally:
        tracemalloc.stop()
