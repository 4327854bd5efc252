"""A local OSS: buckets and files behind the real service's HTTP interface, for tests and demos.

It checks signatures (V4 and V1, in headers) and takes what the official SDKs send: put, get with ranges, head,
delete, copy, listing (``list-type=2``) and multipart uploads; path style, and virtual-host style where the host
begins with a bucket's name. Sizes, ETags and CRC-64 are those of the real service, and so is what surprises: a range
that can't be served gives the whole file, unless the request asks for the standard behaviour.

What the service says is documented at https://www.alibabacloud.com/help/en/oss/developer-reference/.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import json
import re
import secrets
import socket
import struct
import threading
import time
from calendar import timegm
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from fnmatch import fnmatchcase
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape

from airflow_provider_ims.emulator.keys import DEFAULT_KEY, Key, read_key

FAULT_KINDS = {
    "delay": "the answer comes `seconds` late",
    "error": "HTTP `status` with the error code `code` instead of doing it",
    "reset": "the connection is reset before it is done",
    "reset_after": "the connection is reset after it was done",
    "late_listing": "listings show new files `seconds` late, from now on",
}

_POLYNOMIAL = 0xC96C5795D7870F42
_SKEW = 15 * 60
_MIN_PART = 100 * 1024

_SUBRESOURCES_V1 = {
    *("acl", "bucketInfo", "location", "stat", "delete", "append", "tagging", "objectMeta", "uploads"),
    *(
        "uploadId",
        "partNumber",
        "security-token",
        "position",
        "restore",
        "callback",
        "callback-var",
        "versions",
    ),
    *("versioning", "versionId", "sequential", "continuation-token", "symlink", "resourceGroup"),
    *("response-content-type", "response-content-language", "response-expires", "response-cache-control"),
    *("response-content-disposition", "response-content-encoding"),
}


@dataclass(frozen=True)
class StoredObject:
    """A file in a bucket.

    :param modified: seconds since the epoch.
    :param listed_from: listings show it from then on, seconds since the epoch.
    """

    content: bytes
    etag: str
    modified: float
    content_type: str = "application/octet-stream"
    listed_from: float = 0.0

    @cached_property
    def crc64(self) -> int:
        """The checksum that the service gives with each answer (CRC-64/XZ)."""
        return crc64(self.content)


@dataclass
class FaultRule:
    """Something that goes wrong.

    :param operation: such as ``PutObject``; None for all.
    :param every: strikes every n-th request that it looks at, after ``skip``, and at most ``times``.
    """

    kind: str
    operation: str | None = None
    every: int = 1
    skip: int = 0
    times: int | None = None
    seconds: float = 1.0
    status: int = 503
    code: str = "ServiceUnavailable"
    seen: int = 0
    struck: int = 0

    def strikes(self, operation: str) -> bool:
        """Count a request, and tell whether it meets the fault."""
        if self.operation not in (None, operation) or self.struck == self.times:
            return False
        self.seen += 1
        if self.seen <= self.skip or (self.seen - self.skip) % self.every:
            return False
        self.struck += 1
        return True


@dataclass
class _Upload:
    bucket: str
    key: str
    content_type: str
    parts: dict[int, tuple[str, bytes]] = field(default_factory=dict)


class Refusal(Exception):
    """An answer that is an error of the service."""

    def __init__(self, status: int, code: str, message: str, **fields: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.fields = fields


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
        self.uploads: dict[str, _Upload] = {}
        self.faults: list[FaultRule] = []
        self.requests: list[dict[str, Any]] = []
        self.listing_delay = 0.0
        self.left_behind: set[str] = set()
        self.elsewhere: dict[str, str] = {}
        self._server = _Server(("127.0.0.1", port), self)
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


def crc64(content: bytes) -> int:
    """Return the CRC-64/XZ of bytes; by the OSS SDK's own library where it is installed, which is faster."""
    try:
        make = import_module("crcmod").mkCrcFun
    except ImportError:
        value = 0xFFFFFFFFFFFFFFFF
        table = _crc_table()
        for byte in content:
            value = table[(value ^ byte) & 0xFF] ^ (value >> 8)
        return value ^ 0xFFFFFFFFFFFFFFFF
    return int(make(0x142F0E1EBA9EA3693, initCrc=0, xorOut=0xFFFFFFFFFFFFFFFF)(content))


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


def signature_v4(
    secret: str,
    *,
    scope: str,
    date: str,
    method: str,
    resource: str,
    query: str,
    headers: str,
    additional: str,
) -> str:
    """Sign a request as V4 does.

    :param scope: ``<day>/<region>/oss/aliyun_v4_request``.
    :param resource: ``/bucket/key``, not encoded; ``query`` and ``headers`` are canonical.
    """
    canonical = "\n".join(
        [method, quote(resource, safe="/~"), query, headers, additional, "UNSIGNED-PAYLOAD"]
    )
    to_sign = "\n".join(["OSS4-HMAC-SHA256", date, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"aliyun_v4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, to_sign.encode(), "sha256").hex()


def signature_v1(
    secret: str, *, method: str, md5: str, content_type: str, date: str, headers: str, resource: str
) -> str:
    """Sign a request as V1 does; ``resource`` is ``/bucket/key`` with the sub-resources of the query."""
    to_sign = f"{method}\n{md5}\n{content_type}\n{date}\n{headers}{resource}"
    return base64.b64encode(hmac.digest(secret.encode(), to_sign.encode(), "sha1")).decode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], oss: LocalOSS) -> None:
        self.oss = oss
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of callers that hang up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Write no access log."""

    def do_GET(self) -> None:
        self._answer()

    do_PUT = do_POST = do_HEAD = do_DELETE = do_GET

    def _answer(self) -> None:
        oss = self.server.oss
        self.request_id = secrets.token_hex(12).upper()
        self.body = self._read_body()
        parts = urlsplit(self.path)
        self.raw_query = parts.query
        self.query = dict(parse_qsl(parts.query, keep_blank_values=True))
        host = parts.netloc or self.headers.get("Host", "")
        self.bucket, self.key = _bucket_and_key(host, unquote(parts.path))
        operation, method = self._operation()
        key_id = ""
        rule: FaultRule | None = None
        status, headers, content = 500, dict[str, str](), b""
        try:
            with oss.lock:
                rule = next((rule for rule in oss.faults if rule.strikes(operation)), None)
            if rule and rule.kind == "reset":
                return self._hang_up()
            if rule and rule.kind == "delay":
                time.sleep(rule.seconds)
            key_id = self._check_signature(operation)
            if rule and rule.kind == "error":
                raise Refusal(rule.status, rule.code, "Please reduce your request rate.")
            with oss.lock:
                status, headers, content = method()
        except Refusal as refusal:
            status, headers, content = self._refusal(refusal)
        finally:
            oss.requests.append(
                {
                    "operation": operation,
                    "bucket": self.bucket,
                    "key": self.key,
                    "key_id": key_id,
                    "status": status,
                }
            )
        if rule and rule.kind == "reset_after":
            return self._hang_up()
        self._send(status, headers, content)
        return None

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _operation(self) -> tuple[str, Any]:
        if not self.bucket:
            return "ListBuckets", self._not_implemented
        if not self.key:
            if self.command == "GET" and self.query.get("list-type") == "2":
                return "ListObjects", self._list
            return "BucketOperation", self._not_implemented
        if "uploadId" in self.query:
            return {
                "PUT": ("UploadPart", self._upload_part),
                "POST": ("CompleteMultipartUpload", self._complete),
                "DELETE": ("AbortMultipartUpload", self._abort),
            }.get(self.command, ("ObjectOperation", self._not_implemented))
        if "uploads" in self.query:
            return "InitiateMultipartUpload", self._initiate
        if set(self.query) & _SUBRESOURCES_V1:
            return "ObjectOperation", self._not_implemented
        if self.command == "PUT" and self.headers.get("x-oss-copy-source"):
            return "CopyObject", self._copy
        return {
            "PUT": ("PutObject", self._put),
            "GET": ("GetObject", self._get),
            "HEAD": ("HeadObject", self._get),
            "DELETE": ("DeleteObject", self._delete),
        }.get(self.command, ("ObjectOperation", self._not_implemented))

    # Signatures and rights

    def _check_signature(self, operation: str) -> str:
        authorization = self.headers.get("Authorization", "")
        v4 = re.fullmatch(
            r"OSS4-HMAC-SHA256 Credential=([^,/]+)/([^,]+?)(?:, ?AdditionalHeaders=([^,]*))?, ?Signature=(\w+)",
            authorization,
        )
        v1 = re.fullmatch(r"OSS ([^:]+):(\S+)", authorization)
        if not v4 and not v1:
            raise Refusal(403, "AccessDenied", "Anonymous access is forbidden for this operation.")
        key_id = (v4 or v1)[1]  # type: ignore[index]
        with self.server.oss.lock:
            key = self.server.oss.keys.get(key_id)
        if key is None or not key.active:
            raise Refusal(
                403, "InvalidAccessKeyId", "The OSS Access Key Id you provided does not exist in our records."
            )
        if v4:
            self._check_date(self.headers.get("x-oss-date", ""), "%Y%m%dT%H%M%SZ")
            expected, given = self._sign_v4(key.secret, v4[2], v4[3] or ""), v4[4]
        else:
            self._check_date(self.headers.get("Date", ""), "%a, %d %b %Y %H:%M:%S GMT")
            expected, given = self._sign_v1(key.secret), v1[2]  # type: ignore[index]
        if not hmac.compare_digest(expected, given):
            raise Refusal(
                403,
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match the signature you provided. Check your key and "
                "signing method.",
            )
        token = self.headers.get("x-oss-security-token") or self.headers.get("security-token")
        if token != key.security_token:
            raise Refusal(403, "InvalidSecurityToken", "The security token you provided is invalid.")
        if key.expires is not None and key.expires <= time.time():
            raise Refusal(403, "SecurityTokenExpired", "The security token you provided has expired.")
        self._check_right(key, operation)
        return key_id

    def _check_date(self, text: str, form: str) -> None:
        try:
            sent = timegm(time.strptime(text, form))
        except ValueError:
            raise Refusal(403, "AccessDenied", "OSS authentication requires a valid Date.") from None
        if abs(time.time() - sent) > _SKEW:
            raise Refusal(
                403,
                "RequestTimeTooSkewed",
                "The difference between the request time and the current time is too large.",
            )

    def _check_right(self, key: Key, operation: str) -> None:
        right = {
            "HeadObject": "GetObject",
            "InitiateMultipartUpload": "PutObject",
            "UploadPart": "PutObject",
            "CompleteMultipartUpload": "PutObject",
            "CopyObject": "PutObject",
        }.get(operation, operation)
        if not any(fnmatchcase(f"oss:{right}", pattern) for pattern in key.actions):
            raise Refusal(
                403, "AccessDenied", "You have no right to access this object because of bucket acl."
            )

    def _sign_v4(self, secret: str, scope: str, additional: str) -> str:
        day, region, product, _ = (*scope.split("/"), "", "", "")[:4]
        if (region, product) != (self.server.oss.region, "oss") or not self.headers["x-oss-date"].startswith(
            day
        ):
            raise Refusal(
                400, "InvalidArgument", f"Invalid signing region in Authorization header: {region or 'none'}."
            )
        signed = {name for name in additional.lower().split(";") if name}
        pairs = (pair.partition("=") for pair in self.raw_query.split("&") if pair)
        ordered = sorted((name, value) for name, _, value in pairs)
        query = "&".join(f"{name}={value}" if value else name for name, value in ordered)
        headers = "".join(
            f"{name}:{value.strip()}\n"
            for name, value in sorted((name.lower(), value) for name, value in self.headers.items())
            if name.startswith("x-oss-") or name in ("content-type", "content-md5") or name in signed
        )
        return signature_v4(
            secret,
            scope=scope,
            date=self.headers["x-oss-date"],
            method=self.command,
            resource=f"/{self.bucket}/{self.key}" if self.bucket else "/",
            query=query,
            headers=headers,
            additional=additional,
        )

    def _sign_v1(self, secret: str) -> str:
        headers = "".join(
            f"{name}:{value.strip()}\n"
            for name, value in sorted((name.lower(), value) for name, value in self.headers.items())
            if name.startswith("x-oss-")
        )
        signed = sorted((name, value) for name, value in self.query.items() if name in _SUBRESOURCES_V1)
        query = "&".join(f"{name}={value}" if value else name for name, value in signed)
        return signature_v1(
            secret,
            method=self.command,
            md5=self.headers.get("Content-MD5", ""),
            content_type=self.headers.get("Content-Type", ""),
            date=self.headers.get("x-oss-date") or self.headers.get("Date") or "",
            headers=headers,
            resource=f"/{self.bucket}/{self.key}" + (f"?{query}" if query else ""),
        )

    # Operations; each is called under the lock, and returns status, headers and body

    def _not_implemented(self) -> tuple[int, dict[str, str], bytes]:
        raise Refusal(501, "NotImplemented", "The local OSS does not know this operation.")

    def _objects(self) -> dict[str, StoredObject]:
        if endpoint := self.server.oss.elsewhere.get(self.bucket):
            raise Refusal(
                403,
                "AccessDenied",
                "The bucket you are attempting to access must be addressed using the specified endpoint. "
                "Please send all future requests to this endpoint.",
                Endpoint=endpoint,
                Bucket=self.bucket,
            )
        objects = self.server.oss.buckets.get(self.bucket)
        if objects is None:
            raise Refusal(404, "NoSuchBucket", "The specified bucket does not exist.", BucketName=self.bucket)
        return objects

    def _put(self) -> tuple[int, dict[str, str], bytes]:
        self._refuse_overwriting(self._objects())
        given = self.headers.get("Content-MD5")
        if (
            given
            and base64.b64encode(hashlib.md5(self.body, usedforsecurity=False).digest()).decode() != given
        ):
            raise Refusal(400, "InvalidDigest", "The Content-MD5 you specified is not valid.")
        stored = self.server.oss.store(self.bucket, self.key, self.body, self._content_type())
        return 200, _checksums(stored), b""

    def _get(self) -> tuple[int, dict[str, str], bytes]:
        stored = self._objects().get(self.key)
        if stored is None:
            raise Refusal(404, "NoSuchKey", "The specified key does not exist.", Key=self.key)
        wanted = self.headers.get("If-Match")
        if wanted and wanted != stored.etag:
            raise Refusal(412, "PreconditionFailed", "At least one of the preconditions does not hold.")
        headers = {
            **_checksums(stored),
            "Content-Type": stored.content_type,
            "Last-Modified": formatdate(stored.modified, usegmt=True),
            "Accept-Ranges": "bytes",
            "x-oss-object-type": "Normal",
        }
        size = len(stored.content)
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if not asked or not (asked[1] or asked[2]):
            return 200, headers, stored.content
        first = int(asked[1]) if asked[1] else max(0, size - int(asked[2]))
        last = int(asked[2]) if asked[1] and asked[2] else size - 1
        if first > last or last >= size:
            if self.headers.get("x-oss-range-behavior") != "standard":
                return 200, headers, stored.content
            if first >= size:
                raise Refusal(416, "InvalidRange", "The requested range cannot be satisfied.")
        last = min(last, size - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        return 206, headers, stored.content[first : last + 1]

    def _delete(self) -> tuple[int, dict[str, str], bytes]:
        self._objects().pop(self.key, None)
        return 204, {}, b""

    def _copy(self) -> tuple[int, dict[str, str], bytes]:
        objects = self._objects()
        bucket, _, key = unquote(self.headers["x-oss-copy-source"]).lstrip("/").partition("/")
        source = self.server.oss.buckets.get(bucket, {}).get(key)
        if source is None:
            raise Refusal(404, "NoSuchKey", "The specified key does not exist.", Key=key)
        objects[self.key] = stored = replace(source, modified=time.time())
        return 200, {}, _xml("CopyObjectResult", LastModified=_iso(stored.modified), ETag=stored.etag)

    def _list(self) -> tuple[int, dict[str, str], bytes]:
        objects = self._objects()
        prefix, delimiter = self.query.get("prefix", ""), self.query.get("delimiter", "")
        after = self.query.get("start-after", "")
        if token := self.query.get("continuation-token"):
            after = base64.urlsafe_b64decode(token).decode()
        limit = int(self.query.get("max-keys", 100))
        encode = quote if self.query.get("encoding-type") == "url" else escape
        now = time.time()
        entries: dict[str, str] = {}
        truncated = False
        for key in sorted(key for key, found in objects.items() if found.listed_from <= now):
            if not key.startswith(prefix):
                continue
            rest = key[len(prefix) :]
            folded = bool(delimiter) and delimiter in rest
            name = prefix + rest.partition(delimiter)[0] + delimiter if folded else key
            if name <= after or name in entries or (folded and after.startswith(name)):
                continue
            if len(entries) == limit:
                truncated = True
                break
            if folded:
                entries[name] = f"<CommonPrefixes><Prefix>{encode(name)}</Prefix></CommonPrefixes>"
            else:
                found = objects[key]
                entries[name] = (
                    f"<Contents><Key>{encode(key)}</Key><LastModified>{_iso(found.modified)}</LastModified>"
                    f"<ETag>{escape(found.etag)}</ETag><Type>Normal</Type><Size>{len(found.content)}</Size>"
                    f"<StorageClass>Standard</StorageClass></Contents>"
                )
        answer = f"<Name>{self.bucket}</Name><Prefix>{encode(prefix)}</Prefix><MaxKeys>{limit}</MaxKeys>"
        answer += f"<Delimiter>{encode(delimiter)}</Delimiter><KeyCount>{len(entries)}</KeyCount>"
        if self.query.get("encoding-type") == "url":
            answer += "<EncodingType>url</EncodingType>"
        answer += f"<IsTruncated>{str(truncated).lower()}</IsTruncated>"
        if truncated:
            token = base64.urlsafe_b64encode(max(entries).encode()).decode()
            answer += f"<NextContinuationToken>{token}</NextContinuationToken>"
        answer += "".join(entries.values())
        return 200, {}, f"{_XML}<ListBucketResult>{answer}</ListBucketResult>".encode()

    def _initiate(self) -> tuple[int, dict[str, str], bytes]:
        self._objects()
        upload_id = secrets.token_hex(16).upper()
        self.server.oss.uploads[upload_id] = _Upload(self.bucket, self.key, self._content_type())
        return 200, {}, _xml(
            "InitiateMultipartUploadResult", Bucket=self.bucket, Key=quote(self.key), UploadId=upload_id,
            EncodingType="url",
        )  # fmt: skip

    def _upload(self) -> _Upload:
        self._objects()
        upload = self.server.oss.uploads.get(self.query["uploadId"])
        if upload is None or (upload.bucket, upload.key) != (self.bucket, self.key):
            raise Refusal(404, "NoSuchUpload", "The specified upload does not exist.")
        return upload

    def _upload_part(self) -> tuple[int, dict[str, str], bytes]:
        etag = f'"{hashlib.md5(self.body, usedforsecurity=False).hexdigest().upper()}"'
        self._upload().parts[int(self.query["partNumber"])] = etag, self.body
        return 200, {"ETag": etag, "x-oss-hash-crc64ecma": str(crc64(self.body))}, b""

    def _complete(self) -> tuple[int, dict[str, str], bytes]:
        upload = self._upload()
        self._refuse_overwriting(self._objects())
        text = self.body.decode()
        numbers = [int(number) for number in re.findall(r"<PartNumber>(\d+)</PartNumber>", text)]
        etags = [etag.strip('"') for etag in re.findall(r"<ETag>(?:&quot;)?(.*?)(?:&quot;)?</ETag>", text)]
        if numbers != sorted(numbers) or not numbers:
            raise Refusal(400, "InvalidPartOrder", "The list of parts was not in ascending order.")
        for number, etag in zip(numbers, etags, strict=True):
            if number not in upload.parts or upload.parts[number][0].strip('"') != etag:
                raise Refusal(400, "InvalidPart", "One or more of the specified parts could not be found.")
        if any(len(upload.parts[number][1]) < _MIN_PART for number in numbers[:-1]):
            raise Refusal(
                400, "EntityTooSmall", "Your proposed upload smaller than the minimum allowed size."
            )
        content = b"".join(upload.parts[number][1] for number in numbers)
        digest = hashlib.md5("".join(etags).encode(), usedforsecurity=False).hexdigest().upper()
        stored = self.server.oss.store(
            self.bucket, self.key, content, upload.content_type, f'"{digest}-{len(numbers)}"'
        )
        del self.server.oss.uploads[self.query["uploadId"]]
        return 200, {"x-oss-hash-crc64ecma": str(stored.crc64)}, _xml(
            "CompleteMultipartUploadResult", Bucket=self.bucket, Key=quote(self.key), ETag=stored.etag,
            EncodingType="url",
        )  # fmt: skip

    def _abort(self) -> tuple[int, dict[str, str], bytes]:
        self._upload()
        del self.server.oss.uploads[self.query["uploadId"]]
        return 204, {}, b""

    def _refuse_overwriting(self, objects: Mapping[str, StoredObject]) -> None:
        if self.headers.get("x-oss-forbid-overwrite", "").lower() == "true" and self.key in objects:
            raise Refusal(409, "FileAlreadyExists", "The object you specified already exists.")

    def _content_type(self) -> str:
        return self.headers.get("Content-Type") or "application/octet-stream"

    # Answers

    def _refusal(self, refusal: Refusal) -> tuple[int, dict[str, str], bytes]:
        content = _xml(
            "Error",
            Code=refusal.code,
            Message=refusal.message,
            RequestId=self.request_id,
            HostId=self.headers.get("Host", ""),
            **refusal.fields,
        )
        headers = {}
        if self.command == "HEAD":
            headers = {"x-oss-err": base64.b64encode(content).decode()}
        return refusal.status, headers, content

    def _send(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        self.send_response(status)
        self.send_header("x-oss-request-id", self.request_id)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Type" not in headers and content:
            self.send_header("Content-Type", "application/xml")
        if status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for side in (self.wfile, self.rfile, self.connection):
            side.close()


_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'


def _bucket_and_key(host: str, path: str) -> tuple[str, str]:
    """Find the bucket in the host's name, or, where that is a number, at the beginning of the path."""
    name = host.rpartition(":")[0] or host
    path = path[1:] if path.startswith("/") else path
    try:
        ipaddress.ip_address(name)
    except ValueError:
        first, dot, _ = name.partition(".")
        if dot and not first.startswith("oss-"):
            return first, path
    bucket, _, key = path.partition("/")
    return bucket, key


def _checksums(stored: StoredObject) -> dict[str, str]:
    return {"ETag": stored.etag, "x-oss-hash-crc64ecma": str(stored.crc64)}


def _xml(root: str, **fields: str) -> bytes:
    inner = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in fields.items())
    return f"{_XML}<{root}>{inner}</{root}>".encode()


def _iso(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(moment))
