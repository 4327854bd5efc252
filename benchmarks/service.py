"""The emulator that all contenders ask, and processes that measure one thing each."""

from __future__ import annotations

import json
import os
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from airflow_provider_ims.api import signing
from airflow_provider_ims.api.client import API_VERSION
from airflow_provider_ims.emulator import Emulator

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = {
    "ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true",
    "NO_PROXY": "127.0.0.1,localhost",
    "no_proxy": "127.0.0.1,localhost",
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
}
# A shell may have it set; then everything is compiled anew each time.
UNWANTED = "PYTHONDONTWRITEBYTECODE"
BATCH = 20
ANSWER_MS = 30


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """What every process here starts with."""
    inherited = {name: value for name, value in os.environ.items() if name != UNWANTED}
    return inherited | ENVIRONMENT | dict(more or {})


@contextmanager
def emulator(*arguments: str) -> Iterator[Emulator]:
    """An emulator in a process of its own, which keeps few requests in full."""
    os.environ |= ENVIRONMENT
    os.environ.pop(UNWANTED, None)
    with Emulator("--keep-requests", "100", *arguments, start_timeout=120) as running:
        yield running


def connection(running: Emulator) -> dict[str, str]:
    """Environment variables with which Airflow's connection ``ims_default`` leads to an emulator."""
    return {"AIRFLOW_CONN_IMS_DEFAULT": running.airflow_connection()}


def start(module: str, *arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Start ``python -m benchmarks.MODULE`` on its own."""
    return subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.{module}", *arguments],
        cwd=ROOT,
        env=environment(env),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def answer(process: subprocess.Popen[str], ids: list[str] | None = None) -> dict[str, Any]:
    """Hand it ids, wait for its end, and give the JSON object in its last line.

    :raises RuntimeError: when it fails; its own words are on stderr.
    """
    out, _ = process.communicate("\n".join(ids or []))
    if process.returncode:
        raise RuntimeError(f"{process.args!r} ended with {process.returncode}: {out[-2000:]}")
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def run(
    module: str, *arguments: str, ids: list[str] | None = None, env: dict[str, str] | None = None
) -> dict[str, Any]:
    """Start and answer in one."""
    return answer(start(module, *arguments, env=env), ids)


def peak_megabytes() -> float:
    """Most memory that this process had. Not ``ru_maxrss``, which begins with that of the parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def batches(ids: list[str]) -> list[list[str]]:
    """Twenty for each request."""
    return [ids[first : first + BATCH] for first in range(0, len(ids), BATCH)]


def raw_request(running: Emulator, media_ids: list[str], nonce: str) -> tuple[str, dict[str, str]]:
    """Sign a DeleteMediaInfos: the query, and all headers."""
    query = signing.canonical_query({"DeletePhysicalFiles": "false", "MediaIds": ",".join(media_ids)})
    headers = signing.signed_headers(
        method="POST",
        host=running.host,
        action="DeleteMediaInfos",
        version=API_VERSION,
        query=query,
        access_key_id=running.access_key_id,
        access_key_secret=running.access_key_secret,
        security_token=None,
        date=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        nonce=nonce,
    )
    return query, headers | {"Accept": "application/json", "Content-Length": "0"}


def ceiling(running: Emulator, requests: int = 4000, connections: int = 4) -> dict[str, float]:
    """Requests a second, and CPU seconds for each, with a client that has them all signed beforehand."""
    ids = running.generate(requests * BATCH)
    texts = []
    for number, batch in enumerate(batches(ids)):
        query, headers = raw_request(running, batch, f"ceiling-{number}")
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        texts.append(f"POST /?{query} HTTP/1.1\r\n{lines}\r\n".encode())
    host, port = running.host.split(":")
    selector = selectors.DefaultSelector()
    process = psutil.Process(running.pid)
    before, began, done = process.cpu_times(), time.monotonic(), 0
    for _ in range(connections):
        connected = socket.create_connection((host, int(port)))
        selector.register(connected, selectors.EVENT_READ)
        connected.sendall(texts.pop())
    while done < requests:
        for key, _ in selector.select():
            wire = key.fileobj
            assert isinstance(wire, socket.socket)
            got = wire.recv(65536)
            # The answers are small, and come in one piece or two: the body ends them.
            while not got.endswith(b"}"):
                got += wire.recv(65536)
            if not got.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"the emulator answers {got[:300]!r}")
            done += 1
            if texts:
                wire.sendall(texts.pop())
    seconds = time.monotonic() - began
    after = process.cpu_times()
    for key in list(selector.get_map().values()):
        selector.unregister(key.fileobj)
        key.fileobj.close()  # type: ignore[union-attr]
    running.reset()
    used = (after.user + after.system) - (before.user + before.system)
    return {"per_second": requests / seconds, "cpu_us": used / requests * 1e6}
