"""The HTTP side of a local OSS: reads requests, holds them against keys and faults, and sends what it has to say."""

from __future__ import annotations

import base64
import secrets
import socket
import struct
import time
from collections.abc import Mapping
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from airflow_provider_ims.emulator.keys import Key
from airflow_provider_ims.emulator.oss.faults import FaultRule
from airflow_provider_ims.emulator.oss.operations import Answer, Operation, xml
from airflow_provider_ims.emulator.oss.request import Refusal, Request
from airflow_provider_ims.emulator.oss.signing import check

if TYPE_CHECKING:
    from airflow_provider_ims.emulator.oss import LocalOSS


class OSSServer(ThreadingHTTPServer):
    """Listens for a local OSS, a thread a connection."""

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
    server: OSSServer

    def log_message(self, format: str, *args: Any) -> None:
        """Write no access log."""

    def do_GET(self) -> None:
        self._answer()

    do_PUT = do_POST = do_HEAD = do_DELETE = do_GET

    def _answer(self) -> None:
        oss = self.server.oss
        self.request_id = secrets.token_hex(12).upper()
        request = Request(self.command, self.path, self.headers, self._read_body())
        operation, carry_out = Operation(oss, request).find()
        key_id = ""
        rule: FaultRule | None = None
        status, headers, content = 500, dict[str, str](), b""
        try:
            with oss.lock:
                rule = next((rule for rule in oss.faults if rule.strikes(operation)), None)
                keys = dict(oss.keys)
            if rule and rule.kind == "reset":
                return self._hang_up()
            if rule and rule.kind == "delay":
                time.sleep(rule.seconds)
            key = check(request, keys, oss.region)
            _check_right(key, operation)
            key_id = key.key_id
            if rule and rule.kind == "error":
                raise Refusal(rule.status, rule.code, "Please reduce your request rate.")
            with oss.lock:
                status, headers, content = carry_out()
        except Refusal as refusal:
            status, headers, content = self._refusal(refusal)
        finally:
            oss.requests.append(
                {
                    "operation": operation,
                    "bucket": request.bucket,
                    "key": request.key,
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

    def _refusal(self, refusal: Refusal) -> Answer:
        content = xml(
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


def _check_right(key: Key, operation: str) -> None:
    right = {
        "HeadObject": "GetObject",
        "InitiateMultipartUpload": "PutObject",
        "UploadPart": "PutObject",
        "CompleteMultipartUpload": "PutObject",
        "CopyObject": "PutObject",
        "DeleteMultipleObjects": "DeleteObject",
    }.get(operation, operation)
    if not any(fnmatchcase(f"oss:{right}", pattern) for pattern in key.actions):
        raise Refusal(403, "AccessDenied", "You have no right to access this object because of bucket acl.")
