"""Runs one scenario, try after try, until one of them ends by itself."""

from __future__ import annotations

import logging
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import fsspec
from airflow.sdk.io import attach

from airflow_provider_ims.api import client as client_module
from airflow_provider_ims.api.client import IMSClient
from airflow_provider_ims.api.credentials import Credentials
from airflow_provider_ims.api.endpoints import parse_host
from airflow_provider_ims.api.errors import IMSError
from airflow_provider_ims.deletion import record, run, targets
from airflow_provider_ims.deletion.targets import read_targets
from airflow_provider_ims.emulator import Emulator
from airflow_provider_ims.files.storage import storage_path
from tests.faults.crash import Killed, Life, MortalCredentials, MortalReport, MortalRun, MortalStore
from tests.faults.oracle import Findings, Tries, check
from tests.faults.scenario import REGION, Interruption, Scenario

TEMPORARY_KEY = ("STS.suite", "suite-secret", "suite-token")
LONGEST_RUN = 60.0
_BACKOFF = client_module.wait_random_exponential


class TaskTimeout(BaseException):
    """What Airflow raises in the main thread when a task's time is over."""


@contextmanager
def short_waits() -> Iterator[None]:
    """Shorten the constants that make a run wait: the same behaviour, a hundred times as fast."""
    looks = run.LOOK_AGAIN_SECONDS
    run.LOOK_AGAIN_SECONDS = (0.005, 0.01, 0.02, 0.04, 0.075)  # type: ignore[assignment]
    client_module.wait_random_exponential = lambda multiplier, max: _BACKOFF(multiplier / 100, max / 100)  # type: ignore[assignment]
    try:
        yield
    finally:
        run.LOOK_AGAIN_SECONDS = looks
        client_module.wait_random_exponential = _BACKOFF  # type: ignore[assignment]


class Runner:
    """Runs scenarios on one emulator, which is reset before each."""

    def __init__(self, emulator: Emulator, scratch: Path | None = None) -> None:
        self.emulator = emulator
        # Plays a store that can't append.
        attach("memory", fs=fsspec.filesystem("memory"))
        self._scratch = Path(tempfile.mkdtemp(prefix="ims-faults-", dir=scratch))
        self.faults: dict[str, int] = {}
        self.interruptions: dict[str, int] = {}

    def close(self) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)

    def run(self, scenario: Scenario) -> Findings:
        """Run one scenario and check it."""
        began = time.monotonic()
        emulator = self.emulator
        emulator.reset()
        emulator.seed(medium.seed() for medium in scenario.library)
        if scenario.token:
            key_id, secret, token = TEMPORARY_KEY
            emulator.add_key(key_id, secret, security_token=token)
        batch_size, targets.MAX_MEDIA_PER_CALL = targets.MAX_MEDIA_PER_CALL, scenario.batch_size
        kept: dict[str, str] = {}
        tries = Tries()
        result = None
        base = None
        if scenario.report:
            root = str(self._scratch) if scenario.report == "local" else "memory://"
            base = storage_path(f"{root}/seed={scenario.seed}")
        try:
            for interruption in (*scenario.interruptions, None):
                if scenario.report_vanishes and base is not None and base.exists():
                    base.rmdir(recursive=True)
                result = self._try(scenario, interruption, kept, base, tries)
                if result is not None:
                    break
            assert result is not None
            findings = check(scenario, emulator, tries, result)
        except Exception as error:
            logging.getLogger(__name__).info("seed %d", scenario.seed, exc_info=error)
            findings = Findings([f"failed: {type(error).__name__}: {error}"])
        finally:
            targets.MAX_MEDIA_PER_CALL = batch_size
            if base is not None:
                base.rmdir(recursive=True) if base.exists() else None
        if time.monotonic() - began > LONGEST_RUN:
            findings.wrong.append(f"took {time.monotonic() - began:.1f} s")
        for name, count in emulator.stats()["faults"].items():
            self.faults[name] = self.faults.get(name, 0) + count
        for end in tries.ends:
            self.interruptions[end] = self.interruptions.get(end, 0) + 1
        return findings

    def _try(
        self,
        scenario: Scenario,
        interruption: Interruption | None,
        kept: dict[str, str],
        base: Any,
        tries: Tries,
    ) -> dict[str, Any] | None:
        """Run one try; None when it was interrupted."""
        kind = interruption.kind if interruption else None
        self._set_rules(scenario, interruption)
        life = Life(interruption.point, interruption.count) if interruption and kind == "crash" else Life()
        stop = threading.Event()
        key = (
            TEMPORARY_KEY
            if scenario.token
            else (self.emulator.access_key_id, self.emulator.access_key_secret)
        )
        client = IMSClient(
            parse_host(self.emulator.endpoint),
            MortalCredentials(
                Credentials(*key), life, stop, interruption.count if interruption and kind == "stop" else None
            ),
            read_timeout=scenario.read_timeout,
            retry_seconds=0.1 if kind in ("outage", "drought") else 60,
        )
        attempt = len(tries.begun) + 1
        chosen = read_targets(**{f"{scenario.kind}s": scenario.given_to(attempt)})
        MortalReport.life = life
        lasting_report, record.ReportWriter = record.ReportWriter, MortalReport  # type: ignore[misc]
        mortal = MortalRun(
            client,
            chosen,
            region=REGION,
            delete_physical_files=scenario.delete_physical_files,
            preview=scenario.preview,
            max_concurrency=scenario.concurrency,
            report_base=base,
            attempt=attempt,
            store=MortalStore(kept, life) if scenario.durable else None,
            stop=stop,
        )
        mortal.life = life
        tries.begun.append(time.time())
        try:
            with _timer(interruption.seconds if interruption and kind == "timeout" else None):
                result = mortal.execute()
        except (Killed, TaskTimeout) as cut:
            tries.kills += 1
            tries.ends.append(
                f"{kind} at {interruption.point}" if isinstance(cut, Killed) and interruption else "timeout"
            )
            return None
        except IMSError:
            if kind not in ("stop", "outage", "drought", "refusal"):
                raise
            tries.ends.append(str(kind))
            return None
        finally:
            life.end(LONGEST_RUN)
            record.ReportWriter = lasting_report  # type: ignore[misc]
            tries.lost += client.stats.lost
            client.close()
            chosen.close()
        tries.ends.append("end")
        return result

    def _set_rules(self, scenario: Scenario, interruption: Interruption | None) -> None:
        self.emulator.drop_faults()
        kind = interruption.kind if interruption else None
        rules: list[dict[str, Any]] = list(scenario.rules)
        if interruption and kind == "outage":
            rules = [{"kind": "error", "status": 503, "skip": interruption.count}]
        elif interruption and kind == "drought":
            rules = [{"kind": "throttle", "status": 400, "skip": interruption.count}]
        if rules:
            self.emulator.ask("POST", "/faults", rules)
        if not scenario.token:
            actions = ["ice:Get*", "ice:BatchGet*"] if kind == "refusal" else ["ice:*"]
            self.emulator.add_key(
                self.emulator.access_key_id, self.emulator.access_key_secret, actions=actions
            )


@contextmanager
def _timer(seconds: float | None) -> Iterator[None]:
    """Raise :class:`TaskTimeout` in this thread, wherever it is then."""
    if not seconds:
        yield
        return

    def over(number: int, frame: FrameType | None) -> None:
        raise TaskTimeout

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
