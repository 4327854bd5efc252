"""The command line, and the process behind it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from airflow_provider_ims.emulator import Emulator
from airflow_provider_ims.emulator.faults import FAULT_KINDS
from airflow_provider_ims.emulator.operations import OPERATIONS
from tests.emulator.raw_client import RawClient

COMMAND = [sys.executable, "-m", "airflow_provider_ims.emulator"]


def run(*arguments):
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=30, check=False)


def test_help_explains_everything():
    text = run("--help").stdout
    for word in (
        *FAULT_KINDS,
        *OPERATIONS,
        "--faults",
        "--keys",
        "--library",
        "POST /protect",
        "emulator-secret",
    ):
        assert word in text


@pytest.mark.parametrize(
    ("option", "content", "complaint"),
    [
        ("--library", '{"url": "oss://b/1"}\n{}', "line 2"),
        ("--faults", '[{"kind": "earthquake"}]', "earthquake"),
        ("--faults", "{}", "file must hold a JSON list of fault rules"),
        ("--faults", "- kind: reset", "file must hold a JSON list of fault rules"),
        ("--keys", '[{"key_id": "k"}]', "secret"),
        ("--keys", None, "No such file"),
    ],
)
def test_bad_files_are_named_in_one_sentence(tmp_path, option, content, complaint):
    path = tmp_path / "file"
    if content is not None:
        path.write_text(content)
    done = run(option, str(path))
    assert done.returncode == 2
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("option", ["--service-port", "--control-port"])
def test_a_port_that_is_taken_is_named(ims_emulator, option):
    port = ims_emulator.host.partition(":")[2]
    done = run(option, port)
    assert done.returncode == 2
    assert f"port {port} can't be used: " in done.stderr
    assert "Traceback" not in done.stderr


def test_files_are_taken_and_a_reset_brings_them_back(tmp_path):
    (tmp_path / "library.jsonl").write_text('{"url": "oss://b/1", "protected": true}\n')
    (tmp_path / "faults.json").write_text('[{"kind": "echo"}]')
    (tmp_path / "keys.json").write_text('[{"key_id": "k", "secret": "s"}]')
    ready = tmp_path / "ready.json"
    with Emulator(
        *("--library", str(tmp_path / "library.jsonl"), "--faults", str(tmp_path / "faults.json")),
        *("--keys", str(tmp_path / "keys.json"), "--generate", "5", "--region", "cn-beijing"),
        *("--ready-file", str(ready)),
    ) as emulator:
        assert json.loads(ready.read_text()) == {"service": emulator.endpoint, "control": emulator.control}
        emulator.drop_faults()
        emulator.seed([{"url": "oss://b/2"}])
        assert len(emulator.library()) == 7
        emulator.reset()
        media = emulator.library()
        assert len(media) == 6
        assert [medium["url"] for medium in media if medium["protected"]] == ["oss://b/1"]
        assert any("oss-cn-beijing" in medium["url"] for medium in media)
        assert [rule["kind"] for rule in emulator.ask("GET", "/faults")["rules"]] == ["echo"]
        assert [key["key_id"] for key in emulator.ask("GET", "/keys")["keys"]] == ["emulator", "k"]


def test_a_port_that_is_taken(ims_emulator):
    port = ims_emulator.host.rpartition(":")[2]
    done = run("--service-port", port)
    assert done.returncode == 2
    assert "in use" in done.stderr


def test_a_chosen_port():
    with Emulator() as first:
        port = first.host.rpartition(":")[2]
    with Emulator("--service-port", port) as second:
        assert second.host.rpartition(":")[2] == port


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_when_told_to(sign):
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert "service" in json.loads(process.stdout.readline())
        process.send_signal(sign)
        process.wait(10)
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_callers_who_are_kept_waiting_do_not_keep_it_from_ending(capfd):
    emulator = Emulator()
    emulator.start()
    emulator.add_fault("timeout")
    caller = threading.Thread(target=ask_in_vain, args=(RawClient(emulator),))
    caller.start()
    deadline = time.monotonic() + 60
    while not emulator.stats()["faults"]:
        assert time.monotonic() < deadline
    started = time.monotonic()
    emulator.stop()
    caller.join(20)
    assert not caller.is_alive()
    assert time.monotonic() - started < 20
    assert capfd.readouterr().err == ""


def ask_in_vain(raw):
    with pytest.raises(ConnectionError):
        raw("ListMediaBasicInfos")


def test_it_ends_when_its_parent_dies():
    script = (
        "from airflow_provider_ims.emulator import Emulator\n"
        "import time\n"
        "emulator = Emulator()\n"
        "emulator.start()\n"
        "print(emulator.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 60
    while is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_one_that_was_killed_says_so():
    with Emulator() as emulator:
        os.kill(emulator.pid, signal.SIGKILL)
        os.waitid(os.P_PID, emulator.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(RuntimeError, match=f"exit code is -{signal.SIGKILL:d}"):
            emulator.stats()


def test_an_emulator_that_cannot_start_says_so(capfd):
    with pytest.raises(RuntimeError, match="did not start"):
        Emulator("--library", "/nonexistent").start()
    assert "/nonexistent" in capfd.readouterr().err
