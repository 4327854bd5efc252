"""``oss://`` paths: a file system on Alibaba Cloud OSS, with the keys of an IMS connection.

Airflow finds it by the provider info: ``ObjectStoragePath("oss://conn_id@bucket/key")``, or without a connection's
id, which then is ``ims_default``. The official SDK does the work and is loaded by the first request; it comes with
the extra ``oss``.

A file appears whole or not at all: in one request, or in parts that are joined when it is closed and dropped if an
error comes first. Folders are parts of names, so making one does nothing, and no bucket is ever made or deleted.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fsspec import register_implementation
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem
from upath import UPath

if TYPE_CHECKING:
    from airflow_provider_ims.files.oss_client import OSSClient

schemes = ["oss"]

DEFAULT_CONN_ID = "ims_default"

_PART_BYTES = 8 * 2**20
"""A larger file is written in parts. OSS takes 10,000 of them, so files of up to 78 GiB are written by default."""

_PAGE, _FIRST_PAGE = 1000, 100
"""The most entries that a listing gives or a deletion takes at once, and what is asked for where few are expected."""


def get_fs(conn_id: str | None, storage_options: dict[str, Any] | None = None) -> OSSFileSystem:
    """Return the file system for a connection, as Airflow asks for it.

    :param conn_id: an IMS connection; ``ims_default`` if None.
    :raises ImportError: if the extra ``oss`` is not installed.
    """
    from importlib.util import find_spec

    if not find_spec("alibabacloud_oss_v2"):
        raise ImportError("oss:// paths need alibabacloud-oss-v2: pip install 'airflow-provider-ims[oss]'")
    return OSSFileSystem(conn_id=conn_id, **(storage_options or {}))


class OSSFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """Files in OSS.

    :param conn_id: the IMS connection whose keys, region, network, proxy and time-outs are used.
    """

    protocol = "oss"
    cachable = False  # Airflow keeps one for each connection.

    def __init__(self, conn_id: str | None = None, **storage_options: Any) -> None:
        super().__init__(**storage_options)
        self.conn_id = conn_id or DEFAULT_CONN_ID

    @cached_property
    def client(self) -> OSSClient:
        """What sends the requests; made for the first of them.

        :raises ValueError: if the connection does not exist or makes no sense.
        """
        from airflow_provider_ims.compat import AirflowNotFoundException, BaseHook
        from airflow_provider_ims.connection import read_connection
        from airflow_provider_ims.files.oss_client import OSSClient

        try:
            connection = BaseHook.get_connection(self.conn_id)
        except AirflowNotFoundException:
            connection = None
        if connection is None:
            raise ValueError(
                f"the connection {self.conn_id!r} does not exist, whose keys oss:// paths take; make it, or name "
                f"another in the path: oss://conn_id@bucket/folder"
            )
        return OSSClient(read_connection(connection), f"connection {self.conn_id!r}")

    @property
    def fsid(self) -> str:
        """What tells this store from others."""
        return f"oss-{self.conn_id}"

    # Reading

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Return name, size and type of a file, or of a folder: what a name goes on from with a slash."""
        from alibabacloud_oss_v2 import models

        bucket, key = self.split_path(path)
        if key:
            with contextlib.suppress(FileNotFoundError):
                found: Any = self.client.call("head_object", models.HeadObjectRequest(bucket, key))
                return _file(f"{bucket}/{key}", found.content_length, found.etag, found.last_modified)
        request = models.ListObjectsV2Request(bucket, prefix=key and f"{key}/", max_keys=1)
        page: Any = self.client.call("list_objects_v2", request)
        if key and not page.contents:
            raise FileNotFoundError(f"oss://{bucket}/{key} does not exist")
        return _folder(f"{bucket}/{key}".rstrip("/"))

    def exists(self, path: str, **_: Any) -> bool:
        """Whether there is such a file or folder. Trouble on the way to OSS is not taken for a no."""
        try:
            self.info(path)
        except FileNotFoundError:
            return False
        return True

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """List a folder, any number of entries."""
        bucket, key = self.split_path(path)
        entries = list(self._entries(bucket, key and f"{key}/"))
        if not entries and key:
            entries = [self.info(path)]
            if entries[0]["type"] == "directory":  # an empty object that stands for an empty folder
                entries = []
        return entries if detail else sorted(entry["name"] for entry in entries)

    def existing(self, bucket: str, keys: Iterable[str]) -> set[str]:
        """Return which of some keys are there, with one request for all that lie near each other.

        A listing begins right before the first key that is sought, and tells of all up to its end.

        :raises FileNotFoundError: if the bucket is not there.
        :raises PermissionError: if OSS refuses to list it.
        :raises OSError: if it does not tell.
        """
        from alibabacloud_oss_v2 import models

        left = sorted(set(keys), key=str.encode)  # OSS sorts by bytes
        found: set[str] = set()
        after = ""
        # Where they are gone, the first few entries lie behind them all, and a whole page takes a while to read.
        entries = _FIRST_PAGE
        while left:
            after = max(_right_before(left[0]), after, key=str.encode)
            request = models.ListObjectsV2Request(bucket, start_after=after, max_keys=entries)
            entries = min(4 * entries, _PAGE)
            page: Any = self.client.call("list_objects_v2", request)
            names = [one.key for one in page.contents or ()]
            found.update(names)
            if not page.is_truncated or not names:
                break
            after = names[-1]
            left = [key for key in left if key.encode() > after.encode()]
        return found.intersection(keys)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """Return a file's bytes from ``start`` to ``end``, as a slice does."""
        start = start or 0
        if end is not None and start >= 0 and end >= 0:
            try:
                return self._read(path, start, end)
            except OSError as error:
                if "InvalidRange" in str(error):  # it begins beyond the file's end
                    return b""
                raise
        if start or end is not None:
            start, end, _step = slice(start, end).indices(int(self.info(path)["size"]))
        return self._read(path, start, end)

    def read_range(self, path: str, start: int, end: int, etag: str | None = None) -> bytes:
        """Return bytes of a file, in one request.

        :param end: not beyond the file's end.
        :param etag: of the version that is meant; another is an ``OSError``.
        """
        content = self._read(path, start, end, etag)
        if len(content) != max(0, end - start):
            raise OSError(f"oss://{path} gave {len(content)} bytes where {end - start} were asked for")
        return content

    def _read(self, path: str, start: int, end: int | None, etag: str | None = None) -> bytes:
        from alibabacloud_oss_v2 import models

        bucket, key = self.split_path(path)
        if end is not None and end <= start:
            return b""
        request = models.GetObjectRequest(bucket, key, if_match=etag)
        if end is not None:
            request.range_header = f"bytes={start}-{end - 1}"
            request.range_behavior = "standard"  # else OSS answers a range that it can't serve with the whole
        content: bytes = self.client.call("get_object", request, _read_body)
        return content

    def modified(self, path: str) -> Any:
        """Return when a file was written."""
        return self.info(path)["LastModified"]

    # Writing

    def pipe_file(
        self, path: str, value: bytes, mode: str = "overwrite", content_type: str | None = None, **_: Any
    ) -> None:
        """Write a file in one request.

        :param mode: ``create`` raises ``FileExistsError`` where there is one.
        """
        from alibabacloud_oss_v2 import models

        bucket, key = self.split_path(path)
        request = models.PutObjectRequest(bucket, key, body=value, content_type=content_type)
        if mode == "create":
            request.forbid_overwrite = True
        self.client.call("put_object", request)

    def rm_file(self, path: str) -> None:
        """Delete a file; OSS does not tell whether it was there."""
        from alibabacloud_oss_v2 import models

        bucket, key = self.split_path(path)
        self.client.call("delete_object", models.DeleteObjectRequest(bucket, key))

    _rm = rm_file

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Delete files, a thousand with one request; OSS does not tell whether they were there.

        :param path: one or several.
        :raises OSError: if OSS does not say of each that it is gone.
        """
        from alibabacloud_oss_v2 import models

        by_bucket: dict[str, list[str]] = {}
        for one in self.expand_path(path, recursive=recursive, maxdepth=maxdepth):
            bucket, key = self.split_path(one)
            if not key:  # the bucket, which stays
                continue
            if key.isprintable():
                by_bucket.setdefault(bucket, []).append(key)
            else:  # XML can't carry each
                self.rm_file(one)
        for bucket, keys in by_bucket.items():
            for first in range(0, len(keys), _PAGE):
                some = keys[first : first + _PAGE]
                # As the oldest SDK that is supported takes them.
                objects = [models.DeleteObject(key=key) for key in some]
                request = models.DeleteMultipleObjectsRequest(bucket, objects=objects)
                answer: Any = self.client.call("delete_multiple_objects", request)
                if left := set(some).difference(gone.key for gone in answer.deleted_objects or ()):
                    raise OSError(f"OSS did not delete {len(left):,} of {len(some):,}: {min(left)}")

    def cp_file(self, path1: str, path2: str, **_: Any) -> None:
        """Copy a file within OSS."""
        from alibabacloud_oss_v2 import models

        (from_bucket, from_key), (bucket, key) = self.split_path(path1), self.split_path(path2)
        if self.isfile(path1):
            self.client.call(
                "copy_object",
                models.CopyObjectRequest(bucket, key, source_bucket=from_bucket, source_key=from_key),
            )

    def mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:
        """Do nothing: a folder is there when something is in it, and no bucket is made."""

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Do nothing, for the same reason."""

    def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        """Open a file; one that is written as text is dropped after an error, too."""
        if "b" not in mode and set(mode) & set("wx"):
            text = {name: options.pop(name) for name in ("encoding", "errors", "newline") if name in options}
            return _TextFile(super().open(path, mode.replace("t", "") + "b", **options), **text)
        return super().open(path, mode, **options)

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        **options: Any,
    ) -> OSSFile:
        if "a" in mode:
            raise NotImplementedError("a file in OSS can't be appended to; write a new one")
        self.split_path(path)
        return OSSFile(self, path, mode, block_size, autocommit, cache_options=cache_options, **options)

    def _entries(self, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
        from alibabacloud_oss_v2 import models

        token = None
        while True:
            request = models.ListObjectsV2Request(
                bucket, prefix=prefix, delimiter="/", max_keys=_PAGE, continuation_token=token
            )
            page: Any = self.client.call("list_objects_v2", request)
            for folder in page.common_prefixes or ():
                yield _folder(f"{bucket}/{folder.prefix.rstrip('/')}")
            for found in page.contents or ():
                if found.key != prefix:
                    yield _file(f"{bucket}/{found.key}", found.size, found.etag, found.last_modified)
            token = page.next_continuation_token
            if not page.is_truncated:
                return

    def split_path(self, path: str) -> tuple[str, str]:
        """Return bucket and key.

        :raises ValueError: without a bucket, and for a key that can't be asked for.
        """
        bucket, _, key = self._strip_protocol(path).partition("/")
        if not bucket:
            raise ValueError(f"{path!r} names no bucket: oss://bucket/key")
        if {".", ".."} & set(key.split("/")):
            raise ValueError(f"{path!r} has a part '.' or '..', which is taken out of an address on the way")
        return bucket, key


class OSSPath(UPath):
    """A path in OSS. Without a class of its own, each process warns that such paths may not be tested."""

    __slots__ = ()


# Paths are taken apart as the class says that is registered, and else as for another library's file system.
register_implementation("oss", OSSFileSystem, clobber=True)


class OSSFile(AbstractBufferedFile):  # type: ignore[misc]
    """A file in OSS that is read in ranges, or written whole."""

    DEFAULT_BLOCK_SIZE = _PART_BYTES

    _upload_id: str | None = None
    _parts: list[Any]
    _checksum: Any

    def __exit__(self, *error: object) -> None:
        if error[0] is not None and self.mode != "rb":
            self.discard()
        self.close()

    def __del__(self) -> None:
        if not self.closed and self.mode != "rb":  # nobody said that it is whole
            self.discard()

    def commit(self) -> None:
        """Make what was written appear."""
        from alibabacloud_oss_v2 import models

        bucket, key = self.fs.split_path(self.path)
        create = self.mode == "xb"
        if self._upload_id is None:
            mode = "create" if create else "overwrite"
            self.fs.pipe_file(self.path, self.buffer.getvalue(), mode=mode, **self.kwargs)
            return
        upload = models.CompleteMultipartUpload(self._parts)
        request = models.CompleteMultipartUploadRequest(
            bucket, key, upload_id=self._upload_id, complete_multipart_upload=upload
        )
        if create:
            request.forbid_overwrite = True
        try:
            self.fs.client.call("complete_multipart_upload", request)
        except FileNotFoundError:
            # An answer was lost, and the upload that it told of is complete: then the file is there.
            if self._remote_checksum() != str(self._checksum.sum64()):
                raise
        self._upload_id = None

    def discard(self) -> None:
        """Drop what was written; what is there stays as it is."""
        from alibabacloud_oss_v2 import models

        self.closed = True
        upload_id, self._upload_id = self._upload_id, None
        if upload_id is not None:
            bucket, key = self.fs.split_path(self.path)
            request = models.AbortMultipartUploadRequest(bucket, key, upload_id=upload_id)
            # Whoever drops it has an error to tell already. OSS keeps the parts, which a lifecycle rule can drop.
            with contextlib.suppress(OSError):
                self.fs.client.call("abort_multipart_upload", request)

    def _remote_checksum(self) -> str | None:
        from alibabacloud_oss_v2 import models

        found: Any = self.fs.client.call(
            "head_object", models.HeadObjectRequest(*self.fs.split_path(self.path))
        )
        return None if found.hash_crc64 is None else str(found.hash_crc64)

    def _fetch_range(self, start: int, end: int) -> bytes:
        content: bytes = self.fs.read_range(self.path, start, min(end, self.size), etag=self.details["ETag"])
        return content

    def _initiate_upload(self) -> None:
        from alibabacloud_oss_v2 import crc

        self._parts = []
        self._checksum = crc.Crc64(0)

    def _upload_chunk(self, final: bool = False) -> bool:
        from alibabacloud_oss_v2 import models

        bucket, key = self.fs.split_path(self.path)
        if self._upload_id is None and not final:
            begin = models.InitiateMultipartUploadRequest(bucket, key, **self.kwargs)
            self._upload_id = self.fs.client.call("initiate_multipart_upload", begin).upload_id
        content = self.buffer.getvalue()
        if self._upload_id is not None and content:
            number = len(self._parts) + 1
            part = models.UploadPartRequest(
                bucket, key, upload_id=self._upload_id, part_number=number, body=content
            )
            etag = self.fs.client.call("upload_part", part).etag
            self._checksum.write(content)
            self._parts.append(models.UploadPart(part_number=number, etag=etag))
        if final and self.autocommit:
            self.commit()
        return not final  # the buffer is kept for a commit that comes later


class _TextFile(io.TextIOWrapper):
    def __exit__(self, *error: Any) -> None:
        if error[0] is not None:
            self.buffer.discard()  # type: ignore[attr-defined]
        super().__exit__(*error)


def _read_body(result: Any) -> bytes:
    with result.body as body:
        content: bytes = body.read()
    return content


def _file(name: str, size: int, etag: str, modified: Any) -> dict[str, Any]:
    return {"name": name, "size": size, "type": "file", "ETag": etag, "LastModified": modified}


def _right_before(key: str) -> str:
    """Return a key behind which hardly any but this one comes first."""
    code = ord(key[-1]) - 1
    if code < 0:
        return key[:-1]
    return key[:-1] + (chr(code) if not 0xD800 <= code <= 0xDFFF else "\ud7ff") + "\U0010ffff"


def _folder(name: str) -> dict[str, Any]:
    return {"name": name, "size": 0, "type": "directory"}
