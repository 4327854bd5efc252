"""Row 6: 5,000 triggers that wait; measured by the triggers' own figures."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.rows import Figure, Measured, Quantity, Row, median
from benchmarks.service import ROOT, environment

SCENARIOS = {"waiting": "5,000 triggers", "sleeping": "5,000 tasks that only sleep"}
REQUESTS = "requests a round"
LATE = "milliseconds that the loop was late by its own doing"
FAILED = "triggers that did not succeed"


def measure(short: bool) -> Measured:
    """Run ``tests/triggers/figures.py``, once: it takes the worst of two minutes."""
    with tempfile.TemporaryDirectory(prefix="ims-benchmark-") as scratch:
        file = Path(scratch, "figures.json")
        # It ends with 1 when a figure of its own is missed; what it measured is there all the same.
        subprocess.run(
            [sys.executable, "tests/triggers/figures.py", *SCENARIOS, "--json", str(file)],
            cwd=ROOT,
            env=environment({"PYTHONPATH": str(ROOT)}),
            stdout=subprocess.DEVNULL,
        )
        found = json.loads(file.read_text(encoding="utf-8"))
    return Measured(
        {
            words: {name: [value] for name, value in found[scenario].items()}
            for scenario, words in SCENARIOS.items()
        }
    )


def figures(measured: Measured) -> list[Figure]:
    """Judge the requests and the loop."""
    samples, ours = measured.samples, SCENARIOS["waiting"]
    return [
        Figure(REQUESTS, median(samples, ours, REQUESTS), at_most=260, digits=0),
        Figure(
            "the loop late by its own doing, more than with 5,000 tasks that only sleep",
            median(samples, ours, LATE) - median(samples, SCENARIOS["sleeping"], LATE),
            "ms",
            at_most=100,
            digits=0,
        ),
        Figure(FAILED, median(samples, ours, FAILED), at_most=0, digits=0),
    ]


ROW = Row(
    number=6,
    name="waiting",
    title="5,000 waiting triggers",
    how="IMSMediaDeletedTrigger for one medium each, at one connection, in a real event loop, at 30 ms an answer and "
    "a look every 15 s; then all media are deleted. Late by its own doing: how much later than asked the loop wakes "
    "a task, as far as this process used the processor meanwhile. A full garbage collection is among it, which takes "
    "the longer the more tasks there are, whatever they wait for; freezing what is there would spare it, but the "
    "process belongs to every team's triggers.",
    quantities={
        REQUESTS: Quantity(REQUESTS, ""),
        LATE: Quantity("late by own doing", "ms"),
        "milliseconds that it was late by the clock": Quantity("late by the clock", "ms"),
        "milliseconds that an idle process's loop was late": Quantity("an idle process meanwhile", "ms"),
        "MiB more than an idle triggerer": Quantity("memory more than idle", "MiB"),
        "seconds from the last deletion until all have finished": Quantity("all know after", "s"),
    },
    measure=measure,
    figures=figures,
)
