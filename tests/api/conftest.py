"""A loopback service that does what a test tells it to, down to the bytes and the connection's end."""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qsl, urlsplit

import pytest

from airflow_provider_ims.api import client as client_module
from airflow_provider_ims.api.client import IMSClient
from airflow_provider_ims.api.credentials import Credentials, StaticCredentials
from airflow_provider_ims.api.endpoints import parse_host

KEY_ID, SECRET, TOKEN = "LTAIkeyid", "SECRETsecretSECRET", "TOKENtoken/+=TOKEN"


@dataclass
class Request:
    """One request as it came over the wire."""

    method: str
    target: str
    headers: dict[str, str]
    header_names: list[str]
    body: bytes

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))


class Hangup(Exception):
    """Ends the connection; with a reset if asked."""

    def __init__(self, last_words: bytes = b"", *, reset: bool = False) -> None:
        self.last_words = last_words
        self.reset = reset


@dataclass
class Trickle:
    """Sends piece after piece."""

    pieces: Iterable[bytes]
    pause: float


Answer = bytes | Hangup | Trickle
Step = Answer | Callable[[Request], Answer]


@dataclass
class Service:
    """Answers each request by the next step of its script, and by ``default`` when that is over.

    As a proxy it answers just the same; a CONNECT is granted and noted, and what comes next is TLS.
    """

    default: Step
    tls: ssl.SSLContext | None = None
    script: list[Step] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    tunnels: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}"

    def close(self) -> None:
        self.closing.set()
        self.listener.close()
        for connection in self.connections:
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        connection = plain
        try:
            if self.tls:
                connection = self._wrap(plain)
            stream = connection.makefile("rb")
            while request := _read_request(stream):
                if request.method == "CONNECT":
                    self.tunnels.append(request)
                    connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    connection = self._wrap(connection)
                    stream = connection.makefile("rb")
                    continue
                with self.lock:
                    self.requests.append(request)
                    step = self.script.pop(0) if self.script else self.default
                answer = step(request) if callable(step) else step
                if isinstance(answer, Hangup):
                    connection.sendall(answer.last_words)
                    if answer.reset:
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    else:
                        connection.shutdown(socket.SHUT_RDWR)
                    stream.close()
                    return
                for piece in answer.pieces if isinstance(answer, Trickle) else [answer]:
                    connection.sendall(piece)
                    if isinstance(answer, Trickle) and self.closing.wait(answer.pause):
                        return
        except (OSError, ValueError):
            pass  # the client went away, as some tests want it to
        finally:
            connection.close()

    def _wrap(self, connection: socket.socket) -> ssl.SSLSocket:
        assert self.tls
        wrapped = self.tls.wrap_socket(connection, server_side=True)
        self.connections.append(wrapped)
        return wrapped


def _read_request(stream) -> Request | None:
    first = stream.readline().decode("latin-1").split()
    if len(first) != 3:
        return None
    headers, names = {}, []
    while (line := stream.readline().decode("latin-1").strip()) != "":
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
        names.append(name.lower())
    return Request(first[0], first[1], headers, names, stream.read(int(headers.get("content-length", 0))))


def http(
    status: int,
    body: bytes | str | dict | list,
    *,
    content_type: str | None = None,
    length: int | None = None,
    **headers: str,
) -> bytes:
    """An HTTP answer as bytes."""
    if isinstance(body, dict | list):
        body, content_type = json.dumps(body), content_type or "application/json;charset=utf-8"
    payload = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} Scripted", f"Content-Length: {len(payload) if length is None else length}"]
    lines.append(f"Content-Type: {content_type or 'text/html'}")
    headers.setdefault("date", formatdate(usegmt=True))
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + payload


def ok(request_id: str = "R-OK", **fields: object) -> bytes:
    """What the service says when all is well."""
    return http(200, {"RequestId": request_id, **fields})


def refusal(
    status: int, code: str, message: str = "Refused.", *, headers: dict | None = None, **more: object
):
    """What the service says when it refuses."""
    body = {"RequestId": "R-NO", "HostId": "ice.example", "Code": code, "Message": message, **more}
    return http(status, body, **(headers or {}))


@pytest.fixture
def wire() -> SimpleNamespace:
    """The parts that scripts are written with."""
    return SimpleNamespace(
        http=http,
        ok=ok,
        refusal=refusal,
        Hangup=Hangup,
        Trickle=Trickle,
        key_id=KEY_ID,
        secret=SECRET,
        token=TOKEN,
    )


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the machine's proxies, CA bundles nor netrc take part."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")


@pytest.fixture
def start() -> Iterator[Callable[..., Service]]:
    """Starts services, and ends them with the test."""
    services: list[Service] = []

    def start(*script: Step, default: Step | None = None, tls: ssl.SSLContext | None = None) -> Service:
        services.append(Service(default if default is not None else ok(), tls, list(script)))
        return services[-1]

    yield start
    for service in services:
        service.close()


@pytest.fixture
def service(start) -> Service:
    return start()


@pytest.fixture
def connect() -> Iterator[Callable[..., IMSClient]]:
    """Makes clients of a service, and closes them with the test."""
    clients: list[IMSClient] = []

    def connect(to: Service | str, credentials=None, **options) -> IMSClient:
        endpoint = parse_host(to if isinstance(to, str) else to.url)
        options = {"retry_seconds": 0.0, "connect_timeout": 2.0, "read_timeout": 5.0} | options
        clients.append(
            IMSClient(endpoint, credentials or StaticCredentials(KEY_ID, SECRET, TOKEN), **options)
        )
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Makes the pauses between tries short, and tells how long they would have been."""
    asked: list[float] = []

    def wait_a_little(seconds: float) -> None:
        asked.append(seconds)
        threading.Event().wait(min(seconds, 0.001))

    monkeypatch.setattr(client_module, "sleep_using_event", lambda _: wait_a_little)
    return asked


class RenewableCredentials:
    """A source with a new key each time it is asked for one, as long as there are any."""

    def __init__(self, *keys: Credentials) -> None:
        self.keys = list(keys)
        self.renewed = 0

    def current(self) -> Credentials:
        return self.keys[0]

    def renew(self) -> bool:
        self.renewed += 1
        if len(self.keys) > 1:
            del self.keys[0]
            return True
        return False


@pytest.fixture
def renewable():
    return RenewableCredentials


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """A TLS server's context for 127.0.0.1, and the certificate that it signed itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "scripted service")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    pem, key_pem = folder / "certificate.pem", folder / "key.pem"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key_pem)
    return context, pem
