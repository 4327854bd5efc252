"""What installing this package brings along: just what it needs, and never a version that Airflow pins."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import compatibility
import pytest
import release
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import constraints

ROOT = Path(__file__).parent.parent
CONSTRAINTS = sorted((ROOT / "constraints").glob("*.txt"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NEEDED = {
    "apache-airflow",
    "alibabacloud-credentials",
    "alibabacloud-tea",
    "asgiref",
    "pendulum",
    "requests",
    "tenacity",
    "urllib3",
}
OSS = {"alibabacloud-oss-v2"}
EMULATOR = {"starlette", "uvicorn", "httptools"}
# Distribution of each top-level module that has another name, or that only Airflow's own parts bring and ask for.
COMES_WITH = {
    "airflow": "apache-airflow",
    "jinja2": "apache-airflow",
    "markupsafe": "apache-airflow",
    "alibabacloud_credentials": "alibabacloud-credentials",
    "Tea": "alibabacloud-tea",
    "alibabacloud_oss_v2": "alibabacloud-oss-v2",
    "crcmod": "alibabacloud-oss-v2",
    # Airflow's own interfaces are made of these: paths, its database, the pages it serves.
    "fastapi": "apache-airflow",
    "fsspec": "apache-airflow",
    "sqlalchemy": "apache-airflow",
    "upath": "apache-airflow",
    # The old form's widgets, asked for only by the Airflow releases that have them.
    "flask_appbuilder": "apache-airflow",
    "flask_babel": "apache-airflow",
    "wtforms": "apache-airflow",
}


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(one).name) for one in requirements}


def test_the_dependencies_are_just_these() -> None:
    assert names(PROJECT["dependencies"]) == NEEDED
    assert names(PROJECT["optional-dependencies"]["emulator"]) == EMULATOR
    assert names(PROJECT["optional-dependencies"]["oss"]) == OSS


@pytest.mark.parametrize(
    "requirement", PROJECT["dependencies"] + PROJECT["optional-dependencies"]["emulator"]
)
def test_each_has_one_lower_bound_and_nothing_else(requirement: str) -> None:
    """An upper bound would drag another version of one of Airflow's own packages in."""
    read = Requirement(requirement)
    assert [one.operator for one in read.specifier] == [">="]
    assert not read.marker
    assert not read.extras


def test_each_is_imported_and_nothing_else_is() -> None:
    imported, of_emulator = set(), set()
    package = ROOT / "airflow_provider_ims"
    for file in package.rglob("*.py"):
        in_emulator = "emulator" in file.relative_to(package).parts
        for node in ast.walk(ast.parse(file.read_text())):
            for module in modules(node):
                top = module.partition(".")[0]
                if top == "pytest" and file.name == "pytest_plugin.py":
                    continue  # which only pytest itself loads
                if top == "azure" and file.name == "storage.py":
                    continue  # only with a path of Azure's, whose file system has brought it
                if top not in sys.stdlib_module_names and top != package.name:
                    served = top == "starlette" and "web" in file.parts  # by Airflow, whose pages they are
                    name = "apache-airflow" if served else COMES_WITH.get(top, top)
                    (of_emulator if in_emulator else imported).add(name)
                    # Which has it only in versions that not each Airflow came out with.
                    assert not module.startswith("airflow.providers.common.compat.sdk"), file
    assert imported == NEEDED | OSS
    assert of_emulator <= EMULATOR | OSS


def modules(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level:
        return [node.module or ""]
    return []


@pytest.mark.parametrize("file", CONSTRAINTS, ids=lambda file: file.stem)
def test_each_set_of_constraints_lets_all_of_them_in(file: Path) -> None:
    """Otherwise nobody could install beside that Airflow."""
    pinned = {}
    for line in file.read_text().split():
        name, found, version = line.partition("==")
        assert found, line
        pinned[canonicalize_name(name)] = version
    for requirement in map(Requirement, PROJECT["dependencies"]):
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement


def test_each_list_of_a_release_is_that_release_s() -> None:
    """Made by a command; whoever edits one by hand is told."""
    lists = {file.stem.removeprefix("airflow-"): file.read_text() for file in CONSTRAINTS}
    assert {name for name in lists if "." in name} == set(constraints.RELEASES)
    for name in constraints.RELEASES:
        assert f"apache-airflow=={name}" in lists[name].split()


def test_the_page_and_the_readmes_claim_what_was_tested() -> None:
    """And no more: ``make compatibility`` writes both."""
    rows = compatibility.results()
    assert compatibility.PAGE.read_text() == compatibility.page(rows)
    for readme in compatibility.READMES:
        assert f"{compatibility.MARK}\n{compatibility.claim(rows)}\n" in readme.read_text()
    assert [row for row in rows if "failed" in row["seen"]] == []
    pythons = {row["python"] for row in rows}
    assert pythons == {name.rpartition(" ")[2] for name in PROJECT["classifiers"] if "Python :: 3." in name}


def test_the_workflow_runs_what_is_tested_here() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    assert jobs["airflows"]["strategy"]["matrix"]["airflow"] == list(constraints.RELEASES)
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert ".ci/run" in commands
    assert {command.split()[1] for command in commands if command.startswith("make")} <= set(targets)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("# C\n\n## Unreleased\n\n- a\n", "# C\n\n## Unreleased\n\n## 1.1.0 (2026-02-03)\n\n- a\n"),
        ("# C\n\n## 1.1.0\n\n- a\n", "# C\n\n## 1.1.0\n\n- a\n"),
        ("# C\n\n## 1.1.0 (2026-02-01)\n", "# C\n\n## 1.1.0 (2026-02-01)\n"),
        (
            "# C\n\n## 1.1.0.1\n\n## Unreleased\n",
            "# C\n\n## 1.1.0.1\n\n## Unreleased\n\n## 1.1.0 (2026-02-03)\n",
        ),
    ],
)
def test_a_release_gets_its_heading(before: str, after: str) -> None:
    assert release.with_heading(before, "1.1.0", "2026-02-03") == after


def test_a_release_without_any_words_is_refused() -> None:
    with pytest.raises(SystemExit, match="has neither"):
        release.with_heading("# C\n\n## 1.0.0\n", "1.1.0", "2026-02-03")


def test_what_is_tried_twice_is_named_at_the_end(tmp_path: Path) -> None:
    script = (ROOT / ".ci/run").read_text().replace("step make", "step ./make")
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci/run").write_text(script)
    make = tmp_path / "make"
    make.write_text('#!/bin/sh\ntest "$1" != docs && exit\ntest -e tried || { touch tried; exit 1; }\n')
    make.chmod(0o755)
    done = subprocess.run(["bash", ".ci/run"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:][0].endswith("tried twice: 1")
    assert done.stdout.splitlines()[-1].split() == ["===", "./make", "docs"]


def test_what_changed_since_a_release_is_not_released_under_its_number() -> None:
    empty = "# C\n\n## Unreleased\n\n## 1.1.0 (2026-02-03)\n\n- a\n"
    assert release.with_heading(empty, "1.1.0", "2026-02-04") == empty
    with pytest.raises(SystemExit, match="raise __version__"):
        release.with_heading(empty.replace("## 1.1.0", "- b\n\n## 1.1.0"), "1.1.0", "2026-02-04")
