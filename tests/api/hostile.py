"""A server that is out to do harm stands in for IMS: ``python -m tests.api.hostile --runs 10000 --seed 1``.

It keeps a library, and does at random what it is asked; but what it then says is generated: nonsense in every header,
bodies of other operations and of none, masses, trickles, copies of the request with its signature, control
characters. It never gives a well-formed false answer: against that there is no defence (``docs/security.md``).

Each run must end within its bound, in a typed error or in outcomes that are true of the library; and nothing that it
wrote or raised may hold a secret, or a character that is not printable.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import pickle
import random
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from airflow_provider_ims.api import client as client_module
from airflow_provider_ims.api import operations, transport
from airflow_provider_ims.api.client import IMSClient
from airflow_provider_ims.api.credentials import StaticCredentials
from airflow_provider_ims.api.endpoints import parse_host
from airflow_provider_ims.api.errors import ERROR_RULES, IMSError
from airflow_provider_ims.deletion import run as run_module
from airflow_provider_ims.deletion.run import DeletionRun
from airflow_provider_ims.deletion.targets import read_targets
from airflow_provider_ims.files.storage import storage_path
from tests.api.conftest import Answer, Hangup, Request, Service, Trickle

SECRET = "kP9xQ2vL8mN4bR7tY1wZ5cF3"
TOKEN = "CAIS+token/of==" + "Ab3dEf6hIj" * 20
FOREIGN = "SIGNEDbySOMEBODYelse"
READ_TIMEOUT = 0.1
BOUND_SECONDS = 20.0
MANY = 300

EVIL = ["\x1b[31m", "\r\nERROR forged", "\x00", "\u202e", "\u2028", "\x85", "\ud800", "\U000e0041", "\u2066"]
DATES = [
    "Wed, 25 Nov 2026 22:22:51 +9999",
    "Wed, 25 Nov 2026 22:22:51 +" + "9" * 400,
    "Fri, 31 Dec 9999 23:59:59 GMT",
    "Fri, 31 Dec 9999 23:59:59 -2359",
    "Mon, 01 Jan 0001 00:00:00 +2359",
    "Thu, 01 Jan 1970 00:00:00 GMT",
    "Wed, 25 Nov " + "9" * 5000 + " 22:22:51 GMT",
    "99 99 99 99:99:99",
    ",,,",
    "",
]
NUMBERS = ["9" * 400, "9" * 5000, "-1", "0", "1e999", "nan", "\u0663", "0x10", " 7 ", "2000", "1,000", ""]


@dataclass
class HostileService:
    """What one run talks to; a step for the scripted server."""

    random: random.Random
    library: set[str]
    hostility: float
    signatures: set[str] = field(default_factory=set)

    def __call__(self, request: Request) -> Answer:
        self.signatures.add(request.headers["authorization"].partition("Signature=")[2])
        action, ids = request.headers["x-acs-action"], request.query.get("MediaIds", "").split(",")
        is_hostile = self.random.random() < self.hostility
        shown = [media_id for media_id in ids if media_id in self.library]
        ignored = [media_id for media_id in ids if media_id not in self.library]
        if action == "DeleteMediaInfos":
            if not is_hostile or self.random.random() < 0.5:
                self.library -= set(shown)
            truth: dict[str, Any] = {"IgnoredList": ignored, "ForbiddenList": []}
        else:
            truth = {
                "MediaInfos": [{"MediaId": one, "MediaBasicInfo": {}} for one in shown],
                "IgnoredList": ignored,
            }
        if not is_hostile:
            return _http(200, json.dumps({"RequestId": str(uuid4()).upper(), **truth}).encode())
        return self._harm(request, truth)

    def _harm(self, request: Request, truth: dict[str, Any]) -> Answer:
        pick = self.random
        kind = pick.choice(
            ["refusal", "refusal", "refusal", "no answer", "bytes", "broken", "trickle", "hang up"]
        )
        if kind == "refusal":
            return self._answer(
                pick.choice([301, 400, 400, 401, 403, 404, 408, 429, 500, 503, 599]), self._error(request)
            )
        if kind == "no answer":  # well-formed, and none of this operation
            return self._answer(200, json.dumps(self._wrong(request, truth)).encode())
        if kind == "bytes":
            junk = [
                b"",
                b"null",
                b"[" * 50_000,
                b"\xff\xfe",
                b"{",
                b'{"RequestId": ' + b"9" * 5000 + b"}",
                b"<html>",
            ]
            return self._answer(pick.choice([100, 199, 200, 204, 206, 304, 404, 500]), pick.choice(junk))
        whole = self._answer(200, json.dumps({"RequestId": "R", **truth}).encode())
        if kind == "broken":
            return Hangup(self._broken(whole, request), reset=pick.random() < 0.5)
        if kind == "trickle":
            cut = pick.randrange(len(whole) - 1)
            return Trickle(itertools.chain([whole[:cut]], itertools.repeat(b" ")), READ_TIMEOUT / 3)
        return Hangup(whole[: pick.randrange(len(whole) - 1)], reset=pick.random() < 0.5)

    def _text(self, request: Request) -> str:
        """What may stand wherever there is text."""
        pick = self.random
        head = "\n".join(f"{name}: {value}" for name, value in request.headers.items())
        parts = [
            head,
            request.headers["authorization"],
            TOKEN,
            TOKEN[pick.randrange(50) :],
            quote(TOKEN, safe=""),
            f"https://b.oss/a.mp4?Expires=1&Signature={FOREIGN}",
            f"b.oss/a.mp4%3FSignature%3D{FOREIGN}",
            "x" * pick.choice([10, 1000, 100_000]),
            "no such thing ",
            *EVIL,
        ]
        return "".join(pick.choice(parts) for _ in range(pick.randrange(4)))

    def _error(self, request: Request) -> bytes:
        pick = self.random
        code: Any = pick.choice(ERROR_RULES).prefix + pick.choice(["", ".X", ".Expired", self._text(request)])
        code = pick.choice([code, code, code.upper(), self._text(request), 7, [code], None])
        fields = {
            "Code": code,
            "Message": pick.choice([self._text(request), {"a": self._text(request)}, None]),
            "RequestId": pick.choice([self._text(request), "R", 7, None]),
            "AccessDeniedDetail": pick.choice([None, {"AuthAction": self._text(request)}, "text", [1]]),
        }
        return json.dumps(fields, ensure_ascii=pick.random() < 0.5).encode("utf-8", "surrogatepass")

    def _wrong(self, request: Request, truth: dict[str, Any]) -> Any:
        """Make an answer that is not one to this request, whoever reads it."""
        pick = self.random
        is_deletion = request.headers["x-acs-action"] == "DeleteMediaInfos"
        text = self._text(request)
        without_id = {**truth, "RequestId": pick.choice([None, "", 7, [text]])}
        other = {"MediaInfos": [{"MediaId": text}]} if is_deletion else {"ForbiddenList": []}
        spoilt = dict.fromkeys(truth, pick.choice([text or "x", 7, {"a": 1}, [1], [None]]))
        return pick.choice(
            [
                without_id,
                {"RequestId": text or "R", **other},
                {"RequestId": text or "R", **spoilt},
                [truth],
                7,
            ]
        )

    def _answer(self, status: int, body: bytes) -> bytes:
        pick = self.random
        headers = {
            "Date": pick.choice(DATES),
            "x-acs-retry-after": pick.choice(NUMBERS),
            "x-acs-request-id": pick.choice(["R", TOKEN, "x" * 60_000, "\x1b[31m", "caf\xe9"]),
            "Set-Cookie": f"a={TOKEN}",
            "Location": pick.choice(["http://127.0.0.1:1/", "//", "http://["]),
        }
        chosen = {name: value for name, value in headers.items() if pick.random() < 0.5}
        return _http(status, body, reason=pick.choice(["OK", TOKEN, "\x1b[31m"]), **chosen)

    def _broken(self, whole: bytes, request: Request) -> bytes:
        pick = self.random
        text = self._text(request).encode("utf-8", "replace").replace(b"\r", b"").replace(b"\n", b" ")
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        return pick.choice(
            [
                text,
                b"HTTP/1.1 " + text,
                b"HTTP/1.1 999999 OK\r\n\r\n",
                b"HTTP/9.9 200 OK\r\n\r\n{}",
                b"HTTP/1.1 400 No\r\nA: b\r\n" + text + b"\r\n\r\n{}",
                b"HTTP/1.1 400 No\r\n" + b"A: b\r\n" * 200 + b"\r\n{}",
                b"HTTP/1.1 200 OK\r\nContent-Length: " + pick.choice(NUMBERS).encode("utf-8") + b"\r\n\r\n{",
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Encoding: "
                + pick.choice([b"gzip", b"br"])
                + b"\r\n\r\n{}",
                b"HTTP/1.1 100 Continue\r\n\r\n" * 50,
                chunked + pick.choice([text, b"-1", b"fffffffffffff", b"0" * 70_000]) + b"\r\n",
                chunked + b"2\r\n{}\r\n0\r\n" + b"A: b\r\n" * 1000,
                whole.replace(b"HTTP/1.1", b"HTTP/1.0")[: len(whole) // 2],
            ]
        )


def _http(status: int, body: bytes, reason: str = "OK", **headers: str) -> bytes:
    head = [
        f"HTTP/1.1 {status} {reason}",
        f"Content-Length: {len(body)}",
        *(f"{k}: {v}" for k, v in headers.items()),
    ]
    return "\r\n".join(head).encode("utf-8", "replace") + b"\r\n\r\n" + body


class _Log(logging.Handler):
    """Keeps what was logged at any level, before any masking."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        if record.exc_info:
            self.lines += "".join(traceback.format_exception(*record.exc_info)).splitlines()


@contextmanager
def in_a_hurry() -> Iterator[_Log]:
    """Shorten all pauses, and listen to the log."""
    kept = client_module.sleep_using_event, run_module.LOOK_AGAIN_SECONDS, transport.STOP_GRACE_SECONDS
    client_module.sleep_using_event = lambda _: lambda _: time.sleep(0.001)
    run_module.LOOK_AGAIN_SECONDS = (0.001,) * 5
    transport.STOP_GRACE_SECONDS = 0.05
    log = _Log()
    loggers = [logging.getLogger(name) for name in ("airflow_provider_ims", "urllib3")]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.addHandler(log)
        one.setLevel(logging.DEBUG)
        one.propagate = False
    try:
        yield log
    finally:
        client_module.sleep_using_event, run_module.LOOK_AGAIN_SECONDS, transport.STOP_GRACE_SECONDS = kept
        for one, level in zip(loggers, levels, strict=True):
            one.removeHandler(log)
            one.setLevel(level)
            one.propagate = True


def one_run(seed: str, service: Service, log: _Log) -> str:
    """Do one run; return how it ended.

    :raises AssertionError: when it should not have ended like that.
    """
    pick = random.Random(seed)
    ids = [f"{pick.getrandbits(128):032x}" for _ in range(pick.choice([1, 3, 20, 45]))]
    library = {media_id for media_id in ids if pick.random() < 0.8}
    at_first = set(library)
    hostile = service.default = HostileService(pick, library, pick.choice([0.1, 0.3, 0.7, 1.0]))
    client = IMSClient(
        parse_host(service.url),
        StaticCredentials("LTAIkeyid", SECRET, TOKEN),
        connect_timeout=0.3,
        read_timeout=READ_TIMEOUT,
        retry_seconds=0,
        min_tries=3,
    )
    log.lines.clear()
    written: list[str] = []
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory() as folder:
            try:
                if pick.random() < 0.5:
                    ended = _call(client, ids, hostile, at_first)
                else:
                    ended = _delete(client, ids, hostile, at_first, folder, pick)
            finally:
                for file in Path(folder).rglob("*"):
                    if file.is_file():
                        written += file.read_bytes().decode().split("\n")
    except IMSError as error:
        ended = type(error).__name__
        written += [str(error), repr(pickle.dumps(error)), repr(error.__dict__)]
    seconds = time.monotonic() - began
    client.close()
    assert all(len(line) < 5000 for line in [*written, *log.lines]), "a text without an end"
    assert seconds < BOUND_SECONDS, f"{seconds:.1f} s"
    for line in [*written, *log.lines]:
        assert line.isprintable(), f"not printable: {line!r}"
        for secret in (
            SECRET,
            TOKEN[:40],
            TOKEN[-40:],
            quote(TOKEN, safe="")[:40],
            FOREIGN,
            *hostile.signatures,
        ):
            assert secret not in line, f"holds a secret: {line!r}"
    return ended


def _call(client: IMSClient, ids: list[str], hostile: HostileService, at_first: set[str]) -> str:
    answer = operations.batch_get_media_infos(client, ids[:20])
    assert {one.media_id for one in answer.value} == at_first & set(ids[:20])
    return "answer"


def _delete(
    client: IMSClient,
    ids: list[str],
    hostile: HostileService,
    at_first: set[str],
    folder: str,
    pick: random.Random,
) -> str:
    targets = read_targets(media_ids=ids)
    run = DeletionRun(client, targets, max_concurrency=pick.choice([1, 4]), report_base=storage_path(folder))
    result = run.execute()
    outcomes = {target: outcome for outcome, some in result["samples"].items() for target in some}
    assert set(outcomes) == set(ids)
    for media_id, outcome in outcomes.items():
        is_there, was_there = media_id in hostile.library, media_id in at_first
        wrong = f"{media_id} is called {outcome}; it was there: {was_there}, it is: {is_there}"
        assert outcome != "deleted" or not is_there, wrong
        assert outcome != "missing" or not was_there, wrong
        assert outcome != "failed" or is_there, wrong
        assert outcome not in ("forbidden", "kept"), wrong
    return "result"


def many_runs(runs: int, seed: int) -> Counter[str]:
    """Do them one after the other; return how often which end was met."""
    ends: Counter[str] = Counter()
    service = Service(b"")
    try:
        with in_a_hurry() as log:
            for number in range(runs):
                try:
                    ends[one_run(f"{seed}-{number}", service, log)] += 1
                except BaseException:
                    print(f"seed {seed}-{number}")
                    raise
    finally:
        service.close()
    return ends


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=MANY)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    started = time.monotonic()
    found = many_runs(arguments.runs, arguments.seed)
    print(f"{arguments.runs} runs in {time.monotonic() - started:.0f} s: {dict(found.most_common())}")
