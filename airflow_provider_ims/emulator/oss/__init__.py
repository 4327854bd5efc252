"""A local OSS: buckets and files behind the real service's HTTP interface, for tests and demos.

It checks signatures (V4 and V1, in headers) and takes what the official SDKs send: put, get with ranges, head,
delete, copy, listing (``list-type=2``) and multipart uploads; path style, and virtual-host style where the host
begins with a bucket's name. Sizes, ETags and CRC-64 are those of the real service, and so is what surprises: a range
that can't be served gives the whole file, unless the request asks for the standard behaviour.

What the service says is documented at https://www.alibabacloud.com/help/en/oss/developer-reference/.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from airflow_provider_ims.emulator.keys import DEFAULT_KEY, read_key
from airflow_provider_ims.emulator.oss.faults import FAULT_KINDS, FaultRule
from airflow_provider_ims.emulator.oss.files import StoredObject, Upload
from airflow_provider_ims.emulator.oss.http_server import OSSServer

__all__ = ["FAULT_KINDS", "LocalOSS"]


class LocalOSS:
    """A local OSS as long as the ``with`` block, in threads of this process.

    :param buckets: that are there at the start; one more is made by :meth:`make_bucket` alone.
    :param region: the region that signatures must name.
    :param port: where it listens; 0 for a free port.
    """

    access_key_id = DEFAULT_KEY.key_id
    access_key_secret = DEFAULT_KEY.secret

    def __init__(self, *buckets: str, region: str = "cn-shanghai", port: int = 0) -> None:
        self.region = region
        self.lock = threading.RLock()
        self.keys = {DEFAULT_KEY.key_id: DEFAULT_KEY}
        self.buckets: dict[str, dict[str, StoredObject]] = {bucket: {} for bucket in buckets}
        self.uploads: dict[str, Upload] = {}
        self.faults: list[FaultRule] = []
        self.requests: list[dict[str, Any]] = []
        self.listing_delay = 0.0
        self.left_behind: set[str] = set()
        self.elsewhere: dict[str, str] = {}
        self._server = OSSServer(("127.0.0.1", port), self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def endpoint(self) -> str:
        """The address, for a connection's ``oss_endpoint``."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """End; answers under way are left to themselves."""
        self._server.shutdown()
        self._server.server_close()

    def airflow_connection(self, *, extra: Mapping[str, Any] | None = None, **fields: Any) -> str:
        """Write an Airflow connection whose ``oss://`` paths lead here, in the JSON form of ``AIRFLOW_CONN_<ID>``."""
        connection = {
            "conn_type": "alibaba_ims",
            "login": self.access_key_id,
            "password": self.access_key_secret,
            **fields,
            "extra": {"region": self.region, "oss_endpoint": self.endpoint, **(extra or {})},
        }
        return json.dumps(connection)

    def make_bucket(self, bucket: str) -> None:
        """Make a bucket, if it is not there."""
        with self.lock:
            self.buckets.setdefault(bucket, {})

    def make_bucket_elsewhere(self, bucket: str, endpoint: str) -> None:
        """Let a bucket be in another region, whose endpoint requests are told to go to."""
        with self.lock:
            self.elsewhere[bucket] = endpoint

    def put(self, bucket: str, key: str, content: bytes = b"") -> None:
        """Put a file into a bucket, which is made."""
        with self.lock:
            self.make_bucket(bucket)
            self.store(bucket, key, content, "application/octet-stream")

    def get(self, bucket: str, key: str) -> bytes:
        """Return a file.

        :raises KeyError: if it is not there.
        """
        with self.lock:
            return self.buckets[bucket][key].content

    def remove(self, bucket: str, key: str) -> None:
        """Take a file out, if it is there."""
        with self.lock:
            self.buckets.get(bucket, {}).pop(key, None)

    def leave_files(self, buckets: Iterable[str]) -> None:
        """Let the service delete no files in some buckets, as where its role lacks the right."""
        with self.lock:
            self.left_behind = set(buckets)

    def put_for_service(self, bucket: str, key: str, content: bytes, *, replace: bool) -> None:
        """Put a file as the service's jobs do, into a bucket, which is made.

        :param replace: whether it may take the place of one that is there.
        """
        with self.lock:
            if replace or key not in self.buckets.get(bucket, {}):
                self.put(bucket, key, content)

    def remove_for_service(self, bucket: str, key: str) -> None:
        """Take a file out as the service does when media are deleted together with their files."""
        if bucket not in self.left_behind:
            self.remove(bucket, key)

    def names(self, bucket: str, prefix: str = "") -> list[str]:
        """Return the keys of a bucket that begin with something, sorted."""
        with self.lock:
            return sorted(key for key in self.buckets[bucket] if key.startswith(prefix))

    def add_key(self, key_id: str, secret: str, **fields: Any) -> None:
        """Add or replace an AccessKey, as the emulator's ``POST /keys`` takes it.

        :param fields: ``actions`` such as ``["oss:Get*"]``, ``security_token``, ``expires_in``, ``status``.
        """
        with self.lock:
            self.keys[key_id] = read_key({"key_id": key_id, "secret": secret, **fields})

    def add_fault(self, kind: str, **fields: Any) -> None:
        """Let something go wrong, as :class:`FaultRule` says.

        :raises ValueError: for a kind that is not known.
        """
        if kind not in FAULT_KINDS:
            raise ValueError(f"no fault {kind!r}; known are {', '.join(FAULT_KINDS)}")
        rule = FaultRule(kind, **fields)
        with self.lock:
            if kind == "late_listing":
                self.listing_delay = rule.seconds
            else:
                self.faults.append(rule)

    def drop_faults(self) -> None:
        """Let everything go right again."""
        with self.lock:
            self.faults.clear()
            self.listing_delay = 0.0

    def reset(self) -> None:
        """Forget files, uploads, faults, requests and all keys but the first; buckets stay, empty."""
        with self.lock:
            self.buckets = {bucket: {} for bucket in self.buckets}
            self.keys = {DEFAULT_KEY.key_id: DEFAULT_KEY}
            self.uploads.clear()
            self.requests.clear()
            self.left_behind.clear()
            self.elsewhere.clear()
            self.drop_faults()

    def store(self, bucket: str, key: str, content: bytes, content_type: str, etag: str = "") -> StoredObject:
        """Put a file as the service does, visible to listings after ``listing_delay`` seconds."""
        now = time.time()
        stored = StoredObject(
            content,
            etag or f'"{hashlib.md5(content, usedforsecurity=False).hexdigest().upper()}"',
            now,
            content_type,
            now + self.listing_delay,
        )
        self.buckets[bucket][key] = stored
        return stored
