"""Every message that a user can meet, held against what a message has to say.

Which lines of the package run while the messages are brought about is recorded: a line that says something and is
not among them fails the test, and so does a message that the guide for troubles does not explain.
"""

from __future__ import annotations

import ast
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest
from structlog.testing import capture_logs

import airflow_provider_ims
from airflow_provider_ims.api.errors import IMSAPIError, IMSThrottlingError
from airflow_provider_ims.deletion import run
from airflow_provider_ims.deletion.resolve import Outcome
from airflow_provider_ims.emulator.server import Emulator
from airflow_provider_ims.retention import listing
from airflow_provider_ims.triggers import ims as triggers
from tests.hooks.credential_services import self_signed
from tests.provocations import SECRET, SIGNATURE, TOKEN, World, all_of_them

PACKAGE = Path(airflow_provider_ims.__file__).parent
GUIDE = PACKAGE.parent / "docs" / "troubleshooting.md"

# What says something: an exception that is made, a line of the log, and each ``return`` of these functions.
ERRORS = re.compile(
    r"(IMS\w*Error|ValueError|AirflowSensorTimeout|AirflowSkipException|NoneFound|WaitTimedOut|_no_go)"
)
LOG_METHODS = ("warning", "error", "exception", "critical")
IN_WORDS = ("in_words", "_network_trouble", "_refusal")

# Places that nothing here brings about, by a part of their source, and why not.
EXEMPT = {
    "did not answer in time": "the credentials library waits for 10 seconds before it says so",
    "no request could be made": "for errors of requests that are not known yet",
    "another thread met it": "the same error again, for a thread that waited for the first",
    "max_requests_per_second must be above 0": "the connection refuses such a number before",
}


# What no message may hold.
NEVER = {
    "a secret": re.compile("|".join((SECRET, TOKEN, SIGNATURE))),
    "a signed URL": re.compile(r"[?&](Signature|Expires|OSSAccessKeyId|security-token)=", re.IGNORECASE),
    "Python's insides": re.compile(
        r"\bat 0x|Traceback|Error\(|\[Errno|NoneType|<class|urllib3|HTTPS?Connection\w*\("
    ),
    "a line end": re.compile(r"[\r\n]"),
    "a gap": re.compile(r"  |\(\)|\.\.(?!\.)|[.;:,] ?[.;,]|: ?$"),
}
SENTENCE = re.compile(r"[A-Z0-9].*[.?]")
OF_THE_SERVICE = re.compile(r"\w+: \S.*[^.] \(\w[\w.]*(, HTTP \d+)?(, request id [\w-]+)?\)")
NOTHING_HAPPENED = re.compile("Nothing was deleted|No request was sent|nothing can be deleted")
WITH_A_CODE = {kind.__name__ for kind in (IMSAPIError, *IMSAPIError.__subclasses__(), IMSThrottlingError)}


class Said(NamedTuple):
    """One message. ``kind`` is the type of an error, ``log`` or ``test``."""

    about: str
    kind: str
    text: str


class Place(NamedTuple):
    """Where the package says something."""

    file: str
    first: int
    last: int
    source: str

    def __str__(self) -> str:
        return f"{self.file}:{self.first} {' '.join(self.source.split())}"


def places() -> list[Place]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = str(path.relative_to(PACKAGE))
        if name.startswith("emulator/"):
            continue
        source = path.read_text()
        nodes = {(node.lineno, node.end_lineno or node.lineno) for node in saying(ast.parse(source))}
        lines = source.splitlines()
        found += [
            Place(name, first, last, "\n".join(lines[first - 1 : last])) for first, last in sorted(nodes)
        ]
    return found


def saying(tree: ast.Module) -> Iterator[ast.stmt | ast.expr]:
    """Find what makes an error or logs a line, in the largest statement where it is raised."""
    raised = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            raised.add(node.exc)
            yield node
        elif isinstance(node, ast.FunctionDef) and node.name in IN_WORDS:
            yield from (inner for inner in ast.walk(node) if isinstance(inner, ast.Return))
        elif isinstance(node, ast.Call) and node not in raised:
            function = node.func
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            logs = isinstance(function, ast.Attribute) and ast.unparse(function.value).endswith("log")
            if (logs and name in LOG_METHODS) or ERRORS.fullmatch(name):
                yield node


@contextmanager
def recorded(lines: set[tuple[str, int]]) -> Iterator[None]:
    """Note which lines of the package run, in this thread and in new ones."""
    package, emulator = f"{PACKAGE}/", f"{PACKAGE}/emulator/"

    def line(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            lines.add((frame.f_code.co_filename, frame.f_lineno))
        return line

    def call(frame: FrameType, _: str, __: Any) -> Any:
        file = frame.f_code.co_filename
        return line if file.startswith(package) and not file.startswith(emulator) else None

    before = sys.gettrace()
    sys.settrace(call)
    threading.settrace(call)
    try:
        yield
    finally:
        sys.settrace(before)
        threading.settrace(None)  # type: ignore[arg-type]


class Listener(logging.Handler):
    """Takes down what the package warns of, before anything is masked."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.pathname.startswith(str(PACKAGE)):
            self.texts.append(record.getMessage())


def warnings_of_operators() -> Iterator[re.Pattern[str]]:
    """Find what operators and sensors warn of through their own logger, with ``.*`` for what is filled in."""
    for name in ("operators", "sensors"):
        for path in (PACKAGE / name).glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "self.log.warning":
                    text = ast.literal_eval(node.args[0])
                    yield re.compile(re.sub("%[srdg]", ".*", re.escape(text)))


# Found here and not in a test: what some tests do leaves Python 3.11 with a parser that fails at times.
PLACES = places()
OF_OPERATORS = list(warnings_of_operators())


def of_operators(entries: list[Any]) -> Iterator[str]:
    """Give what operators and sensors warned of, which Airflow 3 hands to structlog; leave out what others say."""
    for entry in entries:
        text = str(entry["event"])
        if arguments := entry.get("positional_args"):
            text %= tuple(arguments)
        if any(pattern.fullmatch(text) for pattern in OF_OPERATORS):
            yield text


class Heard(NamedTuple):
    said: list[Said]
    silent: list[str]
    lines: set[tuple[str, int]]


@pytest.fixture(scope="module")
def heard(ims_emulator_session: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Heard]:
    """All that is said when everything is provoked."""
    said, silent, lines = [], [], set[tuple[str, int]]()
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.lower().endswith("_proxy") or name.startswith("ALIBABA_CLOUD_"):
                patch.delenv(name)
        patch.setenv("NO_PROXY", "127.0.0.1,localhost")
        patch.setenv("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        # Pauses only.
        patch.setattr(run, "LOOK_AGAIN_SECONDS", (0.1, 0.1, 0.1))
        patch.setattr(listing, "PAUSE_SECONDS", 0)
        patch.setattr(triggers, "MIN_SECONDS", 0)
        folder = tmp_path_factory.mktemp("messages")
        world = World(folder, ims_emulator_session, patch, self_signed(folder))
        listener = Listener()
        logging.getLogger().addHandler(listener)
        for about, call in all_of_them(world):
            world.emulator.reset()
            world.emulator.drop_faults()
            world.connect()
            listener.texts.clear()
            before = len(said)
            with recorded(lines), capture_logs() as entries:
                try:
                    result = call()
                except Exception as error:  # noqa: BLE001 - whatever it is, it is held against the rules
                    said.append(Said(about, type(error).__name__, str(error)))
                else:
                    if isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], str):
                        said.append(Said(about, "test", result[1]))
            said += [Said("", "log", text) for text in (*listener.texts, *of_operators(entries))]
            if not any(about in one.text for one in said[before:]):
                silent.append(f"{about}: {said[before:]}")
        logging.getLogger().removeHandler(listener)
        world.close()
        yield Heard(said, silent, lines)


def test_each_provocation_is_answered_by_a_message_that_names_what_it_is_about(heard: Heard) -> None:
    assert not heard.silent, "\n".join(heard.silent)


def test_all_that_can_be_said_was_said(heard: Heard) -> None:
    def reached(place: Place) -> bool:
        return any(
            (f"{PACKAGE}/{place.file}", line) in heard.lines for line in range(place.first, place.last + 1)
        )

    unheard = [place for place in PLACES if not reached(place)]
    unexplained = [str(place) for place in unheard if not any(part in place.source for part in EXEMPT)]
    assert not unexplained, "\n".join(unexplained)
    needless = [part for part in EXEMPT if not any(part in place.source for place in unheard)]
    assert needless == []


def test_no_message_holds_what_is_nobodys_business(heard: Heard) -> None:
    wrong = [
        f"{what}: {one.text}"
        for one in heard.said
        for what, pattern in NEVER.items()
        if pattern.search(one.text)
    ]
    assert not wrong, "\n".join(wrong)


def test_all_messages_of_a_kind_are_built_alike(heard: Heard) -> None:
    """Lines of the log and answers of a test are sentences; an error's text goes on in the line it stands in."""

    def well_built(one: Said) -> bool:
        if one.kind in ("log", "test"):
            return bool(SENTENCE.fullmatch(one.text))
        if one.kind in WITH_A_CODE:
            return bool(OF_THE_SERVICE.fullmatch(one.text))
        guarded = one.kind != "IMSGuardError" or NOTHING_HAPPENED.search(one.text)
        return bool(guarded) and len(one.text.split()) > 2 and not one.text.endswith((".", ":"))

    wrong = [f"{one.kind}: {one.text}" for one in heard.said if not well_built(one)]
    assert not wrong, "\n".join(wrong)


def explained() -> dict[str, re.Pattern[str]]:
    """Read the messages that the guide explains: each a row's first cell, with … for what varies."""
    patterns = {}
    for line in GUIDE.read_text(encoding="utf-8").splitlines():
        # A row about something else begins with a single word.
        if (row := re.match(r"\| `([^`]+)` \|", line)) and re.search("[ …]", row[1]):
            patterns[row[1]] = re.compile(".*".join(map(re.escape, row[1].split("…"))))
    return patterns


def test_the_guide_explains_each_message_and_nothing_that_is_never_said(heard: Heard) -> None:
    """The Test button's answers are left out: they say themselves what to do."""
    patterns = explained()
    texts = {one.text for one in heard.said if one.kind != "test"}
    unexplained = [
        text for text in texts if not any(pattern.fullmatch(text) for pattern in patterns.values())
    ]
    assert not unexplained, "\n".join(sorted(unexplained))
    never_said = [row for row, pattern in patterns.items() if not any(map(pattern.fullmatch, texts))]
    assert not never_said, "\n".join(never_said)


def test_the_guide_explains_each_outcome() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    outcomes = re.findall(r"(?m)^\| `(\w+)` \|", text[text.index("## Outcomes") :].split("\n## ")[0])
    assert outcomes == [outcome.value for outcome in Outcome]
