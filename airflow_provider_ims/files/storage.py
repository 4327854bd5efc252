"""Files wherever the user's Airflow can write them: a local folder, or any object storage that it knows.

Says where and how, not what: plans, reports and shards are the business of their own modules. What is used of a
store is the contract of fsspec that all of them share. A store differs from a disk in four ways that matter here:
its files can't grow, each write is a round trip, a "folder" is a part of the name, and making one can make a bucket.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import secrets
import stat
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fsspec.core import has_magic
from fsspec.spec import AbstractFileSystem

from airflow_provider_ims.api.errors import GuardError, IMSError
from airflow_provider_ims.api.exception_chain import causes
from airflow_provider_ims.api.identifiers import has_control_character, is_no_name, show
from airflow_provider_ims.arguments import is_nothing

if TYPE_CHECKING:
    from airflow_provider_ims.compat import ObjectStoragePath

MAX_LINE_BYTES = 2**20

_READ_BYTES = 4 * 2**20
"""What one request to a store reads."""

_PIECE_BYTES = 64 * 2**10
"""What is handed to a file at once, about."""

_ONE_PUT_BYTES = 8 * 2**20
"""A file up to here is written to a store in one request; a larger one in parts, which are joined at its end."""

_DELETING_THREADS = 32
"""Files that are deleted side by side in a store that takes one at a time."""

_MAY_HEAL = (408, 429)
"""Of the statuses of HTTP that are the client's fault: too slow, and too often."""

_NEEDS = {
    "s3": "apache-airflow-providers-amazon[s3fs]",
    "s3a": "apache-airflow-providers-amazon[s3fs]",
    "gs": "apache-airflow-providers-google",
    "gcs": "apache-airflow-providers-google",
    "abfs": "apache-airflow-providers-microsoft-azure",
    "abfss": "apache-airflow-providers-microsoft-azure",
    "adl": "apache-airflow-providers-microsoft-azure",
    "oss": "airflow-provider-ims[oss]",
}
"""Which package brings a scheme to Airflow."""

_CONTENT_TYPE_ARGUMENTS = {
    "s3": "ContentType",
    "s3a": "ContentType",
    "gs": "content_type",
    "gcs": "content_type",
    "oss": "content_type",
}
"""What a file system calls the type of a file that is written to it; others guess or have none."""

_to_json = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps would make an encoder for each line


class StorageError(IMSError, OSError):
    """A store could not be read or written: one sentence that names the path, the reason and what to do.

    :param message: the sentence.
    :param final: whether the store refused it, so that asking again changes nothing; else it may heal.
    """

    def __init__(self, message: str, final: bool = False) -> None:
        super().__init__(message)
        self.final = final

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.final)


def storage_path(
    path: str | ObjectStoragePath, argument: str = "path", *, ims_conn_id: str | None = None
) -> ObjectStoragePath:
    """Return a path as Airflow knows it. No request goes to its store.

    :param argument: what the user calls it, for the errors.
    :param ims_conn_id: the connection whose keys an ``oss://`` path takes that names none.
    :raises ValueError: for a text that names nothing; for ``~``, which a worker takes for the name of a folder; if
        no store is known for it, or its connection or its library is not there.
    """
    # Imported late: it loads much that a DAG file never needs.
    from airflow_provider_ims.compat import ObjectStoragePath

    if not isinstance(path, str | os.PathLike | ObjectStoragePath):
        raise ValueError(f"{argument} is {show(path)} ({type(path).__name__}), not a path")
    text = str(path).strip()
    # The first part of a relative path, or of one in a bucket, is what a template's own folder was rendered to.
    first = (
        text.partition("://")[2].partition("/")[0]
        if "://" in text
        else text.removeprefix("./").partition("/")[0]
    )
    if (
        is_nothing(text)
        or not text.removeprefix(".").strip("/")
        or text.endswith("://")
        or (first and is_no_name(first))
    ):
        raise ValueError(f"{argument} {str(path)!r} is given as a path, which names none")
    if has_control_character(text):
        raise ValueError(f"{argument} {str(path)!r} has a character that no path can have")
    if text.startswith("file://") and not text.startswith("file:///"):
        raise ValueError(f"{argument} {text!r} names a host, which no path on a disk has; write file:///")
    if text.removeprefix("file://").startswith("~"):
        raise ValueError(
            f"{argument} {text!r} is given as a path, but the home of a worker is not yours; write it without ~"
        )
    named = f"{argument} {str(path)!r}"
    # Before Airflow makes a file system of it: for a connection that does not exist that is one without any.
    if conn_id := _conn_id(path):
        _require_connection(conn_id, named)
    try:
        found = path if isinstance(path, ObjectStoragePath) else ObjectStoragePath(str(path))
        if ims_conn_id and found.protocol == "oss" and not conn_id:
            found = ObjectStoragePath(str(found), conn_id=ims_conn_id)
        _ = found.fs  # Airflow would say only later that it knows no such store.
    except (ImportError, ValueError) as error:
        raise ValueError(_no_such_store(named, str(path).partition("://")[0], error)) from error
    return found


def is_local(path: ObjectStoragePath) -> bool:
    """Whether it lies in a file system: with folders to make, files to append to, and names to swap."""
    return path.protocol in ("", "file", "local")  # "" is that of a plain path


def lines(path: ObjectStoragePath) -> Iterator[bytes]:
    """Go through a file's lines, each with its line end, in little memory whatever the file is.

    :raises ValueError: at a line of more than 1 MiB, and for what is no plain file (a pipe, a device).
    :raises FileNotFoundError: if it is not there, ``IsADirectoryError`` if it is a folder.
    :raises StorageError: if it can't be read.
    """
    number = 0
    with _open_to_read(path) as file:
        while True:
            with _store_errors(path, "read"):
                line = file.readline(MAX_LINE_BYTES + 1)
            if not line:
                return
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise ValueError(
                    f"{path}, line {number}: longer than {MAX_LINE_BYTES >> 20} MiB, so it is no manifest"
                )
            yield line


def read_chunks(path: ObjectStoragePath) -> Iterator[bytes]:
    """Go through a file's bytes in pieces of some MiB.

    :raises ValueError: for what is no plain file (a pipe, a device).
    :raises FileNotFoundError: if it is not there, ``IsADirectoryError`` if it is a folder.
    :raises StorageError: if it can't be read.
    """
    with _open_to_read(path) as file, _store_errors(path, "read"):
        while piece := file.read(_READ_BYTES):
            yield piece


def read_whole(path: ObjectStoragePath) -> bytes:
    """Return a file's bytes; for small ones.

    :raises FileNotFoundError: if it is not there, ``IsADirectoryError`` if it is a folder.
    :raises StorageError: if it can't be read.
    """
    with _open_to_read(path) as file, _store_errors(path, "read"):
        return file.read()


def file_length(path: ObjectStoragePath) -> int:
    """Return how many bytes a file has.

    :raises ValueError: for what is no plain file (a pipe, a device).
    :raises FileNotFoundError: if it is not there, ``IsADirectoryError`` if it is a folder.
    :raises StorageError: if the store does not tell.
    """
    _require_plain(path)
    with _store_errors(path, "read"):
        if not is_local(path):
            _forget_listings(path)
        found = path.fs.info(path.path)
    if found["type"] == "directory":
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return int(found["size"])


def read_range(path: ObjectStoragePath, start: int, end: int) -> bytes:
    """Return some of a file's bytes, in one request to a store.

    :raises StorageError: if it can't be read.
    """
    with _store_errors(path, "read"):
        return bytes(path.fs.cat_file(path.path, start=start, end=end))


def write_whole(path: ObjectStoragePath, chunks: Iterable[bytes], content_type: str | None = None) -> str:
    """Write a file that appears whole or not at all, in place of the one that is there; its folder is made.

    Whatever goes wrong, ``chunks`` included, leaves what was there as it was.

    :param content_type: such as ``text/html``, where the store can keep one.
    :returns: the SHA-256 of the bytes, in hex.
    :raises ValueError: if something else than a plain file has the name.
    :raises StorageError: if it can't be written.
    """
    digest = hashlib.sha256()

    def hashed() -> Iterator[bytes]:
        for piece in _in_pieces(chunks):
            digest.update(piece)
            yield piece

    if is_local(path):
        _write_local(path, hashed())
    else:
        _write_to_store(path, hashed(), content_type)
    return digest.hexdigest()


def list_names(folder: ObjectStoragePath) -> list[str]:
    """Return the names of what lies in a folder, sorted; none if there is no such folder.

    :raises StorageError: if the store does not tell.
    """
    with _store_errors(folder, "listed"):
        try:
            _forget_listings(folder)
            found = folder.fs.ls(folder.path, detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
    # Some stores list the folder itself where a console made an empty object of its name.
    own = folder.path.rstrip("/")
    return sorted({name.rstrip("/").rpartition("/")[2] for name in found if name.rstrip("/") != own})


def exists(path: ObjectStoragePath) -> bool:
    """Whether there is a file or a folder of this name.

    :raises StorageError: if the store does not tell.
    """
    with _store_errors(path, "looked for"):
        try:
            _forget_listings(path)
            path.fs.info(path.path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True


def is_folder(path: ObjectStoragePath) -> bool:
    """Whether there is a folder of this name: in a store, whether a name begins with it.

    :raises StorageError: if the store does not tell.
    """
    with _store_errors(path, "looked for"):
        try:
            _forget_listings(path)
            return str(path.fs.info(path.path)["type"]) == "directory"
        except (FileNotFoundError, NotADirectoryError):
            return False


def delete(path: ObjectStoragePath) -> None:
    """Delete a file if it is there.

    :raises StorageError: if the store does not delete it.
    """
    with _store_errors(path, "deleted"), suppress(FileNotFoundError):
        path.fs.rm_file(path.path)


def delete_all(paths: Sequence[ObjectStoragePath]) -> None:
    """Delete files of one store if they are there: with one request for all, where the store has such.

    :raises StorageError: if the store does not delete them.
    """
    if not paths:
        return
    fs, names = paths[0].fs, [path.path for path in paths]
    # A name that is a pattern, too, would take others with it.
    if type(fs).rm is not AbstractFileSystem.rm and not any(map(has_magic, names)):
        with _store_errors(paths[0], "deleted"), suppress(FileNotFoundError):
            fs.rm(names)
            return
    with ThreadPoolExecutor(_DELETING_THREADS, "ims-delete-files") as threads:
        list(threads.map(delete, paths))


def check_writable(folder: ObjectStoragePath, argument: str, files: Sequence[ObjectStoragePath] = ()) -> None:
    """Write an empty file in a folder and delete it: what can't be written is said before anything is deleted.

    :param argument: what the user calls the folder, or the first of the files.
    :param files: in it, which will be written.
    :raises GuardError: if the store refuses it; no bucket is made.
    :raises StorageError: if the store can't be reached just now.
    """
    probe = folder / f"_writable-{secrets.token_hex(4)}"  # query engines leave out names like this
    try:
        for path in files:
            if is_local(path):
                _require_replaceable(path)
            elif "/" not in path.path.strip("/"):
                raise ValueError(f"{path} names a bucket and no file in it")
        write_whole(probe, ())
        delete(probe)
    except (StorageError, ValueError) as error:
        message = f"{argument}: {error}. No request was sent to IMS"
        if isinstance(error, StorageError) and not error.final:
            raise StorageError(message) from error
        raise GuardError(message) from error


def temporary_file_error(error: OSError) -> StorageError:
    """Say on which disk it was that a temporary file could not be written: on none that the user named."""
    return StorageError(
        f"the folder for temporary files, {tempfile.gettempdir()}, can't be written: {_reason(error)}; make room "
        "there, or set TMPDIR to another"
    )


def to_line(value: Any) -> bytes:
    """Return a value as one line of JSON, also for readers that end a line at U+2028 and the like."""
    line = _to_json(value)
    if not line.isprintable():
        # What no terminal shows, and half a surrogate pair, which UTF-8 can't carry, becomes a JSON escape.
        line = "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in line)
    return f"{line}\n".encode()


def _conn_id(path: str | ObjectStoragePath) -> str:
    """Return the connection that a path names; Airflow 2 does not tell it otherwise."""
    return urlsplit(str(path)).netloc.rpartition("@")[0]


def _require_connection(conn_id: str, named: str) -> None:
    """Raise if a path names a connection that does not exist: stores take that for none, and ask the public cloud."""
    from airflow_provider_ims.compat import AirflowNotFoundException, BaseHook

    try:
        BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise ValueError(
            f"{named} names the connection {conn_id!r}, which does not exist; make it, or take it out of the path"
        ) from None


def _no_such_store(named: str, scheme: str, error: Exception) -> str:
    if package := _NEEDS.get(scheme):
        return f"{named} needs a package that is not installed; install {package} ({_reason(error)})"
    return f"{named} can't be used: {_reason(error)}; install the provider that brings {scheme}:// paths"


def _forget_listings(path: ObjectStoragePath) -> None:
    """Have the store asked, for others write there, too. Some remember a file by the listing of its folder."""
    for one in (path, path.parent):
        path.fs.invalidate_cache(one.path)


def _require_plain(path: ObjectStoragePath) -> None:
    if is_local(path) and not stat.S_ISREG(mode := os.stat(path.path).st_mode):
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path.path)
        # Opening a pipe waits for a writer, and a device may never end.
        raise ValueError(f"{path} is no plain file but a pipe, a socket or a device")


def _require_replaceable(path: ObjectStoragePath) -> None:
    mode = stat.S_IFREG
    with _store_errors(path, "written"), suppress(FileNotFoundError, NotADirectoryError):
        mode = os.lstat(path.path).st_mode
    if not stat.S_ISREG(mode):
        raise ValueError(
            f"{path} is no plain file but a link, a folder, a pipe or a device; name another path"
        )


def _open_to_read(path: ObjectStoragePath) -> io.BufferedReader:
    _require_plain(path)
    buffer_size = io.DEFAULT_BUFFER_SIZE if is_local(path) else _READ_BYTES
    if not is_local(path):
        _forget_listings(path)
    with _store_errors(path, "read"):
        # A cache would read ahead by what a store thinks best: 50 MiB for S3.
        file = path.fs.open(path.path, "rb", block_size=buffer_size, cache_type="none")
    if getattr(file, "details", {}).get("type") == "directory":
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    # The buffered files of stores take no size in readline, so a line could be as long as memory.
    return io.BufferedReader(file, buffer_size)


def _in_pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Put lines together, each of which would cost as much as many."""
    piece = bytearray()
    for chunk in chunks:
        piece += chunk
        if len(piece) >= _PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)


def _write_local(path: ObjectStoragePath, chunks: Iterable[bytes]) -> None:
    folder, name = os.path.split(os.path.abspath(path.path))
    _require_replaceable(path)
    with _store_errors(path, "written"):
        os.makedirs(folder, exist_ok=True)
        part = os.path.join(folder, f".{name[:200]}.{secrets.token_hex(4)}.part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    file = open(descriptor, "wb")  # noqa: SIM115 - closing writes again what a full disk refused
    try:
        for chunk in chunks:
            with _store_errors(path, "written"):
                file.write(chunk)
        with _store_errors(path, "written"):
            file.flush()
            os.fsync(descriptor)
            file.close()
        with _store_errors(path, "written"):
            os.replace(part, path.path)
    except BaseException:
        with suppress(OSError):
            file.close()
        with suppress(FileNotFoundError):
            os.unlink(part)
        raise


def _write_to_store(path: ObjectStoragePath, chunks: Iterable[bytes], content_type: str | None) -> None:
    options: dict[str, Any] = {}
    if content_type and (argument := _CONTENT_TYPE_ARGUMENTS.get(path.protocol)):
        options[argument] = content_type
    elif content_type and path.protocol in ("abfs", "abfss"):
        from azure.storage.blob import ContentSettings  # type: ignore[import-not-found]  # adlfs has brought it

        options["content_settings"] = ContentSettings(content_type=content_type)
    first = bytearray()
    remaining = iter(chunks)
    for chunk in remaining:
        first += chunk
        if len(first) > _ONE_PUT_BYTES:
            break
    else:
        with _store_errors(path, "written"):
            path.fs.pipe_file(path.path, bytes(first), **options)
        return
    with _store_errors(path, "written"):
        # Not as a context manager: leaving that because of an error would complete the file as it is.
        file = path.fs.open(path.path, "wb", block_size=_ONE_PUT_BYTES, autocommit=False, **options)
    try:
        with _store_errors(path, "written"):
            file.write(first)
        for chunk in remaining:
            with _store_errors(path, "written"):
                file.write(chunk)
        with _store_errors(path, "written"):
            file.close()
            file.commit()
    except BaseException:
        with suppress(Exception):
            file.discard()
        file.closed = True  # else its finalizer would write what is left
        raise


@contextmanager
def _store_errors(path: ObjectStoragePath, done: str) -> Iterator[None]:
    """Turn what a store raises, which is of many kinds, into a sentence; what is not there stays what it is."""
    try:
        yield
    except (FileNotFoundError, IsADirectoryError) as error:
        if done != "written":
            raise
        raise StorageError(f"{path} can't be written: {_reason(error)}", final=True) from error
    except Exception as error:
        raise StorageError(
            f"{path} can't be {done}: {_reason(error)}{_advice(path, error)}",
            final=any(map(_is_refusal, causes(error))),
        ) from error


def _is_refusal(error: BaseException) -> bool:
    """Whether a store will say the same again. Not all raise the types of Python: then a status of HTTP tells."""
    status = getattr(error, "status_code", None)
    return (
        getattr(error, "errno", None) == errno.ENAMETOOLONG
        or isinstance(error, PermissionError | FileExistsError | NotADirectoryError | ValueError | TypeError)
        or (isinstance(status, int) and 400 <= status < 500 and status not in _MAY_HEAL)
    )


def _reason(error: BaseException) -> str:
    """Return what a store says, in one line; Azure's has its ids and the answer's XML below."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    said = " ".join(str(error).split("\nRequestId:")[0].split())
    if len(said) > 300:
        said = said[:300] + "..."
    return said or type(error).__name__


def _advice(path: ObjectStoragePath, error: BaseException) -> str:
    if is_local(path) or path.protocol == "oss":  # which says so itself
        return ""
    conn_id = _conn_id(path)
    if not conn_id:
        return (
            f"; it was asked without an Airflow connection, which a path can name: "
            f"{path.protocol}://conn_id@bucket/folder"
        )
    return f"; see the connection {conn_id!r} and its rights"
