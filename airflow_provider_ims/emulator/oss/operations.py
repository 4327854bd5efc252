"""What a local OSS does with files, in the answers of the real service."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from email.utils import formatdate
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from airflow_provider_ims.emulator.oss.files import StoredObject, Upload, crc64
from airflow_provider_ims.emulator.oss.request import Refusal, Request
from airflow_provider_ims.emulator.oss.signing import SUBRESOURCES_V1

if TYPE_CHECKING:
    from airflow_provider_ims.emulator.oss import LocalOSS

Answer = tuple[int, dict[str, str], bytes]
"""Status, headers and body."""

XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
_MIN_PART = 100 * 1024
"""Bytes of each part of a multipart upload but the last, at least."""
_MAX_DELETED = 1000
"""Files that one request deletes at most."""


class Operation:
    """What one request asks for."""

    def __init__(self, oss: LocalOSS, request: Request) -> None:
        self.oss = oss
        self.request = request

    def find(self) -> tuple[str, Callable[[], Answer]]:
        """Return the operation's name and what carries it out, which is called under the lock."""
        if not self.request.bucket:
            return "ListBuckets", self._not_implemented
        if not self.request.key:
            if self.request.method == "GET" and self.request.query.get("list-type") == "2":
                return "ListObjects", self._list
            if self.request.method == "POST" and "delete" in self.request.query:
                return "DeleteMultipleObjects", self._delete_multiple
            return "BucketOperation", self._not_implemented
        if "uploadId" in self.request.query:
            return {
                "PUT": ("UploadPart", self._upload_part),
                "POST": ("CompleteMultipartUpload", self._complete),
                "DELETE": ("AbortMultipartUpload", self._abort),
            }.get(self.request.method, ("ObjectOperation", self._not_implemented))
        if "uploads" in self.request.query:
            return "InitiateMultipartUpload", self._initiate
        if set(self.request.query) & SUBRESOURCES_V1:
            return "ObjectOperation", self._not_implemented
        if self.request.method == "PUT" and self.request.headers.get("x-oss-copy-source"):
            return "CopyObject", self._copy
        return {
            "PUT": ("PutObject", self._put),
            "GET": ("GetObject", self._get),
            "HEAD": ("HeadObject", self._get),
            "DELETE": ("DeleteObject", self._delete),
        }.get(self.request.method, ("ObjectOperation", self._not_implemented))

    def _not_implemented(self) -> Answer:
        raise Refusal(501, "NotImplemented", "The local OSS does not know this operation.")

    def _objects(self) -> dict[str, StoredObject]:
        if endpoint := self.oss.elsewhere.get(self.request.bucket):
            raise Refusal(
                403,
                "AccessDenied",
                "The bucket you are attempting to access must be addressed using the specified endpoint. "
                "Please send all future requests to this endpoint.",
                Endpoint=endpoint,
                Bucket=self.request.bucket,
            )
        objects = self.oss.buckets.get(self.request.bucket)
        if objects is None:
            raise Refusal(
                404, "NoSuchBucket", "The specified bucket does not exist.", BucketName=self.request.bucket
            )
        return objects

    def _put(self) -> Answer:
        self._refuse_overwriting(self._objects())
        self._check_digest()
        stored = self.oss.store(
            self.request.bucket, self.request.key, self.request.body, self._content_type()
        )
        return 200, _checksums(stored), b""

    def _get(self) -> Answer:
        stored = self._objects().get(self.request.key)
        if stored is None:
            raise Refusal(404, "NoSuchKey", "The specified key does not exist.", Key=self.request.key)
        wanted = self.request.headers.get("If-Match")
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
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.request.headers.get("Range", ""))
        if not asked or not (asked[1] or asked[2]):
            return 200, headers, stored.content
        first = int(asked[1]) if asked[1] else max(0, size - int(asked[2]))
        last = int(asked[2]) if asked[1] and asked[2] else size - 1
        if first > last or last >= size:
            if self.request.headers.get("x-oss-range-behavior") != "standard":
                return 200, headers, stored.content
            if first >= size:
                raise Refusal(416, "InvalidRange", "The requested range cannot be satisfied.")
        last = min(last, size - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        return 206, headers, stored.content[first : last + 1]

    def _delete(self) -> Answer:
        self._objects().pop(self.request.key, None)
        return 204, {}, b""

    def _delete_multiple(self) -> Answer:
        objects = self._objects()
        self._check_digest(required=True)
        try:
            asked = ElementTree.fromstring(self.request.body)
        except ElementTree.ParseError:
            raise Refusal(400, "MalformedXML", "The XML you provided was not well-formed.") from None
        keys = [key.text or "" for key in asked.iterfind("Object/Key")]
        if not 1 <= len(keys) <= _MAX_DELETED:
            raise Refusal(400, "MalformedXML", "The XML you provided did not validate.")
        encode = quote if self.request.query.get("encoding-type") == "url" else escape
        for key in keys:
            objects.pop(key, None)
        if asked.findtext("Quiet") == "true":
            return 200, {}, b""
        answer = "".join(f"<Deleted><Key>{encode(key)}</Key></Deleted>" for key in keys)
        if encode is quote:
            answer = f"<EncodingType>url</EncodingType>{answer}"
        return 200, {}, f"{XML}<DeleteResult>{answer}</DeleteResult>".encode()

    def _copy(self) -> Answer:
        objects = self._objects()
        bucket, _, key = unquote(self.request.headers["x-oss-copy-source"]).lstrip("/").partition("/")
        source = self.oss.buckets.get(bucket, {}).get(key)
        if source is None:
            raise Refusal(404, "NoSuchKey", "The specified key does not exist.", Key=key)
        objects[self.request.key] = stored = replace(source, modified=time.time())
        return 200, {}, xml("CopyObjectResult", LastModified=_iso(stored.modified), ETag=stored.etag)

    def _list(self) -> Answer:
        objects = self._objects()
        prefix, delimiter = self.request.query.get("prefix", ""), self.request.query.get("delimiter", "")
        after = self.request.query.get("start-after", "")
        if token := self.request.query.get("continuation-token"):
            after = base64.urlsafe_b64decode(token).decode()
        limit = int(self.request.query.get("max-keys", 100))
        encode = quote if self.request.query.get("encoding-type") == "url" else escape
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
        answer = (
            f"<Name>{self.request.bucket}</Name><Prefix>{encode(prefix)}</Prefix><MaxKeys>{limit}</MaxKeys>"
        )
        answer += f"<Delimiter>{encode(delimiter)}</Delimiter><KeyCount>{len(entries)}</KeyCount>"
        if self.request.query.get("encoding-type") == "url":
            answer += "<EncodingType>url</EncodingType>"
        answer += f"<IsTruncated>{str(truncated).lower()}</IsTruncated>"
        if truncated:
            token = base64.urlsafe_b64encode(max(entries).encode()).decode()
            answer += f"<NextContinuationToken>{token}</NextContinuationToken>"
        answer += "".join(entries.values())
        return 200, {}, f"{XML}<ListBucketResult>{answer}</ListBucketResult>".encode()

    def _initiate(self) -> Answer:
        self._objects()
        upload_id = secrets.token_hex(16).upper()
        self.oss.uploads[upload_id] = Upload(self.request.bucket, self.request.key, self._content_type())
        return (
            200,
            {},
            xml(
                "InitiateMultipartUploadResult",
                Bucket=self.request.bucket,
                Key=quote(self.request.key),
                UploadId=upload_id,
                EncodingType="url",
            ),
        )

    def _upload(self) -> Upload:
        self._objects()
        upload = self.oss.uploads.get(self.request.query["uploadId"])
        if upload is None or (upload.bucket, upload.key) != (self.request.bucket, self.request.key):
            raise Refusal(404, "NoSuchUpload", "The specified upload does not exist.")
        return upload

    def _upload_part(self) -> Answer:
        etag = f'"{hashlib.md5(self.request.body, usedforsecurity=False).hexdigest().upper()}"'
        self._upload().parts[int(self.request.query["partNumber"])] = etag, self.request.body
        return 200, {"ETag": etag, "x-oss-hash-crc64ecma": str(crc64(self.request.body))}, b""

    def _complete(self) -> Answer:
        upload = self._upload()
        self._refuse_overwriting(self._objects())
        text = self.request.body.decode()
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
        stored = self.oss.store(
            self.request.bucket, self.request.key, content, upload.content_type, f'"{digest}-{len(numbers)}"'
        )
        del self.oss.uploads[self.request.query["uploadId"]]
        return (
            200,
            {"x-oss-hash-crc64ecma": str(stored.crc64)},
            xml(
                "CompleteMultipartUploadResult",
                Bucket=self.request.bucket,
                Key=quote(self.request.key),
                ETag=stored.etag,
                EncodingType="url",
            ),
        )

    def _abort(self) -> Answer:
        self._upload()
        del self.oss.uploads[self.request.query["uploadId"]]
        return 204, {}, b""

    def _refuse_overwriting(self, objects: Mapping[str, StoredObject]) -> None:
        if (
            self.request.headers.get("x-oss-forbid-overwrite", "").lower() == "true"
            and self.request.key in objects
        ):
            raise Refusal(409, "FileAlreadyExists", "The object you specified already exists.")

    def _check_digest(self, *, required: bool = False) -> None:
        given = self.request.headers.get("Content-MD5")
        if given is None and required:
            raise Refusal(400, "MissingArgument", "Missing Some Required Arguments.")
        digest = hashlib.md5(self.request.body, usedforsecurity=False).digest()
        if given and base64.b64encode(digest).decode() != given:
            raise Refusal(400, "InvalidDigest", "The Content-MD5 you specified is not valid.")

    def _content_type(self) -> str:
        return self.request.headers.get("Content-Type") or "application/octet-stream"


def _checksums(stored: StoredObject) -> dict[str, str]:
    return {"ETag": stored.etag, "x-oss-hash-crc64ecma": str(stored.crc64)}


def xml(root: str, **fields: str) -> bytes:
    """Write an element with a text in each of its own."""
    inner = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in fields.items())
    return f"{XML}<{root}>{inner}</{root}>".encode()


def _iso(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(moment))
