"""What generated faults and killed workers once broke; each of these failed before it was mended."""

from __future__ import annotations

import errno
import itertools
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_ims.api.client import IMSClient
from airflow_provider_ims.api.identifiers import MAX_MEDIA_PER_CALL
from airflow_provider_ims.deletion.checkpoint import KEY, MAX_REQUEST_ID, Checkpoint, NumberSet, Row, rows
from airflow_provider_ims.deletion.record import MAX_OPEN, MAX_UNWRITTEN
from airflow_provider_ims.deletion.resolve import Outcome, TargetResult
from airflow_provider_ims.deletion.result import MAX_SAMPLES, add_sample
from airflow_provider_ims.deletion.targets import Target, read_targets
from airflow_provider_ims.emulator import Emulator
from airflow_provider_ims.exceptions import IMSAuthError, IMSError, IMSThrottlingError
from airflow_provider_ims.files.storage import storage_path
from tests.deletion.conftest import Run, counts
from tests.faults.crash import Killed, Life, MortalReport, MortalRun, MortalStore


@pytest.fixture
def die(client: IMSClient, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a try that dies at a point."""

    def die(
        ids: list[str], kept: dict[str, str], base: Path | None, point: str, passes: int, **options: Any
    ) -> None:
        life = Life(point, passes)
        MortalReport.life = life
        with monkeypatch.context() as patch:
            patch.setattr("airflow_provider_ims.deletion.record.ReportWriter", MortalReport)
            run = MortalRun(
                client,
                read_targets(media_ids=ids),
                report_base=storage_path(str(base)) if base else None,
                store=MortalStore(kept, life),
                **options,
            )
            run.life = life
            with pytest.raises(Killed):
                run.execute()
        life.end(10)

    return die


def lines_of(report: str) -> list[dict[str, Any]]:
    parts = sorted(Path(report).glob("part-*.jsonl"))
    return [json.loads(line) for part in parts for line in part.read_text().splitlines()]


def test_lines_that_no_state_knows_are_counted_once_over_two_kills(
    ims_emulator: Emulator, run: Run, die: Any, tmp_path: Path
) -> None:
    ids = ims_emulator.generate(1000)
    kept: dict[str, str] = {}
    # Dies when it begins to keep a state that knows of the first lines; then again before the second request.
    die(ids, kept, tmp_path, "keep", 1, max_concurrency=4)
    die(ids, kept, tmp_path, "settle", 0, max_concurrency=4)
    result = run(ids, store=MortalStore(kept, Life()), report_base=storage_path(str(tmp_path)))
    assert counts(result) == {"deleted": 1000}
    assert sorted(line["media_id"] for line in lines_of(result["report"])) == sorted(ids)


def test_a_run_goes_on_however_long_the_path_of_its_report(
    ims_emulator: Emulator, run: Run, die: Any, tmp_path: Path
) -> None:
    ids = ims_emulator.generate(200)
    kept: dict[str, str] = {}
    base = tmp_path.joinpath(*["long" * 50] * 12)
    die(ids, kept, base, "settle", 4, max_concurrency=4)
    result = run(ids, store=MortalStore(kept, Life()), report_base=storage_path(str(base)))
    assert result["resumed"]
    assert counts(result) == {"deleted": 200}


def test_a_try_that_fails_at_once_does_not_forget_what_a_killed_one_left_in_doubt(
    ims_emulator: Emulator, run: Run, die: Any
) -> None:
    ids = ims_emulator.generate(200)
    kept: dict[str, str] = {}
    die(ids, kept, None, "settle", 4, max_concurrency=4)
    gone = len(ims_emulator.deleted())
    assert gone > 80
    ims_emulator.add_key("emulator", "other-secret")
    with pytest.raises(IMSAuthError):
        run(ids, store=MortalStore(kept, Life()), max_concurrency=1)
    ims_emulator.add_key("emulator", "emulator-secret")
    assert counts(run(ids, store=MortalStore(kept, Life()), max_concurrency=4)) == {"deleted": 200}


def test_what_cant_be_read_while_all_are_throttled_is_left_to_the_next_try(
    ims_emulator: Emulator, run: Run, client: IMSClient
) -> None:
    missing = [f"{number:032x}" for number in range(20)]
    ids = missing + ims_emulator.generate(20)
    kept: dict[str, str] = {}
    client.retry_seconds = 0.5
    # The second deletion is answered in the middle of the first one's read; after it nothing is.
    ims_emulator.add_fault("throttle", action="BatchGetMediaInfos")
    ims_emulator.add_fault("delay", milliseconds=200, action="DeleteMediaInfos", skip=1)
    with pytest.raises(IMSThrottlingError):
        run(ids, store=MortalStore(kept, Life()), max_concurrency=2)
    ims_emulator.drop_faults()
    assert counts(run(ids, store=MortalStore(kept, Life()))) == {"deleted": 20, "missing": 20}


@pytest.mark.usefixtures("looks_again_soon")
def test_what_an_earlier_try_never_asked_about_is_asked_about_twice(
    ims_emulator: Emulator, run: Run, client: IMSClient
) -> None:
    ids = ims_emulator.generate(20)
    kept: dict[str, str] = {}
    client.retry_seconds = 0.2
    ims_emulator.add_fault("throttle")
    with pytest.raises(IMSThrottlingError):
        run(ids, store=MortalStore(kept, Life()))
    ims_emulator.drop_faults()
    ims_emulator.add_fault("spurious_ignore", times=1)
    assert counts(run(ids, store=MortalStore(kept, Life()))) == {"deleted": 20}


def test_a_disk_that_is_full_ends_the_run_by_a_sentence_and_the_next_try_goes_on(
    ims_emulator: Emulator, run: Run, client: IMSClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ids = ims_emulator.generate(8000)
    kept: dict[str, str] = {}
    writes = []

    def fsync(descriptor: int) -> None:
        writes.append(threading.current_thread())
        if len(writes) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    client.retry_seconds = 0.1
    options = {"report_base": storage_path(str(tmp_path)), "max_concurrency": 2}
    with monkeypatch.context() as patch:
        patch.setattr("airflow_provider_ims.files.storage.os.fsync", fsync)
        with pytest.raises(IMSError, match=r"report: .*attempt=1.* No space left"):
            run(ids, store=MortalStore(kept, Life()), **options)
    # Airflow's timeouts are exceptions out of nowhere in the main thread.
    assert threading.main_thread() not in writes[1:]
    asked = len(ims_emulator.requests("DeleteMediaInfos"))
    assert asked < 300  # of 400: it goes no further ahead than a checkpoint can hold
    result = run(ids, store=MortalStore(kept, Life()), **options)
    assert counts(result) == {"deleted": 8000}
    assert [line["media_id"] for line in lines_of(result["report"])] == sorted(ids)


def test_a_checkpoint_stays_small_however_far_the_others_are_ahead_of_one() -> None:
    open_batches = set(range(0, 60_000, 1_000))
    checkpoint = Checkpoint(
        input="x" * 500,
        unconfirmed=128,
        done=NumberSet(sorted(set(range(60_000)) - open_batches)),
        open={1_000_000 + number: number % 2 == 0 for number in range(MAX_OPEN + 64 * 20)},
        unwritten=[
            Row(tuple(range(20 * number, 20 * number + 20)), Outcome.DELETED, True, "r" * 36, 2**31)
            for number in range(MAX_UNWRITTEN)
        ],
    )
    text = json.dumps(checkpoint.to_json())
    assert len(text) < 48 * 1024
    read = Checkpoint.from_json(json.loads(text), targets=2_000_000)
    assert (read.done.runs(), read.open, read.unwritten) == (
        checkpoint.done.runs(),
        checkpoint.open,
        checkpoint.unwritten,
    )


def test_a_checkpoint_stays_small_while_a_slow_disk_takes_lines_that_all_differ_from_their_neighbours(
    ims_emulator: Emulator, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = 1000
    library = ims_emulator.generate(2 * each, seed=1)
    ims_emulator.add_fault("delay", milliseconds=200, action="DeleteMediaInfos")
    ims_emulator.protect(library[:each])
    missing = [f"{number:0128x}" for number in range(each)]
    mixed = list(itertools.chain.from_iterable(zip(library[:each], library[each:], missing, strict=True)))
    real_fsync = os.fsync

    def slow_fsync(number: int) -> None:
        time.sleep(0.5)
        real_fsync(number)

    monkeypatch.setattr("airflow_provider_ims.files.storage.os.fsync", slow_fsync)
    result = run(
        read_targets(media_ids=mixed),
        store=MortalStore({}, Life()),  # refuses what is larger than Airflow takes without a word
        report_base=storage_path(str(tmp_path)),
        max_concurrency=64,
    )
    assert counts(result) == {"deleted": each, "forbidden": each, "missing": each}


def test_the_largest_checkpoint_fits_and_is_read_again() -> None:
    """Whatever comes together: no packet that MySQL ever took by default is smaller than 1 MiB."""
    answers = 64 * MAX_MEDIA_PER_CALL
    targets = [Target(number, f"{number:032x}") for number in range(MAX_UNWRITTEN + answers)]
    results = [
        TargetResult(
            target, Outcome.FAILED, False, "𠀀" * 100, f"{target.ordinal}{'𠀀' * 500}", file="unknown"
        )
        for target in targets
    ]
    samples: list[str] = []
    for _ in range(MAX_SAMPLES):
        add_sample(samples, "长" * 40)
    checkpoint = Checkpoint(
        input="x" * 64,
        requested=10**7,
        unconfirmed=128,
        done=NumberSet(range(0, 2 * answers, 2)),
        counts=dict.fromkeys(Outcome, 10**6),
        open={2 * number: number % 4 == 0 for number in range(MAX_OPEN + answers)},
        unwritten=[row for row, _ in rows(results, 2**31)],
        journal=[("a" * 32, 1000)] * 30,
        samples={name: samples for name in (*Outcome, "files_left")},
        request_ids=["r" * MAX_REQUEST_ID] * MAX_SAMPLES,
    )
    assert len(checkpoint.unwritten) == len(targets)
    saved = checkpoint.to_json()
    assert len(json.dumps(saved)) < 2**20
    assert Checkpoint.from_json(saved, targets=10**8).to_json() == saved


def test_a_result_stays_small_with_urls_beyond_ascii(ims_emulator: Emulator, run: Run) -> None:
    urls = [
        f"https://bucket.oss-cn-shanghai.aliyuncs.com/{'视频' * 60}/{number}.mp4" for number in range(600)
    ]
    ims_emulator.seed(
        [{"url": url, "protected": number % 3 == 0} for number, url in enumerate(urls) if number % 3 < 2]
    )
    kept: dict[str, str] = {}
    result = run(read_targets(input_urls=urls), store=MortalStore(kept, Life()))
    assert counts(result) == {"deleted": 200, "forbidden": 200, "missing": 200}
    assert len(json.dumps(result)) < 24_000
    assert len(kept[KEY]) < 24_000
