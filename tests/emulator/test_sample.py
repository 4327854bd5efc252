"""The sample library: the same each time, and with something to select for every kind of policy."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

from airflow_provider_ims.emulator import Emulator
from airflow_provider_ims.emulator.sample import sample

NOW = 1_767_225_600.0
YEAR = 365 * 24 * 60 * 60
REGION = "cn-beijing"


def media():
    return [medium for medium, _ in sample(region=REGION, now=NOW)]


def test_it_is_the_same_each_time_and_fits_the_region():
    first, second = media(), media()
    assert [(m.media_id, m.url, m.created) for m in first] == [(m.media_id, m.url, m.created) for m in second]
    assert (
        len({m.media_id for m in first})
        == len({m.url for m in first})
        == len({m.title for m in first})
        == 308
    )
    assert all(f".oss-{REGION}." in m.url for m in first)
    assert all(m.created < NOW for m in first)


def test_policies_have_something_to_select_and_to_spare():
    old = [medium for medium in media() if medium.created < NOW - YEAR]
    assert 0.2 < len(old) / 308 < 0.8
    for field in ("tags", "media_type", "business_type", "status"):
        assert len(Counter(getattr(medium, field) for medium in media())) >= 3, field
    assert any(not medium.tags for medium in media())
    assert any("keep" in medium.tags for medium in old)
    assert {medium.protected for medium in old} == {True, False}


def test_the_command_starts_with_it():
    with Emulator("--sample", "--region", REGION) as emulator:
        assert len(emulator.media_ids()) == 308
        emulator.reset()
        assert len(emulator.media_ids()) == 308


def test_the_command_is_installed():
    command = [str(Path(sys.executable).parent / "ims-emulator"), "--sample", "--end-with-stdin"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert set(json.loads(process.stdout.readline())) == {"service", "control"}
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0


def test_without_the_extra_the_command_says_what_to_install():
    script = (
        "import sys; sys.modules['starlette'] = None\n"
        "from airflow_provider_ims.emulator.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "ims-emulator: the emulated IMS needs starlette: pip install 'airflow-provider-ims[emulator]'\n"
    )
