"""Every command and snippet of the README and the guides, run; and tables of parameters, held against the code.

A fenced block is run as its language says. A comment in the line above it says more: ``<!-- file: NAME -->`` that it
is a file, which lies beside the page's other files when anything of the page is run; ``<!-- not run: REASON -->``
that it can't be run. Addresses, keys and ids of the text are replaced by those of a local IMS.
"""

from __future__ import annotations

import inspect
import itertools
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import airflow_provider_ims.operators.ims as operators
import airflow_provider_ims.sensors.ims as sensors
from airflow_provider_ims import __version__
from airflow_provider_ims.api.operations import MediaInfo
from airflow_provider_ims.base import IMSTask
from airflow_provider_ims.emulator import Emulator
from airflow_provider_ims.emulator.faults import FAULT_KINDS
from airflow_provider_ims.exceptions import IMSPermissionError
from airflow_provider_ims.files.storage import StorageError, list_names, storage_path
from airflow_provider_ims.hooks.ims import IMSHook
from airflow_provider_ims.operators.base import IMSBaseOperator
from airflow_provider_ims.sensors.base import IMSBaseSensor
from tests.team import Team, team
from tests.test_example_dags import load, states

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    # What is translated has the same blocks: tests/test_translations.py.
    *(page for page in sorted(ROOT.glob("docs/**/*.md")) if page.parent.name != "zh"),
    ROOT / "airflow_provider_ims/emulator/README.md",
]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Block:
    """A fenced block of a page. ``mark`` is ``file`` or ``not run``, and ``about`` what follows it."""

    page: Path
    line: int
    language: str
    text: str
    mark: str
    about: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """Find a page's blocks; directives for Sphinx, ``{...}``, are none."""
    pattern = re.compile(
        r"(?:^<!-- (file|not run): ([^\n]+) -->\n)?^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL
    )
    text = page.read_text()
    for found in pattern.finditer(text):
        mark, about, language, content = found.groups(default="")
        if not language.startswith("{"):
            yield Block(page, text.count("\n", 0, found.start(3)) + 1, language, content, mark, about)


BLOCKS = [block for page in PAGES for block in blocks(page)]


@pytest.fixture(scope="module")
def ims_emulator_session() -> Iterator[Emulator]:
    """A local IMS whose transcoding jobs are done at once."""
    with Emulator("--job-seconds", "0", "--oss-port", "0") as emulator:
        yield emulator


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a block is run; Airflow finds DAGs there."""
    bundle = {
        "name": "snippets",
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(tmp_path)},
    }
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps([bundle]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def media(ims_emulator: Emulator) -> list[str]:
    """The ids of a library, oldest first, of which a tenth is older than 90 days."""
    return ims_emulator.generate(200, days=100)


@pytest.fixture
def told(tmp_path: Path, media: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Team]:
    """What the team that :mod:`tests.team` makes was told. Its editors have deleted the newest three media."""
    with team(tmp_path, media[-3:]) as made:
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        yield made


@pytest.mark.usefixtures("airflow_database", "ims_connection", "told")
@pytest.mark.parametrize("block", [block for block in BLOCKS if block.mark != "not run"], ids=str)
def test_runs(block: Block, folder: Path, media: list[str], ims_emulator: Emulator) -> None:
    for other in blocks(block.page):
        if other.mark == "file":
            path = folder / other.about
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(other.text)
    assert block.language in RUNNERS, (
        f"{block}: nobody knows how to run {block.language!r}; mark it, or name another"
    )
    RUNNERS[block.language](block, folder, media, ims_emulator)


def test_the_guide_names_every_fault() -> None:
    table = (ROOT / "docs/testing.md").read_text().partition("## Faults")[2]
    named = re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)))
    assert sorted(named) == sorted(FAULT_KINDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_text_names_make_targets_that_exist(page: Path) -> None:
    for target in re.findall(r"`make ([a-z0-9-]+)", page.read_text()):
        assert target in make_targets(), f"there is no `make {target}`"


@dataclass(frozen=True)
class Parameter:
    """What a page's table says of a parameter."""

    name: str
    default: str
    templated: str


def parameters(page: Path, heading: str) -> list[Parameter]:
    """Read the table below a heading; a row may name several."""
    section = page.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    names, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("|") and not line.startswith("|---")
    ]
    columns = [dict(zip(names, row, strict=True)) for row in rows]
    return [
        Parameter(name, row["default"], row.get("templated", ""))
        for row in columns
        for name in re.findall(r"`(\w+)`", row["parameter"])
    ]


def arguments(thing: type, *, without: type | None = None) -> list[Parameter]:
    """Read them from the code: the class's own, and of its bases those with a name."""
    known = {} if without is None else dict(inspect.signature(without.__init__).parameters)
    own = {
        name: one
        for name, one in inspect.signature(thing.__init__).parameters.items()
        if name != "self" and one.kind is not one.VAR_KEYWORD and name not in known
    }
    templated = getattr(thing, "template_fields", ())
    found = []
    for name, one in own.items():
        if name == "deferrable":
            default = "`[operators] default_deferrable`"
        elif one.default is one.empty:
            default = "required"
        else:
            default = "" if one.default is None else f"`{one.default!r}`"
        found.append(Parameter(name, default, "yes" if name in templated else "no"))
    return found


DOCUMENTED: dict[str, list[Parameter]] = {
    "Every operator and sensor": arguments(IMSBaseOperator),
    "Every sensor": arguments(IMSBaseSensor, without=IMSBaseOperator),
    "IMSHook": arguments(IMSHook),
    **{
        thing.__name__: arguments(thing)
        for module in (operators, sensors)
        for thing in vars(module).values()
        if isinstance(thing, type)
        and issubclass(thing, IMSTask)
        and thing.__name__.startswith("IMS")
        and thing not in (IMSBaseOperator, IMSBaseSensor)
    },
}


def test_the_page_of_all_parameters_has_all() -> None:
    page = ROOT / "docs/parameters.md"
    headings = re.findall(r"^## (.+)$", page.read_text(), re.MULTILINE)
    assert set(headings) == set(DOCUMENTED)
    assert {heading: parameters(page, heading) for heading in headings} == DOCUMENTED


def test_the_readme_has_the_delete_operators_parameters() -> None:
    operator = "IMSDeleteMediaInfosOperator"
    told = parameters(ROOT / "README.md", f"`{operator}`")
    expected = DOCUMENTED[operator] + DOCUMENTED["Every operator and sensor"]
    assert told == [Parameter(one.name, one.default, "") for one in expected]


def test_the_reference_shows_defaults() -> None:
    """Of what is a dataclass only by Airflow's base classes, too."""
    pytest.importorskip("sphinx", reason="comes with `make docs`")
    conf = runpy.run_path(str(ROOT / "docs/conf.py"))
    show = conf["simplify_signature"]
    text, _ = show(None, "class", "", operators.IMSDeleteMediaInfosOperator, None, "(*args, **kwargs)", None)
    for one in DOCUMENTED["IMSDeleteMediaInfosOperator"]:
        default = {"": "None", "`[operators] default_deferrable`": "conf"}.get(
            one.default, one.default.strip("`")
        )
        assert f"{one.name}={default}" in text
    assert show(None, "class", "", MediaInfo, None, "(media_id)", None) == ("", None)


def run_python(block: Block, folder: Path, media: list[str], emulator: Emulator) -> None:
    name = Path(block.about).name or "snippet.py"
    path = folder / (block.about or name)
    path.write_text(block.text)
    if name.startswith("test_") or name == "conftest.py":
        # Run by the page's own command, once for all of them: each run of pytest loads Airflow.
        assert any(other.text == "pytest\n" for other in blocks(block.page))
    elif re.search(r"\bDAG\(|@dag\b", block.text):
        for dag in load(path).values():
            run_dag(dag, folder, media, emulator)
    else:
        emulator.oss.put("my-bucket", "to-delete.txt", "\n".join(media))
        exec(compile(block.text, str(block), "exec"), {"__name__": "__main__"})
        checked_hook()


def run_dag(dag: Any, folder: Path, media: list[str], emulator: Emulator) -> None:
    """Run a DAG with what its parameters ask for: if it deletes, then something, and nothing but that."""
    for name in ("1080p", "480p"):  # what a transcoder writes
        emulator.oss.put("my-bucket", f"web/{media[-1]}-{name}.mp4", "a film")
    offered = {"media_ids": media[-3:], "source_media_id": media[-1], "folder": str(folder)}
    conf = {name: value for name, value in offered.items() if name in dag.params}
    operators = {type(task).__name__ for task in dag.tasks}
    if "IMSPlanMediaRetentionOperator" in operators:
        long_ago = f"{datetime.now(UTC) - timedelta(days=90):%Y-%m-%dT%H:%M:%SZ}"
        named = {one["media_id"] for one in emulator.library() if one["created"] < long_ago}
    else:
        named = {*conf.get("media_ids", ()), conf.get("source_media_id")}
        if "SQLExecuteQueryOperator" in operators:
            named |= {*media[-3:]}
    before = len(emulator.deleted())
    # All is run, but for the part of a person, and for days of waiting.
    finished = dag.test(run_conf=conf, logical_date=None, mark_success_pattern="^(approve|grace)$")
    assert set(states(finished).values()) == {"success"}
    deleted = {one["media_id"] for one in emulator.deleted()[before:]}
    assert deleted <= named
    assert bool(deleted) == ("IMSDeleteMediaInfosOperator" in operators)


def run_commands(block: Block, folder: Path, media: list[str], emulator: Emulator) -> None:
    command = ""
    for line in block.text.replace("\\\n", " ").splitlines():
        command += f"\n{line}"
        try:
            words = shlex.split(command, comments=True)
        except ValueError:  # the quotation ends in one of the next lines
            continue
        command = ""
        if words:
            run_command(words, folder, media, emulator)
    assert not command


def run_command(words: list[str], folder: Path, media: list[str], emulator: Emulator) -> None:
    if words[0] == "make":
        assert words[1] in make_targets()
    elif words[:2] == ["pip", "install"]:
        check_requirements(words[2:])
    elif words[:2] == ["pip", "wheel"]:  # built by `make wheel`
        assert words[2:] == ["--no-deps", "--wheel-dir", "dist", "."]
    elif words[0] == "uvx":
        check_requirements([words[2]])
        run_command(words[3:], folder, media, emulator)
    elif words[0] == "ims-emulator":
        arguments = ["0" if before.endswith("-port") else word for before, word in itertools.pairwise(words)]
        with Emulator(*arguments) as started:
            assert started.stats()
    elif words[:3] == ["airflow", "connections", "add"]:
        add_connection(words, emulator)
    elif words[0] == "pytest":
        # As in a project of its own, which has nothing of this run's Airflow.
        env = {name: value for name, value in environment().items() if not name.startswith("AIRFLOW_")}
        done = subprocess.run(
            words, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stdout
    else:
        if words[0] == "curl":
            words = ["curl", "--silent", "--show-error", "--fail-with-body", "--noproxy", "*", *words[1:]]
        words = [to_local(word, media, emulator) for word in words]
        done = subprocess.run(
            words, cwd=folder, env=environment(), capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, f"{shlex.join(words)}: {done.stdout}{done.stderr}"


def to_local(word: str, media: list[str], emulator: Emulator) -> str:
    """Put the local IMS's addresses, and an id that exists, in the place of those in the text."""
    for port, url in (("8090", emulator.endpoint), ("8091", emulator.control)):
        word = re.sub(rf"(http://)?(localhost|127\.0\.0\.1):{port}", url, word)
        word = re.sub(rf"^{port}$", url.rpartition(":")[2], word)
    return word.replace('"..."', f'"{media[0]}"')


def add_connection(words: list[str], emulator: Emulator) -> None:
    """Add a connection to Airflow's database as written, and ask IMS with it."""
    from airflow.models.connection import Connection
    from airflow.utils.session import create_session

    local = [to_local(word, [""], emulator) for word in words]
    subprocess.run([BIN / "airflow", *local[1:]], env=environment(), check=True, capture_output=True)
    with create_session() as session:
        added = session.query(Connection).filter(Connection.conn_id == words[3]).one()
        as_json = added.as_json()
        session.delete(added)
    well, sentence = hook_of(as_json).test_connection()
    assert well, sentence


def read_settings(block: Block, folder: Path, media: list[str], emulator: Emulator) -> None:
    """Read each line as a shell does, and the connection that it makes as Airflow does."""
    for line in block.text.splitlines():
        (assignment,) = shlex.split(line)
        name, _, value = assignment.partition("=")
        assert name == "AIRFLOW_CONN_IMS_DEFAULT"
        settings = hook_of(re.sub(r"<[^>]+>", "LTAIabc", value)).settings
        assert settings.credentials.current().access_key_id == "LTAIabc"
        assert settings.warnings == ()


def check_json(block: Block, folder: Path, media: list[str], emulator: Emulator) -> None:
    """Read it; a policy is tried: it must allow the operations that it names, and no others."""
    content = json.loads(block.text)
    if "Statement" not in content:
        return
    named = [action for one in content["Statement"] for action in listed(one["Action"])]
    emulator.add_key("by-policy", "secret", actions=named)
    extra = {"region": "cn-shanghai", "oss_endpoint": emulator.oss.endpoint, "retry_seconds": 1}
    hook = hook_of(emulator.airflow_connection(login="by-policy", password="secret", extra=extra))
    if all(action.startswith("oss:") for action in named):
        with pytest.MonkeyPatch.context() as environment:
            check_policy_of_files(content["Statement"], emulator, named, environment)
        return
    calls: dict[str, Callable[[], Any]] = {
        "ice:BatchGetMediaInfos": lambda: hook.batch_get_media_infos(media[:1]),
        "ice:GetMediaInfo": lambda: hook.get_media_info(media[0]),
        "ice:ListMediaBasicInfos": lambda: list(hook.list_media_basic_infos()),
        "ice:DeleteMediaInfos": lambda: hook.delete_media_infos(media_ids=media[:1]),
    }
    assert set(named) <= set(calls)
    for action, call in calls.items():
        if action in named:
            call()
        else:
            with pytest.raises(IMSPermissionError):
                call()


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def check_policy_of_files(
    statements: list[dict[str, Any]], emulator: Emulator, actions: list[str], environment: pytest.MonkeyPatch
) -> None:
    """What a run does with its report can be done with these rights, and nothing of it with one of them less."""
    assert {statement["Effect"] for statement in statements} == {"Allow"}
    # A connection of its own: Airflow keeps the store of one, with the keys that it had at first.
    environment.setenv("AIRFLOW_CONN_IMS_BY_POLICY", os.environ["AIRFLOW_CONN_IMS_DEFAULT"])
    file = storage_path("oss://my-bucket/ims/report.txt", ims_conn_id="ims_by_policy")
    calls: dict[str, Callable[[], Any]] = {
        "oss:PutObject": lambda: file.write_text("a line"),
        "oss:GetObject": lambda: file.read_text(),
        "oss:ListObjects": lambda: list_names(file.parent),
        "oss:DeleteObject": lambda: file.unlink(),
    }
    assert set(actions) == {*calls, "oss:AbortMultipartUpload"}  # which only an upload needs that fails
    emulator.oss.make_bucket("my-bucket")
    for call in calls.values():
        call()
    for action, call in calls.items():
        emulator.oss.put("my-bucket", "ims/report.txt", "a line")
        emulator.add_key("by-policy", "secret", actions=[one for one in actions if one != action])
        with pytest.raises((PermissionError, StorageError), match=action):
            call()


def check_requirements(words: list[str]) -> None:
    # A wheel of this release stands for the release.
    wheel = f"dist/{PROJECT['name'].replace('-', '_')}-{__version__}-py3-none-any.whl"
    words = [word.replace(wheel, PROJECT["name"]) for word in words]
    for requirement in (Requirement(word) for word in words if not word.startswith("-")):
        if requirement.name == "pytest":
            continue
        assert canonicalize_name(requirement.name) == PROJECT["name"]
        assert requirement.extras <= set(PROJECT["optional-dependencies"])


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def hook_of(connection: str) -> IMSHook:
    """A hook with the connection ``ims_default`` as given, as JSON or as a URI."""
    os.environ["AIRFLOW_CONN_IMS_DEFAULT"] = connection  # put back by the fixture `ims_connection`
    return checked_hook()


def checked_hook() -> IMSHook:
    """A hook with the connection ``ims_default`` of the environment, which must be of its type.

    The hook itself reads any type; but in Airflow's form another one shows other fields.
    """
    hook = IMSHook()
    assert hook.get_connection(hook.ims_conn_id).conn_type == hook.conn_type
    return hook


def environment() -> dict[str, str]:
    """This Airflow's, but for the connection; commands of this environment come first."""
    own = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "AIRFLOW__CORE__FERNET_KEY": ""}
    return {name: value for name, value in os.environ.items() if name != "AIRFLOW_CONN_IMS_DEFAULT"} | own


RUNNERS: dict[str, Callable[[Block, Path, list[str], Emulator], None]] = {
    "python": run_python,
    "console": run_commands,
    "bash": run_commands,
    "dotenv": read_settings,
    "json": check_json,
}
