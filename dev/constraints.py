"""Write ``constraints/airflow-<release>.txt``: the versions that an Airflow release came with, one list for each.

A list is what a resolver took on the day of the release, when nothing newer was there: close to the constraints file
that Airflow itself publishes, and made from the package index alone. ``airflow-2.txt`` and ``airflow-3.txt`` are
something else: what this repository is developed and tested with.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "constraints"

RELEASES = {
    "2.11.0": "2025-05-20T15:00:00Z",
    "2.11.2": "2026-03-15T00:00:00Z",
    "3.0.0": "2025-04-22T20:00:00Z",
    "3.0.6": "2025-08-29T22:00:00Z",
    "3.1.0": "2025-09-26T02:00:00Z",
    "3.1.8": "2026-03-12T01:00:00Z",
    "3.2.0": "2026-04-07T18:00:00Z",
    "3.2.2": "2026-05-29T11:00:00Z",
    "3.3.0": "2026-07-06T20:00:00Z",
    "3.3.2": "2026-09-17T15:00:00Z",
}
"""The first and the last release of each line that is supported, and an hour or more after it was published."""

BESIDE = ("apache-airflow-providers-standard", "apache-airflow-providers-alibaba")
"""Providers that share a dependency with this one, or that its examples use: Airflow's own lists have them too."""

PYTHON = "3.11"


def path_of(release: str) -> Path:
    return FOLDER / f"airflow-{release}.txt"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("releases", nargs="*", help=f"some of {', '.join(RELEASES)}; all by default")
    for release in parser.parse_args().releases or RELEASES:
        resolve(release, RELEASES[release])
        print(f"{path_of(release).name}: {len(path_of(release).read_text().split())} versions", flush=True)


def resolve(release: str, published: str) -> None:
    wanted = "\n".join([f"apache-airflow=={release}", *BESIDE])
    options = ("--python-version", PYTHON, "--exclude-newer", published, "--no-header", "--no-annotate")
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", *options, "-"]
    listed = subprocess.run(command, input=wanted, capture_output=True, text=True, check=False, cwd=FOLDER)
    if listed.returncode:
        sys.exit(f"constraints: {release} can't be resolved:\n{listed.stderr}")
    path_of(release).write_text(listed.stdout)


if __name__ == "__main__":
    main()
