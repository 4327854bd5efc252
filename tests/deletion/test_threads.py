"""Work in a thread of its own: an exception may strike the waiting thread between any two steps."""

from __future__ import annotations

import faulthandler
import gc
import itertools
import logging
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import _base as futures
from concurrent.futures import thread as executors
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from airflow_provider_ims.api.client import IMSClient
from airflow_provider_ims.deletion import threads
from airflow_provider_ims.deletion.run import DeletionRun
from airflow_provider_ims.deletion.targets import read_targets
from airflow_provider_ims.deletion.threads import run_interruptible
from airflow_provider_ims.files.storage import storage_path
from tests.deletion.conftest import MemoryStore

# What a wait runs through. From Python 3.12 on, an exception out of a trace of opcodes is not always raised.
STRUCK = {__file__, threads.__file__, threading.__file__, futures.__file__, executors.__file__}
EVENT = "opcode" if sys.version_info < (3, 12) else "line"
FEWEST_STEPS = 20 if EVENT == "opcode" else 10


class TaskTimeout(BaseException):
    """What Airflow raises in a signal handler."""


class Work:
    """Goes on until it is cancelled, or for a moment."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.cancelled = threading.Event()
        self.began = self.ended = 0

    def __call__(self) -> None:
        self.began += 1
        self.cancelled.wait(self.seconds)
        self.ended += 1


def wait_apart(work: Work) -> None:
    run_interruptible(work, name="work", cancel=work.cancelled.set)


def strike_at(step: int, wait: Callable[[], object]) -> tuple[str, BaseException | None]:
    """Raise before the n-th step of the interpreter while waiting: where that was, and what came of it."""
    steps = itertools.count()
    where = ""

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal where
        # Not in whatever a collection or a finalizer runs in between, where Python swallows an exception.
        if frame.f_code.co_filename not in STRUCK:
            return None
        frame.f_trace_opcodes = EVENT == "opcode"
        if event == EVENT and not where and next(steps) == step:
            where = f"{frame.f_code.co_name}, line {frame.f_lineno}"
            raise TaskTimeout
        return trace

    gc.disable()
    sys.settrace(trace)
    try:
        wait()
    except BaseException as error:  # noqa: BLE001 - what it is, is the question
        return where, error
    finally:
        sys.settrace(None)
        gc.enable()
    return where, None


@pytest.fixture(autouse=True)
def _no_hanging() -> Iterator[None]:
    """A wait that never ends can't be told from outside; all stacks are shown, and the tests end."""
    faulthandler.dump_traceback_later(60, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def test_it_can_be_struck_before_any_step() -> None:
    for step in itertools.count():
        work = Work(seconds=0.02)
        where, error = strike_at(step, lambda work=work: wait_apart(work))
        assert work.began == work.ended, f"{where}: the work still goes on"
        if not where:
            assert error is None
            assert work.ended == 1
            assert step > FEWEST_STEPS
            return
        assert isinstance(error, TaskTimeout), f"{where}: {error!r}"


class SlowStore(MemoryStore):
    """Takes its time to save, in which a thread of the run is at work."""

    saving = 0

    def set(self, key: str, value: Any) -> None:
        self.saving += 1
        time.sleep(0.005)
        super().set(key, value)
        self.saving -= 1


def test_a_run_can_be_struck_before_any_step_also_while_it_opens(
    client: IMSClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Report and checkpoint are opened with threads; none of them may go on when the task is over."""
    caplog.set_level(logging.CRITICAL)
    chance = random.Random(1)
    step = 0
    while True:
        store = SlowStore()
        base = storage_path(str(tmp_path / str(step)))
        run = DeletionRun(client, read_targets(media_ids=["a"]), report_base=base, store=store)
        where, error = strike_at(step, run.execute)
        assert not store.saving, f"{where}: the checkpoint is still being saved"
        give_up = time.monotonic() + 5  # one whose work is over may be just about to end
        while alive := [one.name for one in threading.enumerate() if one.name.startswith("ims-")]:
            assert time.monotonic() < give_up, f"{where}: {alive} go on"
            time.sleep(0.001)
        if not where:
            assert step > FEWEST_STEPS
            return
        assert isinstance(error, TaskTimeout), f"{where}: {error!r}"
        step += chance.randrange(1, 12)


def test_it_can_be_struck_by_a_signal_at_any_time() -> None:
    def strike(*_: object) -> None:
        raise TaskTimeout

    chance = random.Random(1)
    struck = 0
    before = signal.signal(signal.SIGALRM, strike)
    try:
        for _ in range(400):
            work = Work(seconds=0.001)
            try:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.00005, 0.0015))
                wait_apart(work)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except TaskTimeout:
                struck += 1
            assert work.began == work.ended
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert struck > 20


def test_the_errors_of_the_work_are_raised() -> None:
    def work() -> None:
        raise ValueError("of the work")

    with pytest.raises(ValueError, match="of the work"):
        run_interruptible(work, name="work", cancel=lambda: None)


def test_a_thread_that_cannot_be_started_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        run_interruptible(lambda: None, name="work", cancel=lambda: None)
