"""Row 7: planning the retention of a library of a million."""

from __future__ import annotations

import json
import logging
import sys
import tempfile

from benchmarks.rows import Figure, Measured, Quantity, Row, median
from benchmarks.service import emulator, run

SIZES = {100_000: 1, 1_000_000: 1}


def measure(short: bool) -> Measured:
    """Plan libraries of two sizes, each in a process of its own."""
    measured = Measured({})
    for size, rounds in ({100_000: 1} if short else SIZES).items():
        for _ in range(rounds):
            for quantity, value in run("planning", str(size)).items():
                measured.samples.setdefault(f"{size:,} media", {}).setdefault(quantity, []).append(value)
    return measured


def figures(measured: Measured) -> list[Figure]:
    """Show what the largest one took."""
    samples = measured.samples
    largest = list(samples)[-1]
    seconds = median(samples, largest, "seconds")
    return [
        Figure(f"plan of {largest}", seconds, "s", digits=0),
        Figure(
            "time, of that of the list requests alone",
            seconds / median(samples, largest, "list_seconds"),
            at_most=1.3,
        ),
        Figure("memory", median(samples, largest, "megabytes"), "MB", at_most=300, digits=0),
        Figure("requests", median(samples, largest, "requests"), digits=0),
    ]


def main() -> None:
    """Plan a library of the size that is named; print what it took."""
    logging.disable(logging.WARNING)
    from tests.retention.figures import plan_large_library

    size = int(sys.argv[1])
    with emulator() as service, tempfile.TemporaryDirectory(prefix="ims-benchmark-") as folder:
        found = plan_large_library(service, folder, size)
    if found["population"] != size:
        raise RuntimeError(f"planned {found['population']} of {size}")
    print(json.dumps(found))


ROW = Row(
    number=7,
    name="planning",
    title="Planning a library of a million",
    how="Media of all ages are listed (100 a request) from the emulator and held against a policy that selects those "
    "over a year old, keeps the newest 1,000 and all with a legal hold; the plan and its page are written.",
    quantities={
        "seconds": Quantity("time", "s", 1),
        "list_seconds": Quantity("of it in list requests", "s", 1),
        "megabytes": Quantity("memory", "MB"),
        "requests": Quantity("requests", ""),
        "selected": Quantity("selected", ""),
    },
    measure=measure,
    figures=figures,
)

if __name__ == "__main__":
    main()
