"""Where credentials come from, on this machine: a credentials URI, STS, the metadata of an ECS instance.

Each hands out a fresh temporary key, which the emulated IMS knows from then on and takes as long as it lives.
STS checks what it is asked with as the real one does; it shares no code with what asks it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import itertools
import json
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from airflow_provider_ims.emulator import Emulator

ROLE_ARN = "acs:ram::1234567890123456:role/media"
OIDC_PROVIDER_ARN = "acs:ram::1234567890123456:oidc-provider/cluster"
OIDC_TOKEN = "oidc.token.of-the-pod"
USER = ("LTAIuserOfTheRole", "secret-of-the-user-of-the-role")


@dataclass
class Issuer:
    """Makes temporary keys.

    :param lifetime: seconds until IMS refuses one.
    :param told: seconds until it expires according to what comes with it.
    """

    emulator: Emulator
    lifetime: float = 3600
    told: float = 3600
    issued: list[dict[str, str]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def issue(self) -> dict[str, str]:
        key = {
            # IMS and OSS may ask at the same time, each for itself.
            "AccessKeyId": f"STS.temporary{next(self._numbers)}",
            "AccessKeySecret": secrets.token_urlsafe(20),
            "SecurityToken": secrets.token_urlsafe(40),
            "Expiration": (datetime.now(UTC) + timedelta(seconds=self.told)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        self.emulator.add_key(
            key["AccessKeyId"],
            key["AccessKeySecret"],
            security_token=key["SecurityToken"],
            expires_in=self.lifetime,
        )
        self.issued.append(key)
        return key


class LocalService:
    """An HTTP(S) server on loopback.

    :param answer: gives status and body for method, target and headers.
    """

    def __init__(
        self,
        answer: Callable[[str, str, dict[str, str]], tuple[int, Any]],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.peers: set[tuple[str, int]] = set()
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                service.asked.append((self.command, self.path, headers))
                service.peers.add(self.client_address)
                status, body = answer(self.command, self.path, headers)
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                if status in (301, 302, 307):
                    self.send_header("Location", content.decode())
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_CONNECT = handle_one

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if tls:
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.url = f"{'https' if tls else 'http'}://{self.host}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def credentials_uri(issuer: Issuer) -> Callable[[str, str, dict[str, str]], tuple[int, Any]]:
    """Answers as a credentials URI does."""
    return lambda *_: (200, {"Code": "Success", **issuer.issue()})


def sts(issuer: Issuer) -> Callable[[str, str, dict[str, str]], tuple[int, Any]]:
    """Answers ``AssumeRole``, signed with version 1 by :data:`USER`, and ``AssumeRoleWithOIDC``."""

    def answer(method: str, target: str, _: dict[str, str]) -> tuple[int, Any]:
        query = dict(parse_qsl(urlsplit(target).query, keep_blank_values=True))
        if refused := _refusal(method, query):
            status, code = refused
            # The real one repeats what was signed with here, too.
            message = f"Specified request is refused. server string to sign is: {target}"
            return status, {"RequestId": "R", "Code": code, "Message": message}
        return 200, {"RequestId": "R", "Credentials": issuer.issue()}

    return answer


def _refusal(method: str, query: dict[str, str]) -> tuple[int, str] | None:
    if query.get("RoleArn") != ROLE_ARN:
        return 404, "EntityNotExist.Role"
    if query["Action"] == "AssumeRoleWithOIDC":
        if query.get("OIDCProviderArn") != OIDC_PROVIDER_ARN or query.get("OIDCToken") != OIDC_TOKEN:
            return 403, "AuthenticationFail.NoPermission"
        return None
    if query.get("AccessKeyId") != USER[0]:
        return 404, "InvalidAccessKeyId.NotFound"
    signature = query.pop("Signature")
    canonical = "&".join(f"{quote(name, safe='~')}={quote(query[name], safe='~')}" for name in sorted(query))
    to_sign = f"{method}&%2F&{quote(canonical, safe='~')}"
    expected = base64.b64encode(
        hmac.new(f"{USER[1]}&".encode(), to_sign.encode(), hashlib.sha1).digest()
    ).decode()
    return None if hmac.compare_digest(signature, expected) else (400, "SignatureDoesNotMatch")


def metadata(issuer: Issuer) -> Callable[[str, str, dict[str, str]], tuple[int, Any]]:
    """Answers as the metadata of an ECS instance with the role ``media``, asked through a proxy or directly."""
    token = secrets.token_urlsafe(12)

    def answer(method: str, target: str, headers: dict[str, str]) -> tuple[int, Any]:
        assert headers["host"] == "100.100.100.200"
        path = urlsplit(target).path
        if (method, path) == ("PUT", "/latest/api/token"):
            return 200, token.encode()
        if headers.get("x-aliyun-ecs-metadata-token") != token:
            return 403, b""
        if path == "/latest/meta-data/ram/security-credentials/":
            return 200, b"media"
        if path == "/latest/meta-data/ram/security-credentials/media":
            return 200, {"Code": "Success", **issuer.issue()}
        return 404, b""

    return answer


def self_signed(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """Give a TLS server's context for 127.0.0.1, and the certificate that it signed itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "local service")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, key_pem = folder / "certificate.pem", folder / "key.pem"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key_pem)
    return context, pem


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something that another thread brings about."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
