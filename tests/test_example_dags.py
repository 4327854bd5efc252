"""Every example DAG can be imported and is safe to run as it is; and does what it is for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import books
import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_1_PLUS
from media_team import cleanup

from airflow_provider_ims.emulator.server import Emulator

FOLDER = Path(__file__).parent.parent / "example_dags"
# Approval by a person came with Airflow 3.1.
NEED_APPROVAL = ("ims_retention",)
EXAMPLES = [
    file for file in sorted(FOLDER.glob("*.py")) if AIRFLOW_V_3_1_PLUS or file.stem not in NEED_APPROVAL
]

pytestmark = pytest.mark.usefixtures("airflow_database", "ims_connection")


def load(file: Path) -> dict[str, Any]:
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # before Airflow 3.2
        from airflow.models.dagbag import DagBag  # type: ignore[no-redef]

    bag = DagBag(dag_folder=str(file))
    assert bag.import_errors == {}
    return dict(bag.dags)


def run(dag: Any, conf: dict[str, Any] | None = None) -> Any:
    """Run a DAG in this process, by hand: without a logical date, where Airflow has such runs."""
    return dag.test(run_conf=conf, **({"logical_date": None} if AIRFLOW_V_3_0_PLUS else {}))


def states(run: Any) -> dict[str, str]:
    return {task.task_id: str(task.state) for task in run.get_task_instances()}


def test_there_are_examples() -> None:
    assert EXAMPLES


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_explains_itself(file: Path) -> None:
    dags = load(file)
    assert dags
    for dag in dags.values():
        assert dag.doc_md
        assert "example" in dag.tags


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_deletes_nothing_as_it_is(file: Path, ims_emulator: Emulator) -> None:
    for dag in load(file).values():
        finished = run(dag)
        assert set(states(finished).values()) <= {"success", "skipped"}
    assert ims_emulator.requests("DeleteMediaInfos") == []


def test_delete_media(ims_emulator: Emulator) -> None:
    work = cleanup()
    ims_emulator.seed(work.media)
    dag = load(FOLDER / "ims_delete_media.py")["ims_delete_media"]
    before = books.read(ims_emulator)
    finished = run(dag, work.conf)
    assert set(states(finished).values()) == {"success"}
    task = finished.get_task_instance("delete_by_id")
    results = {name: task.xcom_pull(task_ids=name) for name in ("delete_by_id", "delete_by_url")}
    wrong = [
        says for says, true in books.compare(work, before, books.read(ims_emulator), results) if not true
    ]
    assert wrong == []
