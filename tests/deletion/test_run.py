"""Every target gets the outcome that is true, whatever the service answers. The emulator's books are the truth."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_ims.api.client import IMSClient
from airflow_provider_ims.api.credentials import StaticCredentials
from airflow_provider_ims.api.endpoints import parse_host
from airflow_provider_ims.api.errors import GuardError, OutcomeError
from airflow_provider_ims.api.rate_limit import RateLimiter
from airflow_provider_ims.deletion.policies import OutcomePolicies, check_guards
from airflow_provider_ims.deletion.run import DeletionRun, TargetsUnread
from airflow_provider_ims.deletion.targets import read_targets
from airflow_provider_ims.emulator import Emulator
from airflow_provider_ims.exceptions import (
    IMSAuthError,
    IMSError,
    IMSPermissionError,
    IMSThrottlingError,
    IMSTransientError,
)
from airflow_provider_ims.files.storage import storage_path
from tests.deletion.conftest import MemoryStore, Run, counts

UNKNOWN_IDS = [f"{number:032x}" for number in range(10)]


def lines_of(report: str) -> list[dict[str, Any]]:
    parts = sorted(Path(report).glob("part-*.jsonl"))
    return [json.loads(line) for part in parts for line in part.read_text().splitlines()]


def test_137_media_and_10_unknown_ones(ims_emulator: Emulator, run: Run) -> None:
    library = ims_emulator.generate(137)
    protected = library[::30]
    ims_emulator.protect(protected)
    others = ims_emulator.seed([{"url": f"oss://other/{number}"} for number in range(20)])

    result = run(library + UNKNOWN_IDS + library[:3])

    assert (result["requested"], result["duplicates"]) == (147, 3)
    assert counts(result) == {"deleted": 132, "missing": 10, "forbidden": 5}
    assert set(ims_emulator.media_ids()) == {*protected, *others}
    stats = ims_emulator.stats()
    assert stats["largest_batch"] <= 20
    assert stats["by_action"]["DeleteMediaInfos"] == 8
    assert stats["requests"] == result["requests"] <= 18
    assert set(result["samples"]["forbidden"]) == set(protected)
    assert set(result["samples"]["missing"]) == set(UNKNOWN_IDS)


def test_urls_with_their_files(ims_emulator: Emulator, run: Run) -> None:
    urls = [f"https://bucket.oss-cn-shanghai.aliyuncs.com/a b/中 {number}~*'().mp4" for number in range(25)]
    ims_emulator.seed([{"url": url, "protected": number == 7} for number, url in enumerate(urls)])
    result = run(read_targets(input_urls=[*urls, "oss://bucket/nowhere"]), delete_physical_files=True)
    assert counts(result) == {"deleted": 24, "missing": 1, "forbidden": 1}
    assert {deletion["url"] for deletion in ims_emulator.deleted()} == set(urls) - {urls[7]}
    assert all(deletion["files"] for deletion in ims_emulator.deleted())


def test_files_stay_unless_asked_for(ims_emulator: Emulator, run: Run) -> None:
    run(ims_emulator.generate(3))
    assert [deletion["files"] for deletion in ims_emulator.deleted()] == [False] * 3
    # Sent explicitly: what the service does without it is not documented.
    assert [entry["delete_physical_files"] for entry in ims_emulator.requests("DeleteMediaInfos")] == [False]


def test_a_preview_deletes_nothing_and_says_what_would_be(
    ims_emulator: Emulator, run: Run, tmp_path: Path
) -> None:
    library = ims_emulator.generate(30)
    result = run(library + UNKNOWN_IDS, preview=True, report_base=storage_path(str(tmp_path)))
    assert counts(result) == {"deleted": 30, "missing": 10}
    assert ims_emulator.deleted() == []
    assert result["preview"] is True
    assert "DeleteMediaInfos" not in ims_emulator.stats()["by_action"]
    assert all(line["preview"] for line in lines_of(result["report"]))


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "reset"},
        {"kind": "error", "status": 502, "body": "html"},
        {"kind": "error", "status": 500, "body": "json"},
        {"kind": "error", "status": 503, "body": "none"},
        {"kind": "html"},
        {"kind": "wrong_shape", "shape": "empty"},
        {"kind": "wrong_shape", "shape": "texts_for_lists"},
        {"kind": "timeout"},
    ],
    ids=lambda fault: "-".join(map(str, fault.values())),
)
def test_a_lost_answer_is_neither_a_false_failure_nor_a_false_success(
    ims_emulator: Emulator, run: Run, fault: dict[str, Any], when: str
) -> None:
    library = ims_emulator.generate(60)
    ims_emulator.protect(library[:2])
    ims_emulator.add_fault(**fault, when=when, action="DeleteMediaInfos", times=1)
    result = run(library)
    assert counts(result) == {"deleted": 58, "forbidden": 2}
    assert {deletion["media_id"] for deletion in ims_emulator.deleted()} == set(library[2:])
    if when == "after":
        assert result["inferred"] >= 18
    else:
        assert result["inferred"] == 0


def test_a_truncated_answer_is_a_lost_one(ims_emulator: Emulator, run: Run) -> None:
    library = ims_emulator.generate(20)
    ims_emulator.add_fault("truncated", times=1)
    result = run(library)
    assert (counts(result), result["inferred"], result["retries"]) == ({"deleted": 20}, 20, 1)


def test_only_the_batch_whose_answer_was_lost_is_inferred(ims_emulator: Emulator, run: Run) -> None:
    library = [f"{number:032x}" for number in range(40)]
    ims_emulator.seed([{"media_id": one, "url": f"oss://bucket/{one}"} for one in library])
    ims_emulator.add_fault("reset", when="after", action="DeleteMediaInfos", times=1)
    unknown = [f"f{number:031x}" for number in range(10)]
    result = run(library + unknown, max_concurrency=1)
    # In the order of the ids, the unknown ones share no batch with the first 40, so nothing about them was lost.
    assert counts(result) == {"deleted": 40, "missing": 10}
    assert result["inferred"] == 20


@pytest.mark.parametrize("fault", ["absent_lists", "null_lists"])
def test_lists_may_be_absent_or_null(ims_emulator: Emulator, run: Run, fault: str) -> None:
    library = ims_emulator.generate(5)
    ims_emulator.add_fault(fault)
    assert counts(run(library)) == {"deleted": 5}


def test_echoed_ids_may_carry_white_space(ims_emulator: Emulator, run: Run) -> None:
    library = ims_emulator.generate(10)
    ims_emulator.protect(library[:4])
    ims_emulator.add_fault("echo", before=" ", after=" \n")
    assert counts(run(library + UNKNOWN_IDS)) == {"deleted": 6, "forbidden": 4, "missing": 10}


def test_an_echo_of_something_never_sent_makes_nobody_believe(ims_emulator: Emulator, run: Run) -> None:
    library = ims_emulator.generate(10)
    ims_emulator.protect(library[:1])
    ims_emulator.add_fault("echo", after="-changed", action="DeleteMediaInfos", times=1)
    result = run(library)
    # The refused one hides behind another name; it is found by reading, and refused again under its own.
    assert counts(result) == {"deleted": 9, "forbidden": 1}


@pytest.mark.usefixtures("looks_again_soon")
def test_reads_that_lag_behind_deletions(ims_emulator: Emulator, run: Run) -> None:
    library = ims_emulator.generate(40)
    ims_emulator.add_fault("lagging_reads", milliseconds=700)
    ims_emulator.add_fault("reset", when="after", action="DeleteMediaInfos", times=1)
    result = run(library)
    assert counts(result) == {"deleted": 40}
    assert result["inferred"] == 20


@pytest.mark.usefixtures("looks_again_soon")
def test_somebody_elses_deletion_seen_late_is_missing(ims_emulator: Emulator, run: Run) -> None:
    library = ims_emulator.generate(10)
    ims_emulator.add_fault("lagging_reads", milliseconds=700)
    assert counts(run(library)) == {"deleted": 10}
    assert counts(run(library)) == {"missing": 10}


@pytest.mark.usefixtures("looks_again_soon")
def test_a_spurious_ignore_is_deleted_at_the_second_asking(ims_emulator: Emulator, run: Run) -> None:
    library = ims_emulator.generate(40)
    ims_emulator.add_fault("spurious_ignore", action="DeleteMediaInfos", times=2)
    result = run(library)
    assert counts(result) == {"deleted": 40}
    assert ims_emulator.media_ids() == []


@pytest.mark.usefixtures("looks_again_soon")
def test_what_can_never_be_deleted_fails_and_holds_up_nobody(ims_emulator: Emulator, run: Run) -> None:
    library = ims_emulator.generate(60)
    ims_emulator.protect(library[:3], undeletable=True)
    result = run(library, max_concurrency=1)
    assert counts(result) == {"deleted": 57, "failed": 3}
    assert set(ims_emulator.media_ids()) == set(library[:3])
    with pytest.raises(OutcomeError, match="3 of 60 failed"):
        OutcomePolicies("ignore", "ignore").enforce(result, host="h")


@pytest.mark.usefixtures("looks_again_soon")
def test_looking_again_promises_no_time(
    ims_emulator: Emulator, run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The rate of before says nothing about how long reads are given to catch up."""
    monkeypatch.setattr("airflow_provider_ims.deletion.progress.FIRST_PAUSE", 0.3)
    caplog.set_level("INFO")
    library = ims_emulator.generate(60)
    ims_emulator.protect(library[:3], undeletable=True)
    run(library)
    lines = [line for line in caplog.messages if "asking again" in line]
    assert "57 of 60 done (95 %), asking again about the last 3 targets: 57 deleted" in lines
    assert not [line for line in lines if "a second" in line or "left" in line]
    assert lines[1:]


@pytest.mark.usefixtures("gives_up_soon")
def test_what_cant_be_read_stays_open_for_the_next_try(
    ims_emulator: Emulator, run: Run, client: IMSClient, store: MemoryStore, tmp_path: Path
) -> None:
    # Enough for others to be answered all the time, which tells a broken read from a service that is down.
    library = ims_emulator.generate(1000)
    ims_emulator.add_fault("error", status=500, action="BatchGetMediaInfos")
    ims_emulator.add_fault("delay", milliseconds=100, action="DeleteMediaInfos")
    client.retry_seconds = 1.5
    options: dict[str, Any] = {"store": store, "report_base": storage_path(str(tmp_path))}
    with pytest.raises(
        IMSTransientError, match=r"10 of 1,010 unknown .*The next try asks about those alone"
    ) as ended:
        run(UNKNOWN_IDS + library, max_concurrency=2, **options)
    assert isinstance(ended.value, TargetsUnread)
    assert counts(ended.value.result) == {"unknown": 10, "deleted": 1000}
    assert Counter(line["outcome"] for line in lines_of(str(tmp_path / "attempt=1"))) == counts(
        ended.value.result
    )

    ims_emulator.drop_faults()
    before = ims_emulator.stats()["requests"]
    result = run(UNKNOWN_IDS + library, attempt=2, **options)
    assert counts(result) == {"missing": 10, "deleted": 1000}
    assert ims_emulator.stats()["requests"] - before <= 3
    lines = lines_of(result["report"])
    assert [line["media_id"] for line in lines] == sorted(UNKNOWN_IDS + library)
    assert Counter(line["outcome"] for line in lines) == counts(result)


def test_throttling_slows_a_run_and_never_fails_it(ims_emulator: Emulator, run: Run) -> None:
    library = ims_emulator.generate(400)
    ims_emulator.add_fault("limit", rate=10, burst=1, status=403, retry_after=True)
    result = run(library)
    assert counts(result) == {"deleted": 400}
    assert result["throttled"] == ims_emulator.stats()["by_code"]["RequestsTooFrequent"]
    assert result["inferred"] == 0


def test_no_more_than_the_allowed_requests_are_in_flight(ims_emulator: Emulator, run: Run) -> None:
    library = ims_emulator.generate(400)
    ims_emulator.add_fault("delay", milliseconds=30)
    run(library, max_concurrency=3)
    assert 1 < ims_emulator.stats()["peak_in_flight"] <= 3


@pytest.mark.usefixtures("gives_up_soon")
def test_a_service_that_stays_down_ends_the_run_and_the_next_try_finishes_it(
    ims_emulator: Emulator, run: Run, store: MemoryStore, tmp_path: Path
) -> None:
    library = ims_emulator.generate(100)
    options: dict[str, Any] = {
        "store": store,
        "report_base": storage_path(str(tmp_path)),
        "max_concurrency": 2,
    }
    ims_emulator.add_fault("error", status=503, skip=2)
    with pytest.raises(IMSTransientError) as ended:
        run(library, **options)
    assert ended.value.http_status == 503
    assert len(lines_of(str(tmp_path / "attempt=1"))) == 40

    ims_emulator.drop_faults()
    result = run(library, **options, attempt=2)
    assert result["resumed"] is True
    assert counts(result) == {"deleted": 100}
    assert result["report"] == str(tmp_path / "attempt=1")
    assert sorted(line["media_id"] for line in lines_of(result["report"])) == sorted(library)


def test_a_service_that_only_throttles_ends_the_run(
    ims_emulator: Emulator, run: Run, client: IMSClient
) -> None:
    library = ims_emulator.generate(10)
    ims_emulator.add_fault("throttle", status=429)
    client.retry_seconds = 0.5
    with pytest.raises(IMSThrottlingError):
        run(library)


@pytest.mark.parametrize(
    ("key", "secret", "error", "code"),
    [
        ("emulator", "wrong", IMSAuthError, "SignatureDoesNotMatch"),
        ("nobody", "wrong", IMSAuthError, "InvalidAccessKeyId.NotFound"),
        ("reader", "reader-secret", IMSPermissionError, None),
    ],
)
def test_a_refusal_ends_the_run_within_two_requests(
    ims_emulator: Emulator, run: Run, key: str, secret: str, error: type[IMSError], code: str | None
) -> None:
    ims_emulator.add_key(
        "reader", "reader-secret", actions=["ice:Get*", "ice:List*", "ice:BatchGetMediaInfos"]
    )
    library = ims_emulator.generate(400)
    ims_emulator.add_fault("delay", milliseconds=100)
    client = IMSClient(parse_host(ims_emulator.endpoint), StaticCredentials(key, secret))
    with pytest.raises(error) as refused:
        run(library, client=client)
    assert ims_emulator.stats()["requests"] <= 2
    assert refused.value.request_id
    assert refused.value.code == code or "ice:DeleteMediaInfos" in str(refused.value)
    # What a person is to look at, in words.
    wrong = {
        "SignatureDoesNotMatch": "AccessKey Secret is wrong",
        "InvalidAccessKeyId.NotFound": "AccessKey ID is wrong",
    }
    assert wrong.get(refused.value.code, "the key needs the RAM action") in str(refused.value)
    assert ims_emulator.deleted() == []


def test_a_refusal_in_the_middle_reports_what_was_in_flight(
    ims_emulator: Emulator, run: Run, store: MemoryStore, tmp_path: Path
) -> None:
    library = ims_emulator.generate(400)
    ims_emulator.add_fault("delay", milliseconds=50)
    options: dict[str, Any] = {"store": store, "report_base": storage_path(str(tmp_path))}
    ims_emulator.add_fault("refuse", code="InvalidAccessKeyId.Inactive", status=400, skip=9)
    with pytest.raises(IMSAuthError):
        run(library, **options)
    ims_emulator.drop_faults()
    gone = {deletion["media_id"] for deletion in ims_emulator.deleted()}
    assert {line["media_id"] for line in lines_of(str(tmp_path / "attempt=1"))} == gone
    assert 0 < len(gone) < 400
    result = run(library + UNKNOWN_IDS, **options, attempt=2)
    assert result["resumed"] is False  # another input
    assert result["report"] == str(tmp_path / "attempt=2")
    assert counts(result) == {"deleted": 400 - len(gone), "missing": len(gone) + 10}


def test_a_stop_waits_for_what_is_in_flight_and_the_next_try_goes_on(
    ims_emulator: Emulator, client: IMSClient, run: Run, store: MemoryStore, tmp_path: Path
) -> None:
    library = ims_emulator.generate(400)
    ims_emulator.add_fault("delay", milliseconds=50)
    stop = threading.Event()
    options: dict[str, Any] = {
        "store": store,
        "report_base": storage_path(str(tmp_path)),
        "max_concurrency": 2,
    }
    timer = threading.Timer(0.3, stop.set)
    timer.start()
    with pytest.raises(IMSError, match="stopped on request"):
        run(library + UNKNOWN_IDS, stop=stop, **options)
    sent = ims_emulator.stats()["requests"]
    time.sleep(0.3)
    assert ims_emulator.stats()["requests"] == sent
    result = run(library + UNKNOWN_IDS, **options)
    assert result["resumed"] is True
    # Nobody was killed, so it is known exactly what had been sent.
    assert (counts(result), result["inferred"]) == ({"deleted": 400, "missing": 10}, 0)
    assert len(lines_of(result["report"])) == 410


def test_one_target_that_fails_its_whole_batch_is_found(
    ims_emulator: Emulator, run: Run, client: IMSClient
) -> None:
    library = ims_emulator.generate(40)
    real = client.call

    def call(action: str, params: Any, *args: Any, **kwargs: Any) -> Any:
        # No fault of the emulator's: whether one bad id fails a whole call is not documented.
        if action == "DeleteMediaInfos" and library[13] in params["MediaIds"]:
            params = {**params, "MediaIds": ",".join(UNKNOWN_IDS * 3)}
        return real(action, params, *args, **kwargs)

    client.call = call  # type: ignore[method-assign]
    with pytest.raises(OutcomeError, match=r"1 of 40 failed \(still there .*\(InvalidParameter") as failed:
        run(library, policies=OutcomePolicies())
    result = failed.value.result
    assert counts(result) == {"deleted": 39, "failed": 1}
    assert result["samples"]["failed"] == [library[13]]


def test_results_stay_small(ims_emulator: Emulator, run: Run) -> None:
    urls = [f"oss://bucket/{'x' * 800}/{number}" for number in range(700)]
    result = run(read_targets(input_urls=urls), delete_physical_files=True)
    assert counts(result) == {"missing": 700}
    assert len(json.dumps(result)) < 48_000


def test_guards_come_before_the_first_request(tmp_path: Path) -> None:
    with pytest.raises(GuardError, match="more than max_media=3"):
        check_guards(read_targets(media_ids=UNKNOWN_IDS), max_media=3)
    file = tmp_path / "ids.txt"
    file.write_text("abc\n")
    targets = read_targets(manifest=str(file))
    check_guards(targets, max_media=1, digest=f" {targets.manifest_digest}".upper())
    with pytest.raises(GuardError, match="not the one that was approved"):
        check_guards(targets, digest="0" * 64)


def test_a_report_folder_that_cant_be_written_fails_before_the_first_deletion(
    ims_emulator: Emulator, run: Run, tmp_path: Path
) -> None:
    library = ims_emulator.generate(3)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(GuardError, match=str(tmp_path / "file")):
        run(library, report_base=storage_path(str(tmp_path / "file" / "reports")))
    assert ims_emulator.stats()["requests"] == 0


def test_a_wrong_region_is_suspected_when_all_are_missing(
    run: Run, caplog: pytest.LogCaptureFixture, ims_emulator: Emulator
) -> None:
    result = run([f"{number:032x}" for number in range(20)], region="cn-shanghai")
    OutcomePolicies().enforce(result, host=ims_emulator.host)
    assert f"Is it the right region? Asked was region cn-shanghai, host {ims_emulator.host}" in caplog.text


@pytest.mark.parametrize("outcome", ["forbidden", "missing"])
def test_policies(outcome: str, caplog: pytest.LogCaptureFixture) -> None:
    result = {
        **dict.fromkeys(("deleted", "missing", "forbidden", "failed", "unknown", "kept"), 0),
        "requested": 10,
        "requests": 1,
        "retries": 0,
        "throttled": 0,
        "seconds": 0.1,
        "inferred": 0,
        "preview": False,
        outcome: 2,
        "samples": {outcome: ["first-one", "second-one"]},
        "region": None,
        "report": "/reports/attempt=1",
    }
    other = "on_missing" if outcome == "forbidden" else "on_forbidden"
    policies: dict[str, Any] = {other: "fail"}
    OutcomePolicies(**policies, **{f"on_{outcome}": "ignore"}).enforce(result, host="h")
    assert "first-one" not in caplog.text
    OutcomePolicies(**policies, **{f"on_{outcome}": "warn"}).enforce(result, host="h")
    assert "first-one, second-one" in caplog.text
    with pytest.raises(OutcomeError, match="first-one, second-one") as failed:
        OutcomePolicies(**policies, **{f"on_{outcome}": "fail"}).enforce(result, host="h")
    assert failed.value.result == result
    assert "/reports/attempt=1" in str(failed.value)


def test_a_resumed_run_counts_all_tries_once(
    ims_emulator: Emulator, client: IMSClient, run: Run, store: MemoryStore
) -> None:
    library = ims_emulator.generate(200)
    ims_emulator.protect(library[:5])
    ims_emulator.add_fault("delay", milliseconds=20)

    class Killed(BaseException):
        pass

    class DyingStore(MemoryStore):
        """Is gone in the middle of a run, like the process around it."""

        def set(self, key: str, value: Any) -> None:
            if sum(value["done"][1::2]) >= 4:
                raise Killed
            store.set(key, value)

    with pytest.raises(Killed):
        DeletionRun(client, read_targets(media_ids=library), store=DyingStore(), max_concurrency=2).execute()
    result = run(library, store=store, max_concurrency=2)
    assert result["resumed"] is True
    assert counts(result) == {"deleted": 195, "forbidden": 5}
    assert {deletion["media_id"] for deletion in ims_emulator.deleted()} == set(library[5:])


def test_a_run_does_not_wait_for_a_store_that_is_slower_than_the_service(
    ims_emulator: Emulator, run: Run
) -> None:
    """Airflow's may be some way off. At this limit few answers that take 30 ms are in flight."""

    class Slow(MemoryStore):
        def set(self, key: str, value: Any) -> None:
            time.sleep(0.1)
            super().set(key, value)

    ims_emulator.add_fault("delay", milliseconds=30)
    ims_emulator.add_fault("limit", rate=100, burst=10)

    def seconds(store: MemoryStore) -> float:
        paced = IMSClient(
            parse_host(ims_emulator.endpoint),
            StaticCredentials(ims_emulator.access_key_id, ims_emulator.access_key_secret),
            pace=RateLimiter(),
        )
        result = run(ims_emulator.generate(4000), client=paced, store=store)
        assert counts(result) == {"deleted": 4000}
        return float(result["seconds"])

    # With no more in doubt than twice what is in flight, it took three times as long. What else the machine does may
    # fall on the one or the other.
    assert any(seconds(Slow()) < 2 * seconds(MemoryStore()) for _ in range(4))


@pytest.mark.parametrize("concurrency", [1, 64])
def test_a_service_that_takes_connections_and_never_answers_is_given_up_whatever_is_in_flight(
    concurrency: int,
) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as silent:
        client = IMSClient(
            parse_host(f"http://127.0.0.1:{silent.getsockname()[1]}"),
            StaticCredentials("id", "secret"),
            read_timeout=0.2,
            retry_seconds=0.5,
            min_tries=3,
            pace=RateLimiter(),
        )
        began = time.monotonic()
        with pytest.raises(IMSTransientError, match="no whole answer"):
            DeletionRun(
                client,
                read_targets(media_ids=[f"{number:032x}" for number in range(4000)]),
                max_concurrency=concurrency,
            ).execute()
        assert time.monotonic() - began < 60
        assert client.stats.requests <= 8  # one at a time, until the first answer
