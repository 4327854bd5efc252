"""What a process has open or holds when it forks is no business of the child's."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_ims.api import operations
from airflow_provider_ims.api.client import IMSClient
from airflow_provider_ims.api.credentials import FetchedCredentials, StaticCredentials
from airflow_provider_ims.api.endpoints import parse_host
from airflow_provider_ims.api.rate_limit import RateLimiter
from airflow_provider_ims.emulator import Emulator

warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)


def fork(work: Callable[[], Any]) -> tuple[int, int]:
    """Do some work in a child; return its pid, and the pipe that its result comes through."""
    reader, writer = os.pipe()
    if pid := os.fork():
        os.close(writer)
        return pid, reader
    try:
        os.write(writer, json.dumps(work()).encode())
    except BaseException as error:  # noqa: BLE001 - the child has nobody else to tell
        os.write(writer, json.dumps(f"{type(error).__name__}: {error}").encode())
    finally:
        os._exit(0)


def results(children: list[tuple[int, int]], seconds: float) -> list[Any]:
    """Collect what children found; one that hangs is ended and shows as None."""
    deadline = time.monotonic() + seconds
    found = []
    for pid, reader in children:
        while not os.waitpid(pid, os.WNOHANG)[0]:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                break
            time.sleep(0.01)
        with os.fdopen(reader) as pipe:
            text = pipe.read()
        found.append(json.loads(text) if text else None)
    return found


@pytest.fixture
def client(ims_emulator: Emulator) -> IMSClient:
    return IMSClient(
        parse_host(ims_emulator.endpoint),
        StaticCredentials(ims_emulator.access_key_id, ims_emulator.access_key_secret),
        pace=RateLimiter(),
        read_timeout=5,
        retry_seconds=5,
    )


def read(client: IMSClient, media_ids: list[str]) -> list[str]:
    """Return the media that are shown, one request for each."""
    return [
        medium.media_id
        for media_id in media_ids
        for medium in operations.batch_get_media_infos(client, [media_id]).value
    ]


def test_children_of_a_used_client_get_their_own_answers(ims_emulator, client):
    media = ims_emulator.generate(200)
    shares = [media[n::4] for n in range(4)]
    read(client, media[:1])  # a connection is open, and kept

    def delete(share: list[str]) -> list[Any]:
        found = []
        for media_id in share:
            answer = operations.delete_media_infos(client, media_ids=[media_id], delete_physical_files=False)
            found.append([answer.request_id, *answer.value.ignored, *answer.value.forbidden])
        return found

    children = [fork(lambda share=share: delete(share)) for share in shares]
    found = results(children, seconds=60)
    assert [len(one) for one in found] == [50] * 4
    ids = [entry[0] for one in found for entry in one]
    assert len(set(ids)) == 200, "each answer was heard once"
    assert all(len(entry) == 1 for one in found for entry in one), (
        "nobody's deletion was ignored or forbidden"
    )


def test_children_of_a_busy_client_neither_hang_nor_hear_others(ims_emulator, client):
    media = ims_emulator.generate(60)
    stop = threading.Event()

    def keep_busy() -> None:
        while not stop.is_set():
            read(client, media[:1])

    threads = [threading.Thread(target=keep_busy) for _ in range(8)]
    for thread in threads:
        thread.start()
    children = []
    try:
        for n in range(60):
            children.append(fork(lambda n=n: read(client, media[n : n + 1] * 3)))
            time.sleep(0.005)
        found = results(children, seconds=90)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert found == [[media_id] * 3 for media_id in media]


def test_a_lock_that_is_held_while_credentials_are_fetched_stays_behind(monkeypatch):
    source = FetchedCredentials("credentials_uri", credentials_uri="http://127.0.0.1:1/")
    with source._lock:
        (found,) = results([fork(lambda: source._lock.acquire(timeout=5))], seconds=20)
    assert found is True
