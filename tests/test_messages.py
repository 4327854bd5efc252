"""Messages that a user can meet, held against what a message must hold: no secret, what it is about, and a row in
the guide for troubles. ``tests/provocations.py`` brings them about.
"""

from __future__ import annotations

import ast
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from structlog.testing import capture_logs

import airflow_provider_ims
from airflow_provider_ims.deletion import run
from airflow_provider_ims.deletion.resolve import Outcome
from airflow_provider_ims.emulator import Emulator
from airflow_provider_ims.retention import listing
from airflow_provider_ims.triggers import ims as triggers
from tests.hooks.credential_services import self_signed
from tests.provocations import SECRET, SIGNATURE, TOKEN, World, all_of_them

PACKAGE = Path(airflow_provider_ims.__file__).parent
GUIDE = PACKAGE.parent / "docs" / "troubleshooting.md"

# What no message may hold.
NEVER = {
    "a secret": re.compile("|".join((SECRET, TOKEN, SIGNATURE))),
    "a signed URL": re.compile(r"[?&](Signature|Expires|OSSAccessKeyId|security-token)=", re.IGNORECASE),
    "Python's insides": re.compile(
        r"\bat 0x|Traceback|Error\(|\[Errno|NoneType|<class|urllib3|HTTPS?Connection\w*\("
    ),
    "a line end": re.compile(r"[\r\n]"),
}


class Said(NamedTuple):
    """One message. ``kind`` is the type of an error, ``log`` or ``test``."""

    about: str
    kind: str
    text: str


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


@pytest.fixture(scope="module")
def heard(ims_emulator_session: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Heard]:
    """All that is said when everything is provoked."""
    said: list[Said] = []
    silent: list[str] = []
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
            with capture_logs() as entries:
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
        yield Heard(said, silent)


def test_each_provocation_is_answered_by_a_message_that_names_what_it_is_about(heard: Heard) -> None:
    assert not heard.silent, "\n".join(heard.silent)


def test_no_message_holds_what_is_nobodys_business(heard: Heard) -> None:
    wrong = [
        f"{what}: {one.text}"
        for one in heard.said
        for what, pattern in NEVER.items()
        if pattern.search(one.text)
    ]
    assert not wrong, "\n".join(wrong)


def explained() -> dict[str, re.Pattern[str]]:
    """Read the messages that the guide explains: each a row's first cell, with … for what varies."""
    patterns = {}
    for line in GUIDE.read_text(encoding="utf-8").splitlines():
        # A row about something else begins with a single word.
        if (row := re.match(r"\| (`[^`]+`(?:, `[^`]+`)*) \|", line)) and re.search("[ …]", row[1]):
            for message in re.findall("`([^`]+)`", row[1]):
                patterns[message] = re.compile(".*".join(map(re.escape, message.split("…"))))
    return patterns


def test_the_guide_explains_each_message(heard: Heard) -> None:
    """The Test button's answers are left out: they say themselves what to do."""
    patterns = explained()
    texts = {one.text for one in heard.said if one.kind != "test"}
    unexplained = [
        text for text in texts if not any(pattern.fullmatch(text) for pattern in patterns.values())
    ]
    assert not unexplained, "\n".join(sorted(unexplained))


def test_the_guide_explains_each_outcome() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    outcomes = re.findall(r"(?m)^\| `(\w+)` \|", text[text.index("## Outcomes") :].split("\n## ")[0])
    assert outcomes == [outcome.value for outcome in Outcome]
