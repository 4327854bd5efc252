"""Build and check what is to be published, write the changelog's next heading, and say what a person does then.

The version is ``__version__`` of the package and nowhere else.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import check_wheel

import constraints
from airflow_provider_ims import __version__

CHANGELOG = check_wheel.ROOT / "CHANGELOG.md"
DIST = check_wheel.ROOT / "dist"
UNRELEASED = "## Unreleased"

STEPS = """
{files} are checked and lie in dist/. What a person does now:
  1. Read CHANGELOG.md: is what breaks under "Breaking", and does the number say so? Does pyproject.toml name the
     repository under [project.urls]? A registry's page has no other way to it.
  2. Run .ci/run in a fresh clone of this commit, and make compatibility; once its page is committed, begin again.
  3. git tag v{version}, and push branch and tag.
  4. .venv/bin/uv publish dist/airflow_provider_ims-{version}*
  5. For what comes next, set __version__ in airflow_provider_ims/__init__.py.
"""


def main() -> None:
    headed = with_heading(CHANGELOG.read_text(), __version__, f"{datetime.now(UTC):%Y-%m-%d}")
    if headed != CHANGELOG.read_text():
        CHANGELOG.write_text(headed)
        sys.exit(
            f"release: CHANGELOG.md now has a section {__version__}; read it, commit, and run this again"
        )
    changed = check_wheel.run("git", "-C", str(check_wheel.ROOT), "status", "--porcelain")
    if changed:
        sys.exit(f"release: commit or remove these first, or what is published is in no commit:\n{changed}")
    with tempfile.TemporaryDirectory(prefix="release-") as name:
        folder = Path(name)
        sdist, wheel = check_wheel.build(folder / "dist")
        check_wheel.check_sdist(sdist)
        check_wheel.check_wheel(wheel)
        print(check_wheel.use(wheel, list(constraints.RELEASES)[-1], folder / "clean"))
        DIST.mkdir(exist_ok=True)
        for file in (sdist, wheel):
            shutil.copy(file, DIST)
        print(STEPS.format(files=f"{sdist.name} and {wheel.name}", version=__version__))


def with_heading(changelog: str, version: str, date: str) -> str:
    """The changelog whose open section, if there is one, is that of a version, with a new open one above it."""
    headed = f"{UNRELEASED}\n\n## {version} ({date})"
    if re.search(rf"^## {re.escape(version)}( \(|$)", changelog, re.MULTILINE):
        if re.search(rf"^{UNRELEASED}\n+(?!## )\S", changelog, re.MULTILINE):
            sys.exit(
                f"release: CHANGELOG.md has a section for {version}, and more under '{UNRELEASED}'; raise __version__"
            )
        return changelog
    if not re.search(rf"^{UNRELEASED}$", changelog, re.MULTILINE):
        sys.exit(f"release: CHANGELOG.md has neither '{UNRELEASED}' nor a section for {version}")
    return re.sub(rf"^{UNRELEASED}$", headed, changelog, count=1, flags=re.MULTILINE)


if __name__ == "__main__":
    main()
