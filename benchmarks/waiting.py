"""Row 6: 5,000 triggers that wait; measured by the triggers' own figures."""

from __future__ import annotations

import re
import subprocess
import sys

from benchmarks.rows import Figure, Measured, Quantity, Row, median
from benchmarks.service import ROOT, environment

OURS = "5,000 triggers"
LINES = {
    "requests": r"requests a round: ([\d,]+)",
    "late": r"own doing: ([\d,]+) ms",
    "by_the_clock": r"by the clock: ([\d,]+) ms",
    "idle": r"idle loop: ([\d,]+) ms",
    "megabytes": r"idle triggerer: ([\d,]+) MiB",
    "seconds": r"last deletion within: ([\d,]+) s",
    "failed": r"did not succeed: ([\d,]+) triggers",
}


def measure(short: bool) -> Measured:
    """Run ``tests/triggers/figures.py waiting``."""
    done = subprocess.run(
        [sys.executable, "tests/triggers/figures.py", "waiting"],
        cwd=ROOT,
        env=environment({"PYTHONPATH": str(ROOT)}),
        stdout=subprocess.PIPE,
        text=True,
    )
    quantities = {}
    for quantity, pattern in LINES.items():
        found = re.search(pattern, done.stdout)
        if not found:
            raise RuntimeError(f"no {quantity} in {done.stdout!r}, which ended with {done.returncode}")
        quantities[quantity] = [float(found[1].replace(",", ""))]
    return Measured({OURS: quantities})


def figures(measured: Measured) -> list[Figure]:
    """Judge the requests and the loop."""
    samples = measured.samples
    return [
        Figure("requests a round", median(samples, OURS, "requests"), at_most=260, digits=0),
        Figure("event loop late by own doing", median(samples, OURS, "late"), "ms", at_most=100, digits=0),
        Figure("triggers without success", median(samples, OURS, "failed"), at_most=0, digits=0),
    ]


ROW = Row(
    number=6,
    name="waiting",
    title="5,000 waiting triggers",
    how="IMSMediaDeletedTrigger for one medium each, at one connection, in a real event loop, at 30 ms an answer and "
    "a look every 15 s. Late by own doing: how much later than asked the loop wakes a task, as far as this process "
    "used the processor meanwhile.",
    quantities={
        "requests": Quantity("requests a round", ""),
        "late": Quantity("late by own doing", "ms"),
        "by_the_clock": Quantity("late by the clock", "ms"),
        "idle": Quantity("an idle loop meanwhile", "ms"),
        "megabytes": Quantity("memory more than an idle triggerer", "MiB"),
        "seconds": Quantity("all know after the last deletion", "s"),
    },
    measure=measure,
    figures=figures,
)
