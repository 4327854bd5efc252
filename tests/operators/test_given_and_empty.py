"""Given and empty is not left out: whole DAGs, in which an argument was written and renders to nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_ims.emulator import Emulator
from tests.test_example_dags import load, run, states

pytestmark = pytest.mark.usefixtures("airflow_database", "ims_connection")

DAG_FILE = Path(__file__).parent.parent / "dags" / "given_and_empty.py"
UPSTREAM = ("nothing", "skipped", "several_nothings", "arguments_of_nothing")


def ended(dag_id: str, emulator: Emulator, folder: Path) -> dict[str, str]:
    """Run one of the DAGs over a library of five old media; give the states of its operators and sensors."""
    library = emulator.generate(5)
    finished = run(load(DAG_FILE)[dag_id], {"media_ids": library, "folder": str(folder)})
    assert sorted(emulator.media_ids()) == sorted(library)
    return {task: state for task, state in states(finished).items() if not task.startswith(UPSTREAM)}


@pytest.mark.parametrize(
    "dag_id",
    ["given_and_empty", "given_and_empty_natively", "given_and_empty_mapped", "given_and_empty_by_default"],
)
def test_what_was_written_and_is_empty_fails_before_the_first_request(
    dag_id: str, ims_emulator: Emulator, tmp_path: Path
) -> None:
    states = ended(dag_id, ims_emulator, tmp_path)
    assert {task: state for task, state in states.items() if state != "failed"} == {}
    assert len(states) >= 4
    assert ims_emulator.stats()["requests"] == 0
    assert list(tmp_path.iterdir()) == []


def test_what_was_left_out_or_written_as_none_is_absent(ims_emulator: Emulator, tmp_path: Path) -> None:
    assert set(ended("left_out", ims_emulator, tmp_path).values()) == {"success"}
    assert ims_emulator.requests("BatchGetMediaInfos")
