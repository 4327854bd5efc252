"""``python -m benchmarks [ROW ...] [--short]``: measure rows and write what came out, a file a row."""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.render import RESULTS, in_columns, render, table
from benchmarks.rows import NAMES, Measured, Row, load

PACKAGES = (
    "apache-airflow",
    "apache-airflow-task-sdk",
    "airflow-provider-ims",
    "alibabacloud-ice20201109",
    "apache-airflow-providers-alibaba",
    "apache-airflow-providers-amazon",
    "apache-airflow-providers-microsoft-azure",
    "requests",
    "urllib3",
    "tenacity",
)


def machine() -> dict[str, str]:
    """The machine in words that do not tell which one it is."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            model = value.strip()
            break
    return {
        "cores": str(os.cpu_count()),
        "processor": model,
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Of everything that takes part."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def write(folder: Path, row: Row, measured: Measured, *, short: bool, seconds: float) -> None:
    """Write what came of a row."""
    value = {
        "row": row.name,
        "short": short,
        "measured": time.strftime("%Y-%m-%d", time.gmtime()),
        "seconds": round(seconds),
        "machine": machine(),
        "versions": versions(),
        "samples": {
            contender: {name: [round(value, 4) for value in values] for name, values in quantities.items()}
            for contender, quantities in measured.samples.items()
        },
        "curves": {
            name: [[round(x, 4), round(y, 4)] for x, y in points] for name, points in measured.curves.items()
        },
        "notes": measured.notes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value, ensure_ascii=False, indent=1)
    (folder / f"{row.name}.json").write_text(text + "\n", encoding="utf-8")


def main() -> int:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(NAMES)}; all by default")
    parser.add_argument("--short", action="store_true", help="a few minutes, for a first look; is no result")
    parser.add_argument("--into", type=Path, metavar="FOLDER", help="write the results there instead")
    arguments = parser.parse_args()
    if unknown := set(arguments.rows) - set(NAMES):
        parser.error(f"no row is called {', '.join(sorted(unknown))}; they are {', '.join(NAMES)}")
    logging.disable(logging.WARNING)
    missed = 0
    for name in arguments.rows or NAMES:
        row = load(name)
        print(f"\n{row.number} {row.title}", flush=True)
        began = time.monotonic()
        measured = row.measure(arguments.short)
        seconds = time.monotonic() - began
        print(in_columns(table(row, measured)))
        for figure in row.figures(measured):
            missed += figure.verdict == "missed"
            bound = f" ({figure.to_reach})" if figure.to_reach else ""
            print(f"  {figure.verdict or '-':7} {figure.words}: {figure.text}{bound}")
        print("", *measured.notes, f"It took {seconds:.0f} s.", sep="\n  ", flush=True)
        if arguments.into or not arguments.short:
            folder = arguments.into or RESULTS
            write(folder, row, measured, short=arguments.short, seconds=seconds)
    if not (arguments.short or arguments.into):
        render()
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
