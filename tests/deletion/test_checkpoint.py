"""A checkpoint says the same again, stays small, and is looked at before it is believed: others may write there."""

from __future__ import annotations

import json
import threading
import time
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_ims.deletion.checkpoint import KEY, Checkpoint, CheckpointStore, NumberSet, Row, forget
from airflow_provider_ims.deletion.lines import LINE_LOST
from airflow_provider_ims.deletion.policies import FILES_LEFT
from airflow_provider_ims.deletion.resolve import Outcome
from airflow_provider_ims.deletion.result import MAX_SAMPLES
from airflow_provider_ims.deletion.targets import read_targets
from airflow_provider_ims.deletion.verify import FileState
from airflow_provider_ims.emulator import Emulator
from airflow_provider_ims.files.storage import storage_path
from tests.deletion.conftest import MemoryStore, Run, counts
from tests.faults.crash import Killed, Life, MortalStore

TARGETS = 1000
numbers = st.integers(0, TARGETS - 1)
outcomes = st.sampled_from([outcome for outcome in Outcome if outcome is not Outcome.UNKNOWN])


@st.composite
def rows(draw: st.DrawFn) -> Row:
    return Row(
        tuple(sorted(draw(st.sets(numbers, max_size=30)))),
        draw(outcomes),
        draw(st.booleans()),
        draw(st.none() | st.text(max_size=40)),
        draw(st.integers(0, 2**40)),
        draw(st.none() | st.text(max_size=40)),
        draw(st.none() | st.sampled_from([state.value for state in FileState])),
    )


checkpoints = st.builds(
    Checkpoint,
    input=st.text(max_size=200),
    requested=st.just(TARGETS),
    attempt=st.integers(0, 50),
    unconfirmed=st.integers(0, 64),
    done=st.sets(st.integers(0, 49)).map(NumberSet),
    counts=st.dictionaries(outcomes, st.integers(0, 100), max_size=4),
    inferred=st.integers(0, 100),
    files_left=st.integers(0, 100),
    open=st.dictionaries(numbers, st.booleans(), max_size=40),
    unwritten=st.lists(rows(), max_size=10),
    journal=st.lists(
        st.tuples(st.from_regex(r"[0-9a-f]{8}", fullmatch=True), st.integers(0, 100)), max_size=3
    ),
    samples=st.dictionaries(
        outcomes.map(str) | st.just(FILES_LEFT), st.lists(st.text(max_size=50), max_size=5), max_size=3
    ),
    request_ids=st.lists(st.text(max_size=40), max_size=5),
    requests=st.integers(0, 10**6),
    retries=st.integers(0, 10**6),
    throttled=st.integers(0, 10**6),
    seconds=st.floats(0, 10**6),
    reported=st.booleans(),
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def spelled(checkpoint: Checkpoint) -> Any:
    return json.loads(json.dumps(checkpoint.to_json()))


@settings(suppress_health_check=[HealthCheck.too_slow])  # on a machine that is busy with others
@given(checkpoints)
def test_it_says_the_same_again(checkpoint: Checkpoint) -> None:
    value = spelled(checkpoint)
    assert Checkpoint.from_json(value, TARGETS).to_json() == value


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(checkpoints, st.data())
def test_a_field_of_another_kind_is_no_checkpoint_or_does_no_harm(
    checkpoint: Checkpoint, data: st.DataObject
) -> None:
    value = spelled(checkpoint)
    value[data.draw(st.sampled_from(sorted(value)))] = data.draw(json_values)
    store = MemoryStore()
    dict.__setitem__(store, KEY, json.dumps(value))
    found = CheckpointStore(store, 1).load(checkpoint.input, TARGETS)
    if found is not None:
        again = Checkpoint.from_json(spelled(found), TARGETS)
        assert sum(again.counts.values()) + len(again.open) <= TARGETS
        assert all("/" not in name and "." not in name for name, _ in again.journal)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("done", [0, 10**8]),
        ("done", [0, 1, *[7, 10**8] * 3]),
        ("done", [2**60, 1]),
        ("done", [0, 7, 3]),
        ("done", [7, 0]),
        ("open", [[0, 10**8], []]),
        ("open", [[0, 900] * 1000, []]),
        ("unwritten", [[[0, 10**8], "deleted", False, None, 0, None, None]]),
        ("unwritten", [[[7, -4], "deleted", False, None, 0, None, None]]),
        ("unwritten", [[[0, 1], "deleted", False, None, 0, None]]),
        ("unwritten", [[[0, 1], "deleted", False, None, 0, None, "f" * 10**6]]),
        ("unwritten", [[[0, 900], "deleted", False, None, 0, None, None]] * 2),
        ("files_left", 10**12),
        ("journal", [["../../etc/passwd", 1]]),
        ("journal", [["a" * 8, 10**12]]),
        ("counts", {"deleted": 10**12}),
        ("counts", {"gone": 1}),
        ("samples", {"deleted": ["x" * 10**6]}),
        ("input", ["no text"]),
        ("seconds", float("nan")),
    ],
)
def test_what_is_forged_is_refused_in_little_time_and_memory(
    field: str, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    saved = spelled(Checkpoint(input="this run", requested=TARGETS)) | {field: value}
    store = MemoryStore()
    dict.__setitem__(store, KEY, json.dumps(saved))
    tracemalloc.start()
    began = time.process_time()
    assert CheckpointStore(store, 1).load("this run", TARGETS) is None
    assert time.process_time() - began < 2
    assert tracemalloc.get_traced_memory()[1] < 50 * 2**20
    tracemalloc.stop()
    assert "Starting over" in caplog.text


def test_a_store_that_does_not_forget_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    class Stubborn(MemoryStore):
        def delete(self, key: str) -> None:
            raise ConnectionError("execution API")

    forget(Stubborn())
    assert "could not be dropped (ConnectionError)" in caplog.text


class KilledOnceWritten(MortalStore):
    """Its process dies when the 20th checkpoint or a later one trusts lines to the journal, however slow the disk."""

    saves = 0

    def set(self, key: str, value: Any) -> None:
        super().set(key, value)
        self.saves += 1
        trusted = sum(value["counts"].values()) > sum(
            sum(spelled[1::2]) for spelled, *_ in value["unwritten"]
        )
        if trusted and self.saves >= 20:
            raise Killed


@pytest.mark.parametrize(("protected", "nowhere"), [(0, 20), (30, 20), (30, 150)])
def test_a_report_on_a_disk_that_is_gone_loses_lines_and_no_outcome(
    ims_emulator: Emulator,
    run: Run,
    tmp_path: Path,
    protected: int,
    nowhere: int,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # So that most lines are on that disk, and not in the checkpoint.
    monkeypatch.setattr("airflow_provider_ims.files.report.NOTES_IN_A_FILE", 1)
    library = ims_emulator.generate(600)
    ims_emulator.protect(library[:protected])
    missing = [f"{number:032x}" for number in range(nowhere)]
    kept: dict[str, str] = {}
    disk = tmp_path / "pod"
    options: dict[str, Any] = {"report_base": storage_path(str(disk)), "max_concurrency": 2}
    with pytest.raises(Killed):
        run(library + missing, store=KilledOnceWritten(kept, Life()), **options)
    disk.rename(tmp_path / "another machine")
    result = run(library + missing, store=MortalStore(kept, Life()), attempt=2, **options)
    truth = {"deleted": 600 - protected, "forbidden": protected, "missing": nowhere}
    found = counts(result)
    # Of the batches that were out when it was killed, what was never there is taken for ours.
    assert found.get("forbidden", 0) == protected
    assert truth["missing"] - 20 <= found["missing"] <= truth["missing"]
    assert found["deleted"] + found["missing"] == truth["deleted"] + truth["missing"]
    assert "are not there any more; was it another machine's disk?" in caplog.text
    lines = [json.loads(line) for line in (Path(result["report"]) / "part-00001.jsonl").open()]
    assert Counter(line["media_id"] for line in lines) == Counter(library + missing)
    lost = [line for line in lines if line.get("reason") == LINE_LOST]
    assert lost
    assert {line[name] for line in lost for name in ("at", "request_id", "inferred")} == {None}
    unnamed = [line for line in lost if line["outcome"] is None]
    if all(found.get(outcome, 0) <= MAX_SAMPLES for outcome in ("missing", "forbidden")):
        assert Counter(line["outcome"] for line in lines) == Counter(found)
    else:
        # What the samples name is known all the same.
        assert unnamed
        assert {line["media_id"] for line in unnamed}.isdisjoint(
            name for names in result["samples"].values() for name in names
        )
    caplog.clear()
    waited_for = set(read_targets(manifest=result["report"], from_report=True))
    assert {target.value for target in waited_for} == {
        line["media_id"] for line in lines if line["outcome"] == "deleted"
    }
    assert (f"{len(unnamed):,} targets have no outcome" in caplog.text) == bool(unnamed)


def test_a_written_report_on_a_disk_that_is_gone_is_written_again(
    ims_emulator: Emulator, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was killed at its very end finds its work done, and its report gone."""
    monkeypatch.setattr("airflow_provider_ims.files.report.LINES_IN_A_PART", 20)
    library = ims_emulator.generate(50)
    kept: dict[str, str] = {}
    disk = tmp_path / "pod"
    options: dict[str, Any] = {"report_base": storage_path(str(disk))}
    parts = sorted(Path(run(library, store=MortalStore(kept, Life()), **options)["report"]).iterdir())
    written = [part.read_bytes() for part in parts]
    run(library, store=MortalStore(kept, Life()), attempt=2, **options)
    assert [part.read_bytes() for part in parts] == written
    parts[-1].unlink()
    asked = ims_emulator.stats()["requests"]
    folder = Path(run(library, store=MortalStore(kept, Life()), attempt=3, **options)["report"])
    assert ims_emulator.stats()["requests"] == asked
    assert sorted(folder.iterdir()) == parts
    lines = [json.loads(line) for part in parts for line in part.open()]
    assert [(line["media_id"], line["outcome"]) for line in lines] == [
        (n, "deleted") for n in sorted(library)
    ]


def test_a_report_has_one_line_a_target_in_few_files(
    ims_emulator: Emulator, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_ims.files.report.LINES_IN_A_PART", 1000)
    library = ims_emulator.generate(2500)
    result = run(library, report_base=storage_path(str(tmp_path)))
    folder = Path(result["report"])
    assert sorted(path.name for path in folder.iterdir()) == [f"part-0000{n}.jsonl" for n in (1, 2, 3)]
    lines = [json.loads(line) for path in sorted(folder.iterdir()) for line in path.open()]
    assert [line["media_id"] for line in lines] == sorted(library)
    assert {*lines[0]} == {"media_id", "outcome", "inferred", "request_id", "at"}


def test_a_slow_store_is_given_room_and_a_quick_one_none() -> None:
    """Of what is done while a checkpoint is saved, the next one tells, which takes as long."""
    may_go_on = threading.Event()

    class Slow(MemoryStore):
        def set(self, key: str, value: Any) -> None:
            assert may_go_on.wait(60)
            super().set(key, value)

    store = CheckpointStore(Slow(), max_concurrency=32)

    def save(*, done_meanwhile: int) -> None:
        may_go_on.clear()
        store.save(Checkpoint(input="", requested=TARGETS))
        for _ in range(done_meanwhile):
            store.add_done()
        may_go_on.set()
        store.wait()

    save(done_meanwhile=0)
    assert [store.margin(0, window) for window in (1, 6, 32)] == [1, 6, 32]
    save(done_meanwhile=10)
    assert [store.margin(6, window) for window in (1, 6, 32)] == [30, 30, 32]
    save(done_meanwhile=100)
    # 64 with those in flight
    assert [store.margin(in_flight, 32) for in_flight in (0, 6, 32)] == [64, 58, 32]
    assert store.margin(0, 0) == 0  # at the end of a run nothing is in doubt
    save(done_meanwhile=1)
    assert store.margin(0, 6) == 6
    store.close()
