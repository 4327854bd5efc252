"""The run itself, as a process, against three services that decide otherwise."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from airflow_provider_ims.api.jobs import JOB_KINDS
from tests.live import beliefs
from tests.live.local import LocalService, answers_of

ROOT = Path(__file__).parents[2]


class Report(NamedTuple):
    code: int
    said: str
    page: str
    answers: dict[str, Any]
    requests: set[str]
    left: tuple[list[str], list[str]]


def run(name: str, output: Path) -> Report:
    with LocalService("--job-seconds", "1", rules=beliefs.ALL[name].rules) as service:
        code, said = service.run(output, "--yes", "--workflow-id", "w1")
        service.check_foreign()
        return Report(
            code,
            said,
            (output / "answers.md").read_text(),
            answers_of((output / "answers.json").read_text()),
            {entry["action"] for entry in service.emulator.requests()},
            (service.own_media(), service.own_files()),
        )


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Report]]:
    """All three at once: most of their time is waiting."""
    with ThreadPoolExecutor() as pool:
        runs = {name: pool.submit(run, name, tmp_path_factory.mktemp(name)) for name in beliefs.ALL}
        yield {name: run.result() for name, run in runs.items()}


@pytest.mark.parametrize(
    ("name", "question"), [(name, one) for name, each in beliefs.ALL.items() for one in each.answers]
)
def test_each_service_is_reported_as_it_is(reports: dict[str, Report], name: str, question: str) -> None:
    verdict, value = beliefs.ALL[name].answers[question]
    found = reports[name].answers[question]
    assert found["verdict"] == verdict, found
    assert beliefs.agree(value, found["value"]), found


@pytest.mark.parametrize("name", beliefs.ALL)
def test_a_run_ends_well_and_leaves_nothing(reports: dict[str, Report], name: str) -> None:
    report = reports[name]
    assert (report.code, report.left) == (0, ([], [])), report.said
    assert "Nothing; all that was made is gone again." in report.page


@pytest.mark.parametrize("name", beliefs.ALL)
def test_a_page_names_what_does_not_hold_and_what_follows(reports: dict[str, Report], name: str) -> None:
    report = reports[name]
    section = report.page.partition("## What the code believes and IMS does not")[2].partition("\n## ")[0]
    wrong = [one for one in report.answers.values() if one["verdict"] == "does not hold"]
    assert all(one["question"] in section and one["if_not"] in section for one in wrong)
    assert len(re.findall(r"^- \*\*", section, re.MULTILINE)) == len(wrong)


def test_every_operation_that_the_provider_uses_is_called(reports: dict[str, Report]) -> None:
    source = (ROOT / "airflow_provider_ims/api/operations.py").read_text()
    used = set(re.findall(r'client\.call\(\s*"(\w+)"', source)) | {kind.action for kind in JOB_KINDS.values()}
    assert len(used) >= 9
    assert used <= reports["as_inferred"].requests


def test_nothing_is_sent_without_yes(tmp_path: Path) -> None:
    with LocalService() as service:
        code, said = service.run(tmp_path)
        assert service.emulator.requests() == []
        assert service.oss.requests == []
    assert code == 0
    assert "What it can cost" in said
    assert "Nothing was sent" in said
    assert not list(tmp_path.iterdir())
