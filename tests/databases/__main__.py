"""``python -m tests.databases``: the tests; and what they measured, as a table into ``docs/scale.md``."""

from __future__ import annotations

import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "dev"))

from tests.databases.runs import FIGURES, Figures

PAGE = Path(__file__).parents[2] / "docs" / "scale.md"
BEGINS, ENDS = "<!-- written by python -m tests.databases -->\n", "<!-- end -->\n"

ROWS = {
    "kept state of a run of 1,000,000 ids, at its largest": "{0.state:,} bytes",
    "one save of it, median": "{0.save:,.0f} ms",
    "kept state under names of 250 characters, neighbours ending differently": "{0.state_longest:,} bytes",
    "its result": "{0.result:,} bytes",
    "what its task keeps while it is deferred": "{0.deferred:,} bytes",
    "trigger with 500 ids of 32 characters": "{0.trigger_ids:,} bytes",
    "trigger with 120 URLs of 24 characters of four bytes": "{0.trigger_urls:,} bytes",
    "trigger with a manifest's path": "{0.trigger_path:,} bytes",
    "largest trigger, encrypted as by Airflow 2": "{0.trigger_encrypted:,} bytes",
}


def table(databases: dict[str, Figures]) -> str:
    """Return the figures as a table of Markdown, and what they were measured on."""
    lines = [f"| | {' | '.join(databases)} |", "|---" * (1 + len(databases)) + "|"]
    python = ".".join(platform.python_version_tuple()[:2])
    on = f"Airflow {version('apache-airflow')}, Python {python}, {os.cpu_count()} cores, all on one machine"
    for name, form in ROWS.items():
        lines.append(f"| {name} | {' | '.join(form.format(figures) for figures in databases.values())} |")
    return "".join(f"{line}\n" for line in (*lines, "", f"Measured on {datetime.now(UTC):%Y-%m-%d}: {on}."))


class Writer:
    """Writes the page once all tests have passed."""

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        found: Any = session.config.stash.get(FIGURES, {})
        if exitstatus == 0:
            before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGINS)
            after = rest.partition(ENDS)[2]
            PAGE.write_text(f"{before}{BEGINS}{table(found)}{ENDS}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(pytest.main(["tests/databases"], plugins=[Writer()]))
