"""The run itself, as a process, against three services that decide otherwise; and stopped in its middle."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from airflow_provider_ims.api.jobs import JOB_KINDS
from tests.live import beliefs
from tests.live.local import LocalService, answers_of

ROOT = Path(__file__).parents[2]
FAST = ("--rate", "300", "--max-rate", "300", "--poll-seconds", "0.1")


def command(service: LocalService, output: Path, *options: str) -> list[str]:
    return [
        *(sys.executable, "-m", "tests.live", "--folder", service.folder, "--output", str(output)),
        *FAST,
        *options,
    ]


class Report(NamedTuple):
    code: int
    said: str
    page: str
    answers: dict[str, Any]
    requests: set[str]
    left: tuple[list[str], list[str]]


def run(name: str, output: Path) -> Report:
    with LocalService("--job-seconds", "1", rules=beliefs.ALL[name].rules) as service:
        done = subprocess.run(
            command(service, output, "--yes", "--workflow-id", "w1"),
            cwd=ROOT,
            env={**os.environ, **service.environment},
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        service.check_foreign()
        return Report(
            done.returncode,
            done.stdout + done.stderr,
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
        done = subprocess.run(
            command(service, tmp_path),
            cwd=ROOT,
            env={**os.environ, **service.environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert service.emulator.requests() == []
        assert service.oss.requests == []
    assert "What it can cost" in done.stdout
    assert "Nothing was sent" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGTERM, "makes 105 media"),
        (signal.SIGINT, "registered_again"),
        (signal.SIGTERM, "unknown_jobs"),
    ],
)
def test_a_signal_in_the_middle_leaves_nothing(tmp_path: Path, number: signal.Signals, moment: str) -> None:
    with LocalService("--job-seconds", "1") as service:
        process = subprocess.Popen(
            command(service, tmp_path, "--yes"),
            cwd=ROOT,
            env={**os.environ, **service.environment},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        for line in process.stdout:
            if moment in line:
                break
        deadline = time.monotonic() + 30
        while len(service.own_media()) < 10 and time.monotonic() < deadline:
            time.sleep(0.02)
        made = service.own_media()
        process.send_signal(number)
        time.sleep(0.1)
        process.send_signal(number)  # who is impatient must not lose the cleaning up
        said = process.stdout.read()
        assert process.wait(60) == 130, said
        assert len(made) >= 10
        assert (service.own_media(), service.own_files()) == ([], [])
        service.check_foreign()
    page = (tmp_path / "answers.md").read_text()
    assert f"Interrupted: by {number.name}" in page
    left = json.loads((tmp_path / "answers.json").read_text())["left_over"]
    # A job can't be stopped: one that runs at that moment is told.
    assert all(re.match("job [0-9a-f]{32}$", one["what"]) for one in left)
    assert ("Nothing; all that was made is gone again." in page) is not bool(left)


def test_what_can_not_be_cleaned_up_is_listed(tmp_path: Path) -> None:
    """A right that gets lost while the run goes on."""
    with LocalService("--job-seconds", "1") as service:
        process = subprocess.Popen(
            command(service, tmp_path, "--yes", "--no-jobs", "--max-rate", "0"),
            cwd=ROOT,
            env={**os.environ, **service.environment},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        for line in process.stdout:
            if "registered_again" in line:
                service.emulator.add_fault("refuse", action="DeleteMediaInfos", code="Forbidden.RAM")
                process.terminate()
                break
        said = process.stdout.read()
        assert process.wait(150) == 130
        left = json.loads((tmp_path / "answers.json").read_text())["left_over"]
        there = service.own_media()
        assert len(there) >= 100
        assert all(any(media_id in one["what"] for one in left) for media_id in there)
        assert all("Forbidden.RAM" in one["reason"] for one in left)
        assert said.count("LEFT OVER") == len(left)
        assert service.own_files() == []


def test_a_key_that_may_not_delete_makes_one_medium_only(tmp_path: Path) -> None:
    with LocalService(
        rules=[{"kind": "refuse", "action": "DeleteMediaInfos", "code": "Forbidden.RAM"}]
    ) as service:
        done = subprocess.run(
            command(service, tmp_path, "--yes"),
            cwd=ROOT,
            env={**os.environ, **service.environment},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 1
        assert len(service.own_media()) == 1
        assert "can't be deleted" in done.stdout
        assert service.own_media()[0] in done.stdout
