"""A share of the generated runs, for a process of its own."""

from __future__ import annotations

import faulthandler
import logging
import time
from collections import Counter
from pathlib import Path
from typing import Any

from airflow_provider_ims.emulator import Emulator
from tests.faults.runner import Runner, short_waits
from tests.faults.scenario import make_scenario

# A run that takes longer hangs: all stacks are shown, and the process ends.
HANG_SECONDS = 120
# Nobody cares for these files after a power cut, so they need no disk.
SHARED_MEMORY = Path("/dev/shm")


def run_share(share: tuple[int, int, int, float | None]) -> dict[str, Any]:
    """Run every ``step``-th scenario from ``first`` on, on an emulator of its own."""
    first, step, count, seconds = share
    logging.disable(logging.CRITICAL)
    logging.raiseExceptions = False
    figures: Counter[str] = Counter()
    failures: list[tuple[int, list[str]]] = []
    until = time.monotonic() + seconds if seconds else None
    with Emulator("--keep-requests", "100000") as emulator, short_waits():
        runner = Runner(emulator, SHARED_MEMORY if SHARED_MEMORY.is_dir() else None)
        try:
            for seed in range(first, first + count * step, step):
                if until and time.monotonic() > until:
                    break
                faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
                scenario = make_scenario(seed)
                findings = runner.run(scenario)
                figures["runs"] += 1
                figures["targets"] += len(scenario.targets)
                for name in ("missing_called_deleted", "never_sent_called_deleted", "asked_again"):
                    figures[name] += getattr(findings, name)
                if findings.wrong:
                    failures.append((seed, findings.wrong))
                    print(f"seed {seed}: " + "\n  ".join(findings.wrong[:5]), flush=True)
        finally:
            faulthandler.cancel_dump_traceback_later()
            runner.close()
    return {"figures": figures, "failures": failures, "faults": runner.faults, "ends": runner.interruptions}
