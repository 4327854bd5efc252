"""Use the wheel on each Python beside each Airflow, and write what came of it into ``docs/compatibility.md``.

Results are kept in ``docs/compatibility.json``; a run replaces those of the pairs that it was asked for. The READMEs'
line on what was tested follows from them too. Nothing of it is typed in.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import check_wheel
from find_python import find_python

import constraints

DOCS = Path(__file__).parent.parent / "docs"
RESULTS, PAGE = DOCS / "compatibility.json", DOCS / "compatibility.md"
READMES = [DOCS.parent / "README.md", DOCS.parent / "README.zh-CN.md"]
MARK = "<!-- tested -->"
CLAIM = re.compile(rf"{MARK}\n(?:.+\n)?")
PYTHONS = ("3.11", "3.12", "3.13")
ENVIRONMENT = "installs"
"""A column of its own: `pip check` is clean, and no version changed that the release came with."""


def supported(python: str, release: str) -> bool:
    """Whether that Airflow installs on that Python at all: 3.1 is the first for 3.13."""
    return python != "3.13" or tuple(map(int, release.split(".")[:2])) >= (3, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", action="append", choices=PYTHONS, help="only this one; may be repeated")
    parser.add_argument("--airflow", action="append", choices=constraints.RELEASES, help="the same")
    arguments = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory(prefix="compatibility-") as name:
        folder = Path(name)
        _, wheel = check_wheel.build(folder / "dist")
        for python in arguments.python or PYTHONS:
            found = find_python(python)
            if found is None:
                print(f"Python {python} is not on this machine: skipped", flush=True)
                continue
            for release in arguments.airflow or constraints.RELEASES:
                if supported(python, release):
                    seen = attempt(wheel, release, folder / f"{python}-{release}", found)
                    failed |= "failed" in seen
                    keep(python, release, seen)
                    write()
                    print(f"Python {python}, Airflow {release}: {seen}", flush=True)
    sys.exit(failed)


def attempt(wheel: Path, release: str, folder: Path, python: str) -> dict[str, str]:
    try:
        return {ENVIRONMENT: "yes", **check_wheel.use(wheel, release, folder, python)}
    except SystemExit as end:
        print(end, flush=True)
        return {"failed": str(end).strip().splitlines()[-1][:200]}


def results() -> list[dict[str, Any]]:
    return list(json.loads(RESULTS.read_text())) if RESULTS.exists() else []


def keep(python: str, release: str, seen: dict[str, str]) -> None:
    others = [row for row in results() if (row["python"], row["airflow"]) != (python, release)]
    row = {"python": python, "airflow": release, "date": f"{datetime.now(UTC):%Y-%m-%d}", "seen": seen}
    order = sorted([*others, row], key=lambda one: (_numbers(one["airflow"]), _numbers(one["python"])))
    RESULTS.write_text(json.dumps(order, indent=1) + "\n")


def write() -> None:
    PAGE.write_text(page(results()))
    for readme in READMES:
        readme.write_text(CLAIM.sub(f"{MARK}\n{claim(results())}\n", readme.read_text()))


def page(rows: list[dict[str, Any]]) -> str:
    """The whole page: what runs where, and how to repeat it."""
    suites = list(dict.fromkeys(suite for row in rows for suite in row["seen"]))
    lines = [
        "# Compatibility",
        "",
        "The wheel in a bare environment of each Airflow release, in the versions that the release came with",
        "(`constraints/`). *installs*: `pip check` is clean, and no version changed. *form*: the connection form's",
        "own fields, without a warning. *deletion*, *sensors*, *plan*, *store*: DAGs run with `dag.test()` against",
        "the local IMS and OSS. *pages*: those of a plan and its deletion, from Airflow's own API server. A warning",
        "from a line of this package is an error. Written by `make compatibility`.",
        "",
        "| Airflow | Python | " + " | ".join(suites) + " | date |",
        "|---" * (len(suites) + 3) + "|",
    ]
    for row in rows:
        cells = [row["seen"].get(suite, "").replace("|", "/") for suite in suites]
        lines.append(f"| {row['airflow']} | {row['python']} | {' | '.join(cells)} | {row['date']} |")
    return "\n".join([*lines, ""])


def claim(rows: list[dict[str, Any]]) -> str:
    """What the READMEs may say, in any language."""
    worked = [row for row in rows if "failed" not in row["seen"]]
    airflows = sorted({row["airflow"] for row in worked}, key=_numbers)
    pythons = []
    for python in sorted({row["python"] for row in worked}, key=_numbers):
        first = min((row["airflow"] for row in worked if row["python"] == python), key=_numbers)
        pythons.append(python if first == airflows[0] else f"{python} (Airflow >= {first})")
    return f"Airflow {', '.join(airflows)}; Python {', '.join(pythons)}."


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


if __name__ == "__main__":
    main()
