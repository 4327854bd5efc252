"""Reading and writing, the same on this disk, in S3 and in OSS."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import socket
import subprocess
import sys
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_ims.api.errors import GuardError
from airflow_provider_ims.files import storage
from airflow_provider_ims.files.manifest import ManifestReader
from airflow_provider_ims.files.report import report_parts
from airflow_provider_ims.files.storage import StorageError, storage_path
from tests.stores import Store

MIB = 2**20
ODD_NAMES = [
    "a b",
    "ä=1",
    "run_id=manual__2026-01-01T00.00.00+00.00",
    "per%cent%3A",
    "日本.jsonl",
    "(x)!~'",
    "a&b;c",
]


@pytest.mark.parametrize("size", [0, 1, 8 * MIB, 8 * MIB + 1, 20 * MIB])
def test_a_file_comes_back_as_it_was_written(store: Store, size: int):
    path = store.base / "folder" / "file"
    content = os.urandom(1000) * (size // 1000) + b"x" * (size % 1000)
    chunks = (content[start : start + 100_000] for start in range(0, size, 100_000))
    assert storage.write_whole(path, chunks) == hashlib.sha256(content).hexdigest()
    assert storage.read_whole(path) == content
    assert store.unfinished() == 0


@pytest.mark.parametrize("before", [b"", b"x" * 9 * MIB], ids=["small", "large"])
def test_a_file_that_fails_half_way_leaves_what_was_there(store: Store, before: bytes):
    def chunks():
        yield before
        yield b"half"
        raise KeyboardInterrupt

    path = store.base / "file"
    with pytest.raises(KeyboardInterrupt):
        storage.write_whole(path, chunks())
    assert not storage.exists(path)
    storage.write_whole(path, [b"old"])
    with pytest.raises(KeyboardInterrupt):
        storage.write_whole(path, chunks())
    assert storage.read_whole(path) == b"old"
    assert storage.list_names(store.base) == ["file"]
    assert store.unfinished() == 0


@pytest.mark.parametrize("patterns", [[], ["a*", "[ab]", "?"]], ids=["plain", "patterns"])
def test_many_files_are_deleted_and_no_other(store: Store, patterns: list[str]):
    """Those that are not there are passed over, and a name that reads as a pattern is a name."""
    if not storage.is_local(store.base):
        names = [*ODD_NAMES, *patterns]
        for name in (*names, "a", "b", "ab"):
            storage.write_whole(store.base / name, [b"x"])
        storage.delete_all([store.base / name for name in (*names, "nobody")])
        assert storage.list_names(store.base) == ["a", "ab", "b"]
        storage.delete_all([])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([b"", b"a", b"\r", "ä".encode(), b"x" * 70_000]), max_size=12), st.booleans())
def test_lines_are_those_that_were_written(store: Store, wanted: list[bytes], ended: bool):
    path = store.base / "lines"
    content = b"\n".join(wanted) + (b"\n" if ended else b"")
    storage.write_whole(path, [content])
    assert list(storage.lines(path)) == content.splitlines(keepends=True) or b"\r" in content
    assert b"".join(storage.lines(path)) == content


@pytest.mark.parametrize("length", [MIB - 1, MIB])
def test_a_line_of_more_than_a_mebibyte_is_refused(store: Store, length: int):
    path = store.base / "long"
    storage.write_whole(path, [b"short\n", b"x" * length, b"\n", b"y\n"])
    if length < MIB:
        assert [len(line) for line in storage.lines(path)] == [6, MIB, 2]
    else:
        with pytest.raises(ValueError, match=r"long, line 2: longer than 1 MiB"):
            list(storage.lines(path))


def test_names_are_listed_with_odd_characters_and_beyond_a_thousand(store: Store):
    for name in ODD_NAMES:
        storage.write_whole(store.base / "odd" / name / "file", [name.encode()])
    assert storage.list_names(store.base / "odd") == sorted(ODD_NAMES)
    for name in ODD_NAMES:
        assert storage.read_whole(store.base / "odd" / name / "file") == name.encode()
    assert storage.list_names(store.base) == ["odd"]
    assert storage.list_names(store.base / "nothing") == []
    for number in range(1100):
        storage.write_whole(store.base / "many" / f"{number:04}", ())
    assert storage.list_names(store.base / "many") == [f"{number:04}" for number in range(1100)]


def test_what_others_write_is_seen_at_once(store: Store):
    path = store.base / "file"
    assert storage.list_names(store.base) == []
    assert not storage.exists(path)
    storage.write_whole(path, [b"1"])
    assert storage.list_names(store.base) == ["file"]
    storage.write_whole(path, [b"22"])
    assert storage.read_whole(path) == b"22"
    storage.delete(path)
    storage.delete(path)
    assert not storage.exists(path)
    assert storage.list_names(store.base) == []


def test_files_and_folders_are_told_apart(store: Store):
    storage.write_whole(store.base / "folder" / "file", [b"x"])
    assert storage.is_folder(store.base / "folder")
    assert not storage.is_folder(store.base / "folder" / "file")
    assert not storage.is_folder(store.base / "nothing")
    with pytest.raises(IsADirectoryError):
        storage.read_whole(store.base / "folder")
    with pytest.raises(FileNotFoundError):
        storage.read_whole(store.base / "nothing")


def test_a_page_is_stored_as_one(store: Store):
    storage.write_whole(store.base / "plan.html", [b"<!doctype html>"], "text/html; charset=utf-8")
    storage.write_whole(store.base / "large.html", [b"x" * 9 * MIB], "text/html; charset=utf-8")
    expected = None if store.kind == "local" else "text/html; charset=utf-8"
    assert store.content_type("plan.html") == store.content_type("large.html") == expected


def test_a_folder_that_can_be_written_is_left_as_it_was(store: Store):
    storage.check_writable(store.base / "report", "report")
    assert storage.list_names(store.base / "report") == []


def test_a_bucket_that_is_not_there_is_named_and_not_made(store: Store):
    if store.kind == "local":
        pytest.skip("a disk has no buckets")
    before = store.buckets()
    slip = storage_path(store.elsewhere)
    refusal = r"^report: (s3|oss|abfs)://.*(bucket|container).* does not exist.*No request was sent to IMS$"
    with pytest.raises(GuardError, match=refusal) as caught:
        storage.check_writable(slip, "report")
    assert "\n" not in str(caught.value)
    tells = "" if store.kind == "azure" else ": .*bucket"  # adlfs says no more of it than of a file
    with pytest.raises(StorageError, match="does not exist"):
        storage.write_whole(slip / "file", [b"x" * 9 * MIB])
    with pytest.raises(ValueError, match=rf"manifest .*/ids.txt does not exist{tells}"):
        list(ManifestReader(slip / "ids.txt"))
    assert store.buckets() == before


def test_manifests_are_read_with_their_digest(store: Store):
    ids = b"\xef\xbb\xbfid1\n\n id2 \r\nid3"
    storage.write_whole(store.base / "ids.txt", [ids])
    reader = ManifestReader(store.base / "ids.txt")
    assert [row.media_id for row in reader] == ["id1", "id2", "id3"]
    assert reader.digest == hashlib.sha256(ids).hexdigest()
    plan = b'{"plan": 1, "selected": 1}\n{"media_id": "id1", "created": "2026-01-01T00:00:00Z"}\n'
    storage.write_whole(store.base / "plan.jsonl", [plan])
    reader = ManifestReader(str(store.base / "plan.jsonl"))
    assert [(row.media_id, row.columns["created"]) for row in reader] == [("id1", "2026-01-01T00:00:00Z")]
    assert reader.plan_header == {"plan": 1, "selected": 1}
    assert reader.digest == hashlib.sha256(plan).hexdigest()
    with pytest.raises(ValueError, match=r"manifest .*/no.txt does not exist$"):
        list(ManifestReader(store.base / "no.txt"))
    with pytest.raises(ValueError, match="is a folder, not a file"):
        list(ManifestReader(store.base))


def test_parts_of_a_report_are_found_by_their_numbers(store: Store):
    for name in ("part-00001.jsonl", "part-00002.jsonl", "part-x.jsonl", "part-3.json", "_journal"):
        storage.write_whole(store.base / "report" / name, [b"{}\n"])
    found = [path.name for path in report_parts(store.base / "report")]
    assert found == ["part-00001.jsonl", "part-00002.jsonl"]
    assert report_parts(store.base / "nothing") == []


READS_TWO_FILES = """
import resource, sys
from airflow_provider_ims.files.storage import lines, storage_path

def peak(name):
    count = sum(1 for _ in lines(storage_path(sys.argv[1]) / name))
    return count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

(few, before), (many, after) = peak("few"), peak("many")
print(few, many, after - before)
"""


def test_memory_does_not_grow_with_the_file(store: Store):
    line = b"0123456789abcdef0123456789abcdef\n"
    storage.write_whole(store.base / "few", [line] * 2000)
    storage.write_whole(store.base / "many", (line for _ in range(1_000_000)))  # 33 MB
    run = subprocess.run(
        [sys.executable, "-c", READS_TWO_FILES, store.url], capture_output=True, text=True, check=True
    )
    few, many, kilobytes = map(int, run.stdout.splitlines()[-1].split())
    assert (few, many) == (2000, 1_000_000)
    assert kilobytes < 24_000


# Paths that can't be used


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("s3://nobody@bucket/x", r"report 's3://nobody@bucket/x' names the connection 'nobody', which "),
        ("oss://nobody@bucket/x", r"names the connection 'nobody', which does not exist; make it"),
        ("gs://bucket/x", r"needs a package that is not installed; install apache-airflow-providers-google"),
        ("abfs://bucket/x", r"install apache-airflow-providers-microsoft-azure"),
        ("foo://bucket/x", r"report 'foo://bucket/x' can't be used: .*; install the provider that brings"),
    ],
)  # fmt: skip
def test_a_path_that_can_not_be_used_is_named_with_what_to_do(path: str, reason: str):
    with pytest.raises(ValueError, match=reason):
        storage_path(path, "report")


def test_what_is_no_plain_file_is_refused_before_it_is_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "target").write_bytes(b"kept")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for name in ("pipe", "/dev/zero"):
        path = storage_path(str(tmp_path / name))
        with pytest.raises(ValueError, match="is no plain file but a pipe"):
            list(storage.lines(path))
    for name in ("pipe", "link", "/dev/stdout", "."):
        with pytest.raises(ValueError, match="is no plain file but a link"):
            storage.write_whole(storage_path(str(tmp_path / name)), [b"x"])
    assert (tmp_path / "target").read_bytes() == b"kept"
    assert sorted(os.listdir(tmp_path)) == ["link", "pipe", "target"]


def test_a_disk_that_can_not_be_written_says_why(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    refusal = r"^report: .*_writable-.* can't be written: \w.* No request was sent to IMS$"
    for folder in ("/proc/nothing", str(tmp_path / "file")):
        with pytest.raises(GuardError, match=refusal):
            storage.check_writable(storage_path(folder), "report")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux")
def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    path = storage_path(str(tmp_path / "file"))
    storage.write_whole(path, [b"old"])
    opened = os.open
    monkeypatch.setattr(os, "open", lambda _, flags, mode=0: opened("/dev/full", os.O_WRONLY))
    with pytest.raises(StorageError, match="file can't be written: No space left on device") as caught:
        storage.write_whole(path, [b"new"])
    monkeypatch.undo()
    assert not caught.value.final
    assert os.listdir(tmp_path) == ["file"]
    assert storage.read_whole(path) == b"old"


def test_errors_survive_pickling():
    error = pickle.loads(pickle.dumps(StorageError("why", final=True)))
    assert (str(error), error.final) == ("why", True)


@pytest.fixture
def deaf_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_store_that_can_not_be_reached_is_not_final(monkeypatch, deaf_port):
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    retries = {"config_kwargs": {"retries": {"total_max_attempts": 1}}}
    monkeypatch.setenv(
        "AIRFLOW_CONN_AWS_CLOSED",
        json.dumps({"conn_type": "aws", "login": "key-id", "password": "secret", "extra": {
            "endpoint_url": f"http://127.0.0.1:{closed}", "region_name": "us-east-1", **retries}}),
    )  # fmt: skip
    monkeypatch.setenv(
        "AIRFLOW_CONN_OSS_CLOSED",
        json.dumps({"conn_type": "alibaba_ims", "login": "key-id", "password": "secret", "extra": {
            "oss_endpoint": f"http://127.0.0.1:{closed}", "region": "cn-shanghai", "retry_seconds": 0.1}}),
    )  # fmt: skip
    for base in ("s3://aws_closed@bucket/x", "oss://oss_closed@bucket/x"):
        path = storage_path(base, "report")
        with pytest.raises(StorageError, match=r"^report: .*No request was sent to IMS$") as caught:
            storage.check_writable(path, "report")
        assert str(closed) in str(caught.value)
        assert not caught.value.final
        with pytest.raises(StorageError, match="can't be listed"):
            storage.list_names(path)
        with pytest.raises(StorageError, match="can't be looked for"):
            storage.exists(path)


def test_many_threads_write_side_by_side(store: Store):
    def write(number: int) -> None:
        storage.write_whole(store.base / f"{number:02}", [str(number).encode()])

    threads = [threading.Thread(target=write, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert storage.list_names(store.base) == [f"{number:02}" for number in range(24)]
