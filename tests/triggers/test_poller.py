from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import multiprocessing
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_ims.api.client import IMSClient
from airflow_provider_ims.emulator import Emulator
from airflow_provider_ims.exceptions import IMSAPIError, IMSAuthError, IMSPermissionError
from airflow_provider_ims.hooks.ims import IMSHook
from airflow_provider_ims.pytest_plugin import MakeConnection
from airflow_provider_ims.triggers import ims as triggers
from airflow_provider_ims.triggers import poller
from airflow_provider_ims.triggers.events import raise_unless_over
from airflow_provider_ims.triggers.ims import IMSMediaDeletedTrigger, IMSTranscodeJobTrigger
from airflow_provider_ims.triggers.poller import Poller
from tests.triggers.requests_at_once import most_at_once

Trigger = IMSMediaDeletedTrigger | IMSTranscodeJobTrigger
Event = dict[str, Any]

OVER = {"status": "over", "pending": 0}


@pytest.fixture(autouse=True)
def connection(
    ims_connection: str, make_ims_connection: MakeConnection, monkeypatch: pytest.MonkeyPatch
) -> MakeConnection:
    monkeypatch.setattr(triggers, "MIN_SECONDS", 0)
    return make_ims_connection


async def event_of(trigger: Trigger) -> Event:
    events = [event.payload async for event in trigger.run()]
    assert len(events) == 1
    return json.loads(json.dumps(events[0]))


def start(triggers: Iterable[Trigger]) -> list[asyncio.Task[Event]]:
    return [asyncio.create_task(event_of(trigger)) for trigger in triggers]


def gone(*media_ids: str, seconds: float = 30, interval: float = 1, **kwargs: Any) -> IMSMediaDeletedTrigger:
    return IMSMediaDeletedTrigger(
        media_ids or None, poll_interval=interval, deadline=time.time() + seconds, **kwargs
    )


def delete(ids: list[str]) -> None:
    hook = IMSHook()
    for at in range(0, len(ids), 20):
        hook.delete_media_infos(media_ids=ids[at : at + 20])
    hook.client.close()


def _is_ours(thread: threading.Thread) -> bool:
    return thread.name.startswith("ims-")


def run(main: Callable[[], Any]) -> Any:
    """Run a test in an event loop, in which nothing may be left afterwards."""

    async def checked() -> Any:
        result = await main()
        await asyncio.sleep(0.3)
        # Requests that were under way may have some time to go.
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and any(map(_is_ours, threading.enumerate())):
            await asyncio.sleep(0.1)
        loop: Any = asyncio.get_running_loop()
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
        assert [thread.name for thread in threading.enumerate() if _is_ours(thread)] == []
        assert [timer for timer in loop._scheduled if not timer.cancelled()] == []
        assert Poller._running == {}
        return result

    return asyncio.run(checked())


def asked(emulator: Emulator, action: str = "BatchGetMediaInfos") -> list[dict[str, Any]]:
    return emulator.requests(action)


def test_different_tasks_share_requests(ims_emulator: Emulator) -> None:
    ids = ims_emulator.generate(60)

    async def main() -> list[Event]:
        tasks = start(gone(media_id, interval=2) for media_id in ids)
        await asyncio.sleep(3.5)
        await asyncio.to_thread(delete, ids)
        return await asyncio.gather(*tasks)

    assert run(main) == [OVER] * 60
    sizes = [len(request["targets"]) for request in asked(ims_emulator)]
    assert len(sizes) <= 3 * 4
    assert max(sizes) == 20


def test_intervals_are_respected(ims_emulator: Emulator) -> None:
    quick, slow = ims_emulator.generate(2)

    async def main() -> list[Event]:
        return await asyncio.gather(
            *start([gone(quick, interval=1, seconds=6.5), gone(slow, interval=4, seconds=6.5)])
        )

    assert run(main) == [{"status": "timed_out", "pending": 1}] * 2
    times = defaultdict(list)
    for request in asked(ims_emulator):
        for media_id in request["targets"]:
            times[media_id].append(request["at"])
    # In each second but the first, until the one in which the deadline is over: 7 or 8, as the clock stands.
    assert 5 <= len(times[quick]) <= 8
    # One look after its interval, and the last one at its deadline.
    assert len(times[slow]) == 2
    assert times[slow][1] - times[slow][0] >= 2


def test_urls_and_jobs_are_asked_for_one_by_one(ims_emulator: Emulator) -> None:
    ims_emulator.generate(3)
    urls = [medium["url"] for medium in ims_emulator.library()]
    jobs = [ims_emulator.add_job(outputs=["oss://b/o.mp4"], seconds=2)["ParentJobId"] for _ in range(3)]

    async def main() -> list[Event]:
        tasks = start(
            [
                IMSMediaDeletedTrigger(input_urls=urls, poll_interval=1, deadline=time.time() + 20),
                *(IMSTranscodeJobTrigger(job, poll_interval=1, deadline=time.time() + 20) for job in jobs),
            ]
        )
        await asyncio.sleep(2.5)
        await asyncio.to_thread(IMSHook().delete_media_infos, input_urls=urls)
        return await asyncio.gather(*tasks)

    assert run(main) == [OVER] * 4
    assert {len(request["targets"]) for request in asked(ims_emulator, "GetMediaInfo")} == {1}
    assert len({request["targets"][0] for request in asked(ims_emulator, "GetTranscodeJob")}) == 3


def test_a_job_with_a_failed_part_is_over(ims_emulator: Emulator) -> None:
    job = ims_emulator.add_job(outputs=["oss://b/1.mp4", "oss://b/2.mp4"])["ParentJobId"]
    ims_emulator.put_job(job, ["Processing", "Fail"])
    assert run(lambda: event_of(IMSTranscodeJobTrigger(job, poll_interval=1))) == OVER


@pytest.mark.parametrize("state", ["Processing", "Suspended", ""])
def test_a_job_in_any_other_state_is_running(ims_emulator: Emulator, state: str) -> None:
    job = ims_emulator.add_job(outputs=["oss://b/1.mp4", "oss://b/2.mp4"])["ParentJobId"]
    ims_emulator.put_job(job, ["Success", state])
    event = run(lambda: event_of(IMSTranscodeJobTrigger(job, poll_interval=1, deadline=time.time() + 2.5)))
    assert event == {"status": "timed_out", "pending": 1}


def test_a_withdrawn_key_is_refused_once_and_told_to_all(
    ims_emulator: Emulator, connection: MakeConnection
) -> None:
    ids = ims_emulator.generate(600)
    ims_emulator.add_key("withdrawn", "its-secret", actions=["ice:*"])
    connection(login="withdrawn", password="its-secret")

    async def main() -> list[Event]:
        tasks = start(gone(media_id, interval=3) for media_id in ids)
        await asyncio.sleep(4.5)
        await asyncio.to_thread(
            ims_emulator.add_key, "withdrawn", "its-secret", actions=["ice:*"], status="inactive"
        )
        return await asyncio.gather(*tasks)

    events = run(main)
    for event in events:
        with pytest.raises(IMSAuthError) as caught:
            raise_unless_over(event)
        assert caught.value.code == "InvalidAccessKeyId.Inactive"
        assert caught.value.request_id
        assert caught.value.http_status
        assert caught.value.action == "BatchGetMediaInfos"
    refused = [request for request in asked(ims_emulator) if request["status"] != 200]
    assert len(refused) <= 2
    assert "its-secret" not in json.dumps(events)


def test_who_comes_after_a_refusal_uses_the_connection_as_it_is_then(
    ims_emulator: Emulator, connection: MakeConnection
) -> None:
    (media_id,) = ims_emulator.generate(1)

    async def main() -> tuple[Event, Event]:
        connection(password="wrong")
        (refused,) = await asyncio.gather(*start([gone(media_id)]))
        connection()
        (tried_again,) = await asyncio.gather(*start([gone(media_id, seconds=3)]))
        return refused, tried_again

    refused, tried_again = run(main)
    assert refused["error"]["type"] == "IMSAuthError"
    assert tried_again == {"status": "timed_out", "pending": 1}


def test_a_rotated_key_ends_nobody_s_waiting(
    ims_emulator: Emulator, connection: MakeConnection, caplog: pytest.LogCaptureFixture
) -> None:
    ids = ims_emulator.generate(30)
    ims_emulator.add_key("before", "its-secret", actions=["ice:*"])
    ims_emulator.add_key("after", "its-secret", actions=["ice:*"])
    connection(login="before", password="its-secret")

    async def main() -> list[Event]:
        tasks = start(gone(media_id) for media_id in ids)
        await asyncio.sleep(2.5)
        connection(login="after", password="its-secret")
        await asyncio.to_thread(
            ims_emulator.add_key, "before", "its-secret", actions=["ice:*"], status="inactive"
        )
        await asyncio.sleep(2.5)
        assert not any(task.done() for task in tasks)
        connection(conn_id="ims_deleting")
        hook = IMSHook("ims_deleting")
        for at in (0, 15):
            await asyncio.to_thread(hook.delete_media_infos, media_ids=ids[at : at + 15])
        return await asyncio.gather(*tasks)

    with caplog.at_level(logging.INFO, poller.__name__):
        assert run(main) == [OVER] * 30
    assert caplog.text.count("has changed") == 1
    assert {request["key_id"] for request in asked(ims_emulator)} - {""} == {"before", "after"}


def test_a_changed_proxy_is_followed_while_nothing_is_refused(
    ims_emulator: Emulator, connection: MakeConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    (media_id,) = ims_emulator.generate(1)
    monkeypatch.setattr(poller, "RELOAD_SECONDS", 1)
    clients = []
    still_pending = poller.still_pending

    def note(client: Any, *args: Any) -> set[str]:
        clients.append(client)
        return still_pending(client, *args)

    monkeypatch.setattr(poller, "still_pending", note)

    async def main() -> list[Event]:
        tasks = start([gone(media_id, seconds=8)])
        await asyncio.sleep(2.5)
        connection(extra={"max_requests_per_second": 7})
        await asyncio.sleep(2.5)
        monkeypatch.delenv("AIRFLOW_CONN_IMS_DEFAULT")
        return await asyncio.gather(*tasks)

    assert run(main) == [{"status": "timed_out", "pending": 1}]
    assert len(set(clients)) == 2
    assert len(asked(ims_emulator)) >= 7


def test_after_a_fork_the_child_has_a_poller_of_its_own(ims_emulator: Emulator) -> None:
    ids = ims_emulator.generate(2)
    forking = multiprocessing.get_context("fork")
    events = forking.Queue()

    def child() -> None:
        events.put(asyncio.run(event_of(gone(ids[1], seconds=2))))

    async def main() -> Event:
        tasks = start([gone(ids[0], seconds=6)])
        await asyncio.sleep(2)
        process = forking.Process(target=child)
        process.start()
        await asyncio.to_thread(process.join, 20)
        assert process.exitcode == 0
        return await tasks[0]

    assert run(main) == events.get(timeout=60) == {"status": "timed_out", "pending": 1}


def test_each_task_s_log_says_once_a_minute_how_many_are_shown(
    ims_emulator: Emulator, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = ims_emulator.generate(3)
    task = contextvars.ContextVar("task")
    said = []

    def note(record: logging.LogRecord) -> bool:
        said.append((task.get(None), record.getMessage()))
        return True

    async def of_task(name: str, trigger: Trigger) -> Event:
        task.set(name)
        return await event_of(trigger)

    async def main() -> None:
        await asyncio.gather(
            of_task("one", gone(ids[0], seconds=4)), of_task("two", gone(*ids[1:], "gone-already", seconds=4))
        )

    monkeypatch.setattr(triggers.log, "filters", [note])
    with caplog.at_level(logging.INFO, triggers.__name__):
        run(main)
    assert sorted(said) == [("one", "0 of 1 media are gone."), ("two", "1 of 3 media is gone.")]


def test_a_missing_permission_is_told_to_those_who_need_it(
    ims_emulator: Emulator, connection: MakeConnection
) -> None:
    ids = ims_emulator.generate(2)
    url = ims_emulator.library()[0]["url"]
    ims_emulator.add_key("ids-only", "its-secret", actions=["ice:BatchGetMediaInfos"])
    connection(login="ids-only", password="its-secret")

    async def main() -> list[Event]:
        by_url = IMSMediaDeletedTrigger(input_urls=[url], poll_interval=1, deadline=time.time() + 20)
        return await asyncio.gather(*start([gone(*ids, seconds=4), by_url]))

    by_id, by_url = run(main)
    assert by_id == {"status": "timed_out", "pending": 2}
    with pytest.raises(IMSPermissionError, match="ice:GetMediaInfo"):
        raise_unless_over(by_url)


def test_a_strict_service_refuses_one_task_and_tells_the_others_what_is_gone(ims_emulator: Emulator) -> None:
    ids = ims_emulator.generate(30)
    ims_emulator.add_fault("otherwise", unknown_ids="refused", malformed_ids="refused")

    async def main() -> list[Event]:
        tasks = start(gone(media_id) for media_id in [*ids[:13], "no.id", *ids[13:]])
        await asyncio.sleep(1.5)
        await asyncio.to_thread(delete, ids)
        return await asyncio.gather(*tasks)

    events = run(main)
    refused = events.pop(13)
    with pytest.raises(IMSAPIError, match=r"no\.id"):
        raise_unless_over(refused)
    assert events == [OVER] * 30


def test_a_value_that_the_service_refuses_is_its_own_tasks_trouble(
    ims_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = ims_emulator.generate(5)
    still_pending = poller.still_pending

    def refuse(client: Any, kind: Any, values: Collection[str], stop: threading.Event) -> set[str]:
        if "bad" in values:
            raise IMSAPIError("MediaIds is not valid", code="InvalidParameter", http_status=400)
        return still_pending(client, kind, values, stop)

    monkeypatch.setattr(poller, "still_pending", refuse)

    async def main() -> list[Event]:
        return await asyncio.gather(*start(gone(value, seconds=4) for value in [*ids, "bad"]))

    *good, bad = run(main)
    assert good == [{"status": "timed_out", "pending": 1}] * 5
    assert bad["error"]["code"] == "InvalidParameter"


def test_a_value_that_can_not_be_asked_for_is_its_own_tasks_trouble(ims_emulator: Emulator) -> None:
    ids = ims_emulator.generate(3)

    async def main() -> list[Event]:
        return await asyncio.gather(*start(gone(value, seconds=4) for value in [*ids, "none"]))

    *good, bad = run(main)
    assert good == [{"status": "timed_out", "pending": 1}] * 3
    assert bad["error"] == {"type": "ValueError", "message": "media_ids: 'none' is not a media id"}


def test_outages_are_ridden_out(
    ims_emulator: Emulator,
    connection: MakeConnection,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids = ims_emulator.generate(30)
    connection(extra={"retry_seconds": 0})
    monkeypatch.setitem(IMSClient.__init__.__kwdefaults__, "min_tries", 2)
    for kind in ("reset", "error"):
        ims_emulator.add_fault(kind, action="BatchGetMediaInfos", times=4)

    async def main() -> list[Event]:
        tasks = start(gone(media_id) for media_id in ids)
        await asyncio.sleep(3)
        await asyncio.to_thread(delete, ids)
        return await asyncio.gather(*tasks)

    with caplog.at_level(logging.WARNING, poller.__name__):
        assert run(main) == [OVER] * 30
    assert len([record for record in caplog.records if record.name == poller.__name__]) == 1


def test_an_outage_at_the_deadline_is_a_time_out(
    ims_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    (media_id,) = ims_emulator.generate(1)
    ims_emulator.add_fault("error", action="BatchGetMediaInfos")
    monkeypatch.setattr(poller, "LAST_LOOK_SECONDS", 1)
    started = time.monotonic()
    assert run(lambda: event_of(gone(media_id, seconds=2))) == {"status": "timed_out", "pending": 1}
    assert time.monotonic() - started < 25


def test_a_deadline_that_has_passed_leaves_one_look(ims_emulator: Emulator) -> None:
    there, other = ims_emulator.generate(2)
    delete([other])
    events = run(lambda: asyncio.gather(*start([gone(there, seconds=-60), gone(other, seconds=-60)])))
    assert [event["status"] for event in events] == ["timed_out", "over"]


def test_cancelled_triggers_leave_and_the_last_one_stops_the_poller(ims_emulator: Emulator) -> None:
    ids = ims_emulator.generate(200)

    async def main() -> None:
        tasks = start(gone(media_id) for media_id in ids)
        await asyncio.sleep(2)
        for task in tasks[:-1]:
            task.cancel()
        await asyncio.sleep(1.5)
        before = len(await asyncio.to_thread(asked, ims_emulator))
        await asyncio.sleep(2.2)
        latest = (await asyncio.to_thread(asked, ims_emulator))[before:]
        assert 1 <= len(latest) <= 3
        assert all(request["targets"] == ids[-1:] for request in latest)
        tasks[-1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run(main)


def test_cancelling_does_not_wait_for_a_request_that_is_tried_again(ims_emulator: Emulator) -> None:
    (media_id,) = ims_emulator.generate(1)
    ims_emulator.add_fault("throttle", action="BatchGetMediaInfos", retry_after=30_000)

    async def main() -> None:
        tasks = start([gone(media_id)])
        await asyncio.sleep(2)
        tasks[0].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(1)

    started = time.monotonic()
    run(main)
    assert time.monotonic() - started < 25


def test_the_event_loop_goes_on_while_a_connection_is_fetched(
    ims_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    (media_id,) = ims_emulator.generate(1)
    get_connection = IMSHook.get_connection

    is_fetching, loop_goes_on = threading.Event(), threading.Event()

    def when_the_loop_went_on(conn_id: str) -> Any:
        is_fetching.set()
        assert loop_goes_on.wait(60)
        return get_connection(conn_id)

    monkeypatch.setattr(IMSHook, "get_connection", staticmethod(when_the_loop_went_on))

    async def main() -> list[Event]:
        tasks = start([gone(media_id, seconds=3)])
        while not is_fetching.is_set():
            await asyncio.sleep(0.01)
        for _ in range(10):
            await asyncio.sleep(0.01)
        loop_goes_on.set()
        return await asyncio.gather(*tasks)

    assert run(main) == [{"status": "timed_out", "pending": 1}]


@pytest.mark.parametrize(
    ("conn_id", "words"),
    [("no_such_connection", "no_such_connection"), ("ims_wrong", "ims_wrong.*read_timeout")],
)
def test_a_connection_that_can_not_be_used_is_an_error_with_words(
    ims_emulator: Emulator, connection: MakeConnection, conn_id: str, words: str
) -> None:
    connection(conn_id="ims_wrong", extra={"read_timeout": "soon"})
    event = run(lambda: event_of(gone("some-id", ims_conn_id=conn_id)))
    with pytest.raises(Exception, match=words):
        raise_unless_over(event)


def test_each_connection_and_region_has_a_poller_of_its_own(
    ims_emulator: Emulator, connection: MakeConnection
) -> None:
    ids = ims_emulator.generate(3)
    connection(conn_id="other")

    async def main() -> int:
        tasks = start(
            [
                gone(ids[0], seconds=3),
                gone(ids[1], seconds=3, ims_conn_id="other"),
                gone(ids[2], seconds=3, region="cn-beijing"),
                gone(ids[0], seconds=3),
            ]
        )
        await asyncio.sleep(0.1)
        count = len(Poller._running)
        await asyncio.gather(*tasks)
        return count

    assert run(main) == 3


def test_no_trigger_ends_so_soon_that_the_scheduler_has_not_seen_it_deferred(
    ims_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triggers, "MIN_SECONDS", 2)
    started = time.monotonic()
    assert run(lambda: event_of(gone(manifest="/no/such/file")))["status"] == "error"
    assert time.monotonic() - started >= 2


def test_a_manifest_is_read_off_the_loop(ims_emulator: Emulator, tmp_path: Path) -> None:
    ids = ims_emulator.generate(25)
    manifest = tmp_path / "ids.txt"
    manifest.write_text("\n".join(ids))

    async def main() -> Event:
        tasks = start([gone(manifest=str(manifest))])
        await asyncio.sleep(1.5)
        await asyncio.to_thread(delete, ids)
        return await tasks[0]

    assert run(main) == OVER


def test_a_manifest_that_can_not_be_read_is_an_error_with_words(tmp_path: Path) -> None:
    event = run(lambda: event_of(gone(manifest=str(tmp_path / "none.txt"))))
    with pytest.raises(ValueError, match=r"none\.txt does not exist"):
        raise_unless_over(event)


@pytest.fixture
def many(ims_emulator: Emulator, tmp_path: Path) -> tuple[list[str], IMSMediaDeletedTrigger]:
    """2,000 media, all but the last 1,000 of them gone, and a trigger that reads them from a file."""
    ids = ims_emulator.generate(2000)
    delete(ids[:1000])
    manifest = tmp_path / "ids.txt"
    manifest.write_text("\n".join(ids))
    ims_emulator.add_fault("delay", milliseconds=30, action="BatchGetMediaInfos")
    return ids, gone(manifest=str(manifest))


def test_many_are_asked_for_side_by_side_and_then_only_what_is_left(
    ims_emulator: Emulator, many: tuple[list[str], IMSMediaDeletedTrigger], caplog: pytest.LogCaptureFixture
) -> None:
    ids, trigger = many

    async def main() -> list[Event]:
        (task,) = start([trigger])
        while len(asked(ims_emulator)) < 100:
            await asyncio.sleep(0.05)
        # Others go on meanwhile.
        (single,) = start([gone(ids[0])])
        await asyncio.to_thread(delete, ids[1000:])
        return [await task, await single]

    with caplog.at_level("INFO"):
        assert run(main) == [OVER, OVER]
    requests = asked(ims_emulator)
    first = requests[:100]
    assert sorted(target for request in first for target in request["targets"]) == sorted(ids)
    assert {target for request in requests[100:] for target in request["targets"]} <= {*ids[1000:], ids[0]}
    assert most_at_once(first) >= 4
    assert caplog.text.count("of 2,000 media are gone") == 1


def test_many_that_stay_are_counted_at_the_deadline(
    ims_emulator: Emulator, many: tuple[list[str], IMSMediaDeletedTrigger]
) -> None:
    _, trigger = many
    deadline = time.time() + 4
    trigger.deadline, trigger.poll_interval = deadline, 60

    async def main() -> list[Event]:
        return await asyncio.gather(*start([trigger]))

    assert run(main) == [{"status": "timed_out", "pending": 1000}]
    requests = asked(ims_emulator)
    looked = max(request["at"] + request["seconds"] for request in requests[:100])
    # The first look at all, and the last one at what was left, unless the first was still under way.
    assert len(requests) == 100 + 50 or (len(requests) == 100 and looked > deadline - 1)


def test_many_are_refused_once(
    ims_emulator: Emulator, many: tuple[list[str], IMSMediaDeletedTrigger], connection: MakeConnection
) -> None:
    connection(password="wrong")
    before = ims_emulator.stats()["requests"]

    async def main() -> list[Event]:
        return await asyncio.gather(*start([many[1]]))

    (event,) = run(main)
    assert event["error"]["type"] == "IMSAuthError"
    assert ims_emulator.stats()["requests"] - before == 1


def test_many_are_waited_for_through_trouble_and_an_end_in_between(
    ims_emulator: Emulator, many: tuple[list[str], IMSMediaDeletedTrigger]
) -> None:
    ims_emulator.add_fault("reset", action="BatchGetMediaInfos", every=5)

    async def main() -> list[Event]:
        task, cut = start([many[1], many[1]])
        await asyncio.sleep(0.5)
        cut.cancel()
        await asyncio.to_thread(delete, many[0][1000:])
        return [await task]

    assert run(main) == [OVER]
