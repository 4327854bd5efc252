"""A run that a stop, a refusal, a store or a fault of ours ends: it ends soon, says why, and nothing is forgotten."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_ims.api import transport
from airflow_provider_ims.api.client import IMSClient
from airflow_provider_ims.api.credentials import Credentials
from airflow_provider_ims.api.endpoints import parse_host
from airflow_provider_ims.api.operations import list_media_basic_infos
from airflow_provider_ims.deletion import run as run_module
from airflow_provider_ims.deletion.resolve import BatchDeleter, BatchResult
from airflow_provider_ims.deletion.run import TargetsUnread
from airflow_provider_ims.deletion.targets import Target
from airflow_provider_ims.emulator import Emulator
from airflow_provider_ims.exceptions import IMSAuthError, IMSError
from airflow_provider_ims.files import report as report_module
from airflow_provider_ims.files.storage import StorageError, storage_path, write_whole
from tests.deletion.conftest import MemoryStore, Run, counts

UNKNOWN_IDS = [f"{number:032x}" for number in range(3000)]


@pytest.fixture
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shortens what a stopped run gives the requests in flight."""
    monkeypatch.setattr(transport, "STOP_GRACE_SECONDS", 0.2)
    monkeypatch.setattr(run_module, "STOP_GRACE_SECONDS", 0.2)


@pytest.fixture
def after_deletion_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[int, Callable[[], None]]], None]:
    """Puts a step after the deletion of a batch, once: it is done by then, and its answer is not back."""
    real = BatchDeleter.delete

    def then(steps: dict[int, Callable[[], None]]) -> None:
        def delete(self: BatchDeleter, targets: Sequence[Target], unconfirmed: bool = False) -> BatchResult:
            came = real(self, targets, unconfirmed)
            if step := steps.pop(targets[0].ordinal, None):
                step()
            return came

        monkeypatch.setattr(BatchDeleter, "delete", delete)

    return then


def lines_of(report: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for part in sorted(report.glob("part-*.jsonl")) for line in part.open()]


@pytest.mark.usefixtures("little_patience")
def test_a_stop_while_a_key_is_fetched_ends_the_run_in_time_and_nothing_is_sent_after_it(
    ims_emulator: Emulator, run: Run, store: MemoryStore
) -> None:
    library = ims_emulator.generate(60)
    is_fetching, is_fetched, stop = threading.Event(), threading.Event(), threading.Event()

    class SlowSource:
        asked = 0

        def current(self) -> Credentials:
            self.asked += 1
            if self.asked > 1:
                is_fetching.set()
                is_fetched.wait(30)
            return Credentials(ims_emulator.access_key_id, ims_emulator.access_key_secret)

        def renew(self) -> bool:
            return False

    client = IMSClient(parse_host(ims_emulator.endpoint), SlowSource(), connect_timeout=0.2)
    stopped_at = 0.0

    def stop_it() -> None:
        nonlocal stopped_at
        is_fetching.wait(30)
        stopped_at = time.monotonic()
        stop.set()

    threading.Thread(target=stop_it).start()
    with pytest.raises(IMSError, match="stopped on request"):
        run(library, client=client, stop=stop, store=store, max_concurrency=1)
    assert time.monotonic() - stopped_at < client.stop_seconds + run_module.STOP_GRACE_SECONDS + 15
    is_fetched.set()
    time.sleep(0.3)
    assert len(ims_emulator.requests("DeleteMediaInfos")) == 1
    assert len(ims_emulator.deleted()) == 20
    assert counts(run(library, store=store)) == {"deleted": 60}


@pytest.mark.usefixtures("little_patience")
def test_what_was_in_flight_at_an_error_of_ours_is_in_doubt_for_the_next_try(
    ims_emulator: Emulator, run: Run, store: MemoryStore, client: IMSClient, after_deletion_of: Any
) -> None:
    library = sorted(ims_emulator.generate(200))
    client._transport.connect_timeout = 0.2
    third_is_out, is_over = threading.Event(), threading.Event()

    def fail() -> None:
        third_is_out.wait(30)
        raise TypeError("a fault of ours")

    def hang() -> None:
        third_is_out.set()
        is_over.wait(30)

    after_deletion_of({20: fail, 40: hang})
    stop = threading.Event()
    with pytest.raises(TypeError, match="a fault of ours"):
        run(library, store=store, max_concurrency=3, stop=stop)
    assert not stop.is_set()  # it is the caller's
    is_over.set()
    gone = {deletion["media_id"] for deletion in ims_emulator.deleted()}
    assert set(library[20:60]) < gone
    result = run(library, store=store)
    assert (result["resumed"], counts(result), result["inferred"]) == (True, {"deleted": 200}, 40)


@pytest.mark.parametrize("failing", ["report", "on_result"])
def test_a_batch_whose_results_could_not_be_kept_is_counted_once(
    ims_emulator: Emulator,
    run: Run,
    store: MemoryStore,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    failing: str,
) -> None:
    library = ims_emulator.generate(100)
    options: dict[str, Any] = {"store": store, "report_base": storage_path(str(tmp_path))}

    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def put(_: report_module.Spool, lines: list[Any]) -> None:
        if lines:
            fail()

    with monkeypatch.context() as patch:
        if failing == "report":
            patch.setattr(report_module.Spool, "put", put)
        with pytest.raises(OSError, match="No space left"):
            run(library, **options, on_result=fail)
    result = run(library, **options)
    assert (result["resumed"], counts(result)) == (True, {"deleted": 100})
    assert sorted(line["media_id"] for line in lines_of(Path(result["report"]))) == sorted(library)


@contextmanager
def others_answered(client: IMSClient) -> Iterator[None]:
    """Something else that goes through by the same client, all the time."""
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.wait(0.02):
            with suppress(IMSError):
                list_media_basic_infos(client, max_results=1)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@pytest.mark.usefixtures("gives_up_soon")
def test_too_many_that_cant_be_read_are_no_stop_that_somebody_asked_for(
    ims_emulator: Emulator, run: Run, client: IMSClient, store: MemoryStore
) -> None:
    ims_emulator.add_fault("error", status=500, action="BatchGetMediaInfos")
    # In its second half others must be answered, on a busy machine too: else the service counts as down.
    client.retry_seconds = 2
    stop = threading.Event()
    with others_answered(client), pytest.raises(TargetsUnread, match="Too many could not be read") as ended:
        run(UNKNOWN_IDS, store=store, stop=stop)
    assert not stop.is_set()
    assert counts(ended.value.result) == {"unknown": 3000}
    asked = 20 * len(ims_emulator.requests("DeleteMediaInfos"))
    assert 1000 <= asked < 3000
    ims_emulator.drop_faults()
    assert counts(run(UNKNOWN_IDS, store=store)) == {"missing": 3000}


@pytest.mark.usefixtures("gives_up_soon")
@pytest.mark.parametrize("failures", [1, 10**9])
def test_a_refusal_is_not_hidden_by_a_store_that_fails_too(
    ims_emulator: Emulator,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    failures: int,
) -> None:
    library = ims_emulator.generate(100)
    # Several are in flight then, and all of them are refused.
    ims_emulator.add_fault("delay", milliseconds=50)
    ims_emulator.add_fault("refuse", code="InvalidAccessKeyId.Inactive", status=400, skip=2)
    left = failures

    def write(path: Any, *args: Any) -> str:
        nonlocal left
        if path.name.startswith("part-") and left > 0:
            left -= 1
            raise StorageError(f"{path} could not be written: Service Unavailable")
        return write_whole(path, *args)

    monkeypatch.setattr(report_module, "write_whole", write)
    with pytest.raises(IMSAuthError, match="Inactive"):
        run(library, report_base=storage_path(str(tmp_path)))
    done = {deletion["media_id"] for deletion in ims_emulator.deleted()}
    assert ("Besides" in caplog.text) == (failures > 1)
    if failures == 1:
        assert {line["media_id"] for line in lines_of(tmp_path / "attempt=1")} == done
    else:
        assert "part-00001.jsonl could not be written: Service Unavailable" in caplog.text
