"""``oss://`` paths: as users' own DAGs take them, with keys of every kind, and when OSS misbehaves."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_ims.emulator.oss import LocalOSS
from airflow_provider_ims.files.oss import OSSFileSystem
from airflow_provider_ims.files.storage import StorageError, check_writable, lines, storage_path, write_whole
from tests.hooks.credential_services import Issuer, LocalService, credentials_uri

MIB = 2**20
BUCKET = "media-team"


@pytest.fixture
def oss(local_oss: LocalOSS) -> LocalOSS:
    local_oss.make_bucket(BUCKET)
    return local_oss


@pytest.fixture
def base(oss: LocalOSS) -> ObjectStoragePath:
    return ObjectStoragePath(f"oss://oss_store@{BUCKET}/base")


@pytest.fixture
def connect(oss: LocalOSS, monkeypatch: pytest.MonkeyPatch) -> Callable[..., OSSFileSystem]:
    """Makes a file system on a connection of its own; arguments replace fields, ``extra`` adds to the extras."""

    def connect(*, extra: dict[str, Any] | None = None, **fields: Any) -> OSSFileSystem:
        short = {"connect_timeout": 2, "read_timeout": 2, "retry_seconds": 0.5}
        connection = oss.airflow_connection(extra={**short, **(extra or {})}, **fields)
        monkeypatch.setenv("AIRFLOW_CONN_OSS_HERE", connection)
        return OSSFileSystem("oss_here")

    return connect


# In users' DAGs


def test_a_file_written_in_pieces_comes_back_and_thousands_are_listed(oss, base):
    piece = os.urandom(MIB)
    with (base / "large").open("wb") as file:
        for _ in range(12):
            file.write(piece)
    assert (base / "large").read_bytes() == piece * 12
    assert (base / "large").stat().st_size == 12 * MIB
    with (base / "large").open("rb") as file:
        file.seek(5 * MIB + 10)
        assert file.read(20) == piece[10:30]
    for number in range(2500):
        oss.put(BUCKET, f"base/many/{number:04}", b"x")
    assert sorted(path.name for path in (base / "many").iterdir()) == [
        f"{number:04}" for number in range(2500)
    ]


def test_what_paths_can_do(oss, base):
    (base / "a" / "text.txt").write_text("ä\n")
    assert (base / "a" / "text.txt").read_text() == "ä\n"
    assert (base / "a").is_dir()
    assert (base / "a" / "text.txt").is_file()
    assert not (base / "b").exists()
    (base / "a" / "text.txt").copy(base / "b" / "copy.txt")
    assert (base / "b" / "copy.txt").read_bytes() == "ä\n".encode()
    (base / "b" / "copy.txt").move(base / "c.txt")
    assert oss.names(BUCKET) == ["base/a/text.txt", "base/c.txt"]
    (base / "c.txt").unlink()
    (base / "new" / "folder").mkdir(parents=True, exist_ok=True)
    assert sorted(path.name for path in base.glob("**/*.txt")) == ["text.txt"]
    assert [path.name for path in base.iterdir()] == ["a"]
    base.rmdir(recursive=True)
    assert oss.names(BUCKET) == []
    with pytest.raises(FileNotFoundError):
        (base / "nothing").read_bytes()


@pytest.mark.parametrize("size", [3, 9 * MIB])
@pytest.mark.parametrize("mode", ["wb", "w"])
def test_a_file_is_dropped_when_an_error_comes_before_its_end(oss, base, size, mode):
    content = b"x" * size if "b" in mode else "x" * size

    def fail_half_way():
        with (base / "file").open(mode) as file:
            file.write(content)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    file = base.fs.open((base / "file").path, "wb")
    file.write(b"x" * size)
    del file
    assert oss.names(BUCKET) == []
    assert not oss.uploads


def test_a_task_of_a_plain_dag(oss, airflow_database, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_IMS_DEFAULT", oss.airflow_connection())
    run = runpy.run_path(str(Path(__file__).parents[1] / "dags" / "plain_paths.py"))["dag"].test()
    assert run.state == "success"
    assert oss.get(BUCKET, "plain.txt") == b"from a task"


def test_the_connection_is_that_of_the_path_else_the_tasks_else_the_default(oss, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_IMS_TEAM", oss.airflow_connection())
    for path, task, expected in (
        ("oss://oss_store@b/x", "ims_team", "oss_store"),
        ("oss://b/x", "ims_team", "ims_team"),
    ):
        found = storage_path(path, ims_conn_id=task)
        assert found.fs.conn_id == expected
        assert str(found) == f"oss://{expected}@b/x"
    assert ObjectStoragePath("oss://b/x").fs.conn_id == "ims_default"


def test_the_library_is_loaded_by_the_first_request_and_no_sooner():
    script = """
import sys
from airflow.providers.common.compat.sdk import ObjectStoragePath
import airflow_provider_ims.files.storage, airflow_provider_ims.files.manifest, airflow_provider_ims.hooks.ims
path = ObjectStoragePath("oss://conn@bucket/key") / "more"
print(path, any(name.startswith("alibabacloud_oss") for name in sys.modules))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "oss://conn@bucket/key/more False"
    assert "not explicitly implemented" not in run.stderr


def test_without_the_library_it_says_what_to_install(monkeypatch):
    import importlib.util

    from airflow_provider_ims.files.oss import get_fs

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'airflow-provider-ims\[oss\]'"):
        get_fs("ims_default")


def test_slices_of_a_file_are_those_of_its_bytes(oss, base):
    content = bytes(range(100))
    write_whole(base / "file", [content])
    fs, path = base.fs, (base / "file").path
    inside = [(0, 10), (10, 20), (90, 100), (-10, None), (5, None), (0, -1), (None, None)]
    for start, end in (*inside, (90, 200), (100, 120), (200, 300), (30, 10)):
        assert fs.cat_file(path, start, end) == content[start:end]
    oss.requests.clear()
    fs.cat_file(path, 10, 20)
    assert [request["operation"] for request in oss.requests] == ["GetObject"]


def test_a_thousand_files_are_deleted_by_one_request(oss, connect):
    odd = ["line\n", "bell\a", "a&b<c>", "plus+ %2B"]
    for name in (*odd, *map(str, range(2100))):
        oss.put(BUCKET, f"many/{name}")
    oss.put("other", "file")
    oss.put("other", "stays")
    connect().rm([*(f"{BUCKET}/many/{name}" for name in (*odd, *range(2000), "nobody")), "other/file"])
    # XML can't carry the two first.
    assert len(oss.requests) == 2 + 3 + 1
    assert oss.names(BUCKET) == sorted(f"many/{number}" for number in range(2000, 2100))
    assert oss.names("other") == ["stays"]


def test_a_bucket_is_emptied_and_stays(oss, connect):
    for name in ("a", "folder/b"):
        oss.put("other", name)
    connect().rm("other", recursive=True)
    assert oss.names("other") == []


def test_files_that_oss_does_not_delete_are_an_error(oss, connect, monkeypatch):
    fs = connect()
    with pytest.raises(FileNotFoundError, match="the bucket nowhere does not exist"):
        fs.rm(["nowhere/file"])
    # Such as files under a retention policy: no local OSS keeps any.
    monkeypatch.setattr(
        fs.client, "call", lambda *_: SimpleNamespace(deleted_objects=[SimpleNamespace(key="b")])
    )
    with pytest.raises(OSError, match="OSS did not delete 1 of 2: a"):
        fs.rm([f"{BUCKET}/a", f"{BUCKET}/b"])


# Keys


def test_an_error_names_what_is_wrong_with_the_key(oss, connect):
    oss.add_key("temporary", "secret-of-it", security_token="token-of-it", expires_in=-1)
    for fields, reason in (
        ({"password": "wrong-secret"}, "the AccessKey Secret is wrong"),
        ({"login": "nobody"}, "the AccessKey ID is not known"),
        ({"extra": {"region": "cn-beijing"}}, "its region does not fit to 127.0.0.1"),
        (
            {"login": "temporary", "password": "secret-of-it", "extra": {"security_token": "token-of-it"}},
            "the security token has expired",
        ),
    ):
        with pytest.raises(PermissionError, match=f"^OSS refuses connection 'oss_here': {reason}") as caught:
            connect(**fields).pipe_file(f"{BUCKET}/x", b"")
        assert "\n" not in str(caught.value)
        assert not {"secret-of-it", "token-of-it", "wrong-secret"} & set(str(caught.value).split())
        assert [request["status"] for request in oss.requests] in ([403], [400])
        oss.requests.clear()


@pytest.mark.parametrize(
    ("allowed", "use", "right"),
    [
        (["oss:Get*"], lambda fs: fs.pipe_file(f"{BUCKET}/x", b""), "oss:PutObject on media-team/[*]"),
        (["oss:Get*"], lambda fs: fs.ls(BUCKET), "oss:ListObjects on media-team;"),
        (["oss:Put*"], lambda fs: fs.cat_file(f"{BUCKET}/x"), "oss:GetObject on media-team/[*]"),
        (["oss:Put*"], lambda fs: fs.rm_file(f"{BUCKET}/x"), "oss:DeleteObject on media-team/[*]"),
        (["oss:Put*"], lambda fs: fs.rm([f"{BUCKET}/x"]), "oss:DeleteObject on media-team/[*]"),
    ],
)
def test_an_error_names_the_right_that_is_missing(oss, connect, allowed, use, right):
    oss.add_key("narrow", "secret", actions=allowed)
    with pytest.raises(PermissionError, match=f"'oss_here': its key needs {right}"):
        use(connect(login="narrow", password="secret"))
    assert len(oss.requests) == 1


@pytest.fixture
def issuer(oss: LocalOSS) -> Issuer:
    return Issuer(oss)  # type: ignore[arg-type]  # it only adds keys


@pytest.fixture
def keys(issuer: Issuer) -> Iterator[LocalService]:
    service = LocalService(credentials_uri(issuer))
    yield service
    service.close()


def test_keys_that_expire_under_a_long_file_are_renewed(oss, connect, issuer, keys, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    extra = {"credential_type": "credentials_uri", "credentials_uri": keys.url}
    fs = connect(login=None, password=None, extra=extra)
    content = b""
    with fs.open(f"{BUCKET}/long", "wb", block_size=MIB) as file:
        for number in range(6):
            file.write(bytes([number]) * MIB)
            content += bytes([number]) * MIB
            current = issuer.issued[-1]
            oss.add_key(
                current["AccessKeyId"],
                current["AccessKeySecret"],
                security_token=current["SecurityToken"],
                expires_in=-1,
            )
    assert oss.get(BUCKET, "long") == content
    assert len(issuer.issued) >= 6
    refused = [request for request in oss.requests if request["status"] == 403]
    assert 1 <= len(refused) <= 8
    assert all(request["status"] in (200, 403) for request in oss.requests)


def test_threads_share_keys_that_are_renewed(oss, connect, issuer, keys, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    issuer.lifetime = 1.0
    extra = {"credential_type": "credentials_uri", "credentials_uri": keys.url, "retry_seconds": 10}
    fs = connect(login=None, password=None, extra=extra)
    failed: list[Exception] = []

    def write(thread: int) -> None:
        try:
            for number in range(15):
                fs.pipe_file(f"{BUCKET}/{thread}-{number}", b"x")
                time.sleep(0.15)
        except OSError as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(oss.names(BUCKET)) == 60
    assert len(issuer.issued) >= 2


# Where it is


def test_the_endpoint_is_the_regions_unless_it_is_given():
    from airflow.providers.common.compat.sdk import Connection

    from airflow_provider_ims.connection import read_settings

    def endpoint(**extra: str) -> str:
        connection = Connection(
            conn_id="c", conn_type="alibaba_ims", login="key-id", password="secret", extra=json.dumps(extra)
        )
        found = read_settings(connection).oss_endpoint
        assert found
        return found.url

    assert endpoint(region="cn-shanghai") == "https://oss-cn-shanghai.aliyuncs.com"
    assert endpoint(region="cn-shanghai", network="vpc") == "https://oss-cn-shanghai-internal.aliyuncs.com"
    assert endpoint(region="cn-shanghai", oss_endpoint="http://127.0.0.1:9000") == "http://127.0.0.1:9000"
    with pytest.raises(ValueError, match="extra 'oss_endpoint': host 'a/b' is not a host"):
        endpoint(region="cn-shanghai", oss_endpoint="a/b")


def test_a_proxy_is_asked_by_name_and_the_environments_is_not(oss, connect, monkeypatch):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    # The proxy answers itself, as the bucket that the host's name begins with.
    fs = connect(extra={"proxy": oss.endpoint, "oss_endpoint": f"http://oss-{oss.region}.aliyuncs.com"})
    fs.pipe_file(f"{BUCKET}/a b", b"x")
    assert oss.get(BUCKET, "a b") == b"x"


def test_a_certificate_must_be_trusted_unless_the_connection_says_otherwise(oss, connect, tmp_path):
    from tests.hooks.credential_services import self_signed

    tls, pem = self_signed(tmp_path)
    with LocalOSS(BUCKET) as secure:
        secure._server.socket = tls.wrap_socket(secure._server.socket, server_side=True)
        endpoint = secure.endpoint.replace("http:", "https:")
        began = time.monotonic()
        with pytest.raises(OSError, match=r"the TLS certificate of 127.0.0.1:\d+ is not trusted; see region"):
            connect(extra={"oss_endpoint": endpoint, "retry_seconds": 60}).pipe_file(f"{BUCKET}/x", b"")
        assert time.monotonic() - began < 30
        for verify in (str(pem), "false"):
            connect(extra={"oss_endpoint": endpoint, "verify": verify}).pipe_file(
                f"{BUCKET}/{verify[-3:]}", b""
            )
        assert len(secure.names(BUCKET)) == 2


def test_paths_that_can_not_be_asked_for_are_refused(connect):
    fs = connect()
    for path, reason in (("oss://", "names no bucket"), (f"{BUCKET}/a/../b", "has a part '.' or '..'")):
        with pytest.raises(ValueError, match=reason):
            fs.cat_file(path)


# When OSS misbehaves


@pytest.mark.parametrize("kind", ["error", "reset", "reset_after"])
@pytest.mark.parametrize("size", [10, 17 * MIB])
def test_what_passes_is_ridden_out(oss, connect, kind, size):
    fs = connect(extra={"read_timeout": 20, "retry_seconds": 60})
    oss.add_fault(kind, every=2)
    content = os.urandom(size)
    with fs.open(f"{BUCKET}/file", "wb") as file:
        file.write(content)
    assert fs.cat_file(f"{BUCKET}/file") == content
    assert fs.ls(BUCKET, detail=False) == [f"{BUCKET}/file"]
    assert not oss.uploads or kind == "reset_after"  # an upload whose id was lost can't be dropped
    fs.rm_file(f"{BUCKET}/file")
    assert oss.names(BUCKET) == []


def test_throttling_is_ridden_out(oss, connect):
    oss.add_fault("error", status=429, code="TooManyRequests", times=3)
    connect(extra={"retry_seconds": 30}).pipe_file(f"{BUCKET}/x", b"")
    assert [request["status"] for request in oss.requests] == [429, 429, 429, 200]


def test_what_lasts_ends_in_an_error_that_may_heal(oss, monkeypatch):
    path = storage_path(f"oss://oss_store@{BUCKET}/report", "report")
    oss.add_fault("error", operation="PutObject")
    reason = r"^report: oss://oss_store@media-team/report/_writable-\w+ can't be written: OSS did not take it in \d+ tries: .* \(ServiceUnavailable, HTTP 503, request id \w+\)"  # noqa: E501
    with pytest.raises(StorageError, match=reason) as caught:
        check_writable(path, "report")
    assert not caught.value.final


def test_a_put_that_takes_longer_than_the_read_time_out_is_sent_again(oss, connect):
    oss.add_fault("delay", seconds=3, times=1)
    connect(extra={"read_timeout": 0.5, "retry_seconds": 20}).pipe_file(f"{BUCKET}/x", b"")
    assert oss.names(BUCKET) == ["x"]


def test_a_file_that_is_replaced_while_it_is_read_is_not_mixed(oss, base):
    path = base / "file"
    write_whole(path, (b"old\n" for _ in range(2 * MIB)))
    reading = lines(path)
    next(reading)
    write_whole(path, (b"new\n" for _ in range(2 * MIB)))
    with pytest.raises(StorageError, match="PreconditionFailed"):
        list(reading)
