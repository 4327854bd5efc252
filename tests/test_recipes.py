"""What docs/recipes.md says of runs that fail; that its DAGs run is held by tests/test_docs.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_ims.emulator import Emulator
from airflow_provider_ims.pytest_plugin import MediaLibrary
from tests.team import Team, team
from tests.test_docs import ROOT, blocks, folder  # noqa: F401
from tests.test_example_dags import load, run, states

RECIPES = {block.about: block.text for block in blocks(ROOT / "docs/recipes.md") if block.mark == "file"}

pytestmark = pytest.mark.usefixtures("airflow_database", "ims_connection", "folder")


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[..., Any]:
    """Loads a recipe's one DAG, after changes to its text."""

    def load_recipe(name: str, *changes: tuple[str, str]) -> Any:
        text = RECIPES[name]
        for before, after in changes:
            assert text.count(before) == 1
            text = text.replace(before, after)
        path = tmp_path / name
        path.write_text(text)
        (dag,) = load(path).values()
        return dag

    return load_recipe


@pytest.fixture
def told(tmp_path: Path, ims_library: MediaLibrary, monkeypatch: pytest.MonkeyPatch) -> Iterator[Team]:
    with team(tmp_path, ims_library.old) as made:
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        yield made


def test_the_counts_are_told_when_it_went_well(
    recipe: Callable[..., Any], told: Team, ims_library: MediaLibrary
) -> None:
    run(recipe("tell_a_person.py"), {"media_ids": ims_library.old + ims_library.missing})
    assert told.messages == [{"text": "tell_a_person.delete: 6 deleted, 3 missing."}]
    assert told.mails == []


def test_the_counts_are_told_and_mailed_when_it_failed(
    recipe: Callable[..., Any], told: Team, ims_library: MediaLibrary
) -> None:
    finished = run(recipe("tell_a_person.py"), {"media_ids": ims_library.old + ims_library.protected})
    assert states(finished) == {"delete": "failed"}
    (message,) = told.messages
    assert message["text"].startswith(
        "tell_a_person.delete: 6 deleted, 2 forbidden. It failed: 2 of 8 forbidden (refused by the service"
    )
    (mail,) = told.mails
    assert "Subject: tell_a_person: not all media were deleted" in mail


def test_a_teardown_runs_behind_a_failed_deletion_and_leaves_the_run_red(
    recipe: Callable[..., Any], ims_library: MediaLibrary
) -> None:
    conf = {"media_ids": ims_library.old + ims_library.protected}
    finished = run(recipe("always_tell.py"), conf)
    assert states(finished) == {"delete": "failed", "tell": "success"}
    assert str(finished.state) == "failed"


def test_a_task_that_is_none_makes_the_run_green(
    recipe: Callable[..., Any], ims_library: MediaLibrary
) -> None:
    """What the page warns of."""
    dag = recipe("always_tell.py", ("@task\n", '@task(trigger_rule="all_done")\n'), (".as_teardown()", ""))
    finished = run(dag, {"media_ids": ims_library.old + ims_library.protected})
    assert states(finished) == {"delete": "failed", "tell": "success"}
    assert str(finished.state) == "success"


def test_what_a_query_names_too_many_of_is_not_deleted(
    recipe: Callable[..., Any], told: Team, ims_emulator: Emulator
) -> None:
    finished = run(recipe("what_a_query_names.py", ("max_media=500", "max_media=5")))
    assert states(finished) == {"find": "success", "delete": "failed"}
    assert ims_emulator.deleted() == []
