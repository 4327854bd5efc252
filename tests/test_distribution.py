"""What installing this package brings along: just what it needs, and never a version that Airflow pins."""

from __future__ import annotations

import ast
import sys
import tomllib
from pathlib import Path

import pytest
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
EMULATOR = {"starlette", "uvicorn", "httptools"}
# Distribution of each top-level module that has another name, or that only Airflow's own parts bring and ask for.
COMES_WITH = {
    "airflow": "apache-airflow",
    "alibabacloud_credentials": "alibabacloud-credentials",
    "Tea": "alibabacloud-tea",
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
                if top not in sys.stdlib_module_names and top != package.name:
                    (of_emulator if in_emulator else imported).add(COMES_WITH.get(top, top))
                    # Which has it only in versions that not each Airflow came out with.
                    assert not module.startswith("airflow.providers.common.compat.sdk"), file
    assert imported == NEEDED
    assert of_emulator <= EMULATOR


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
    for release in constraints.RELEASES:
        assert f"apache-airflow=={release}" in lists[release].split()
