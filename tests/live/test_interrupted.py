"""A run that is stopped in its middle, or loses its rights there: what it made is gone again, or is listed."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path

import pytest

from tests.live.local import LocalService


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
        process = service.start(tmp_path, "--yes")
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


def test_a_terminal_that_is_closed_does_not_end_the_cleaning_up(tmp_path: Path) -> None:
    """SIGHUP comes when nobody can be told anything any more."""
    with LocalService("--job-seconds", "1") as service:
        process = service.start(tmp_path, "--yes")
        assert process.stdout is not None
        for line in process.stdout:
            if "registered_again" in line:
                break
        assert len(service.own_media()) >= 100
        process.stdout.close()
        process.send_signal(signal.SIGHUP)
        process.wait(60)
        assert (service.own_media(), service.own_files()) == ([], [])
    assert "Interrupted: by SIGHUP" in (tmp_path / "answers.md").read_text()


def test_what_can_not_be_cleaned_up_is_listed(tmp_path: Path) -> None:
    """A right that gets lost while the run goes on."""
    with LocalService("--job-seconds", "1") as service:
        process = service.start(tmp_path, "--yes", "--no-jobs", "--max-rate", "0")
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
        code, said = service.run(tmp_path, "--yes")
        assert code == 1
        assert len(service.own_media()) == 1
        assert "can't be deleted" in said
        assert service.own_media()[0] in said
