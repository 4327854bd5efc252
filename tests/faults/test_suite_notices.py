"""The suite finds what it is made to find: builds that are broken on purpose don't get past it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from airflow_provider_ims.deletion import resolve
from airflow_provider_ims.deletion.checkpoint import Checkpoint, CheckpointStore
from airflow_provider_ims.deletion.record import RunRecord
from airflow_provider_ims.deletion.resolve import BatchDeleter, BatchResult, Outcome, TargetResult
from airflow_provider_ims.deletion.targets import Target
from airflow_provider_ims.emulator import Emulator
from tests.faults.crash import MortalReport
from tests.faults.runner import Runner, short_waits
from tests.faults.scenario import make_scenario

ENOUGH_RUNS = 150


@pytest.fixture
def runner(ims_emulator: Emulator, tmp_path: Path) -> Iterator[Runner]:
    runner = Runner(ims_emulator, tmp_path)
    with short_waits():
        yield runner
    runner.close()


def runs_until_noticed(runner: Runner) -> int:
    for seed in range(1, ENOUGH_RUNS + 1):
        if runner.run(make_scenario(seed)).wrong:
            return seed
    pytest.fail(f"{ENOUGH_RUNS} runs found nothing wrong")


def test_a_build_that_is_not_broken(runner: Runner) -> None:
    for seed in range(1, 31):
        assert runner.run(make_scenario(seed)).wrong == []


def test_a_lost_answer_that_is_believed(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(target: Target, unconfirmed: bool, request_id: str | None) -> TargetResult:
        return TargetResult(target, Outcome.MISSING, False, request_id)

    monkeypatch.setattr(resolve, "_gone", gone)
    assert runs_until_noticed(runner)


def test_ignored_ids_that_are_called_missing_without_a_read(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(
        self: BatchDeleter, targets: Sequence[Target], unconfirmed: bool, request_id: str | None = None
    ) -> BatchResult:
        return BatchResult([resolve._gone(target, unconfirmed, request_id) for target in targets])

    monkeypatch.setattr(BatchDeleter, "look", look)
    assert runs_until_noticed(runner)


def test_a_checkpoint_that_forgets_what_no_file_has(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MortalReport, "unwritten", [])
    assert runs_until_noticed(runner)


def test_a_checkpoint_that_calls_too_few_unconfirmed(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    save = CheckpointStore.save

    def certain(self: CheckpointStore, checkpoint: Checkpoint) -> None:
        checkpoint.unconfirmed = 0
        save(self, checkpoint)

    monkeypatch.setattr(CheckpointStore, "save", certain)
    monkeypatch.setattr(RunRecord, "may_start", lambda *_: True)
    assert runs_until_noticed(runner)
