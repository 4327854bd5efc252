"""The few things a web application can't ask its server for: cut connections, and bytes that break HTTP."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_EXTENSION = "airflow_provider_ims.transport"


_LONGEST_HEAD = 2**20
"""Bytes of a request's target and headers: the SDK puts lists of ids and URLs into the target."""


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol, with the connection's transport in each request's scope, and a bound to its head."""

    _head = 0

    def on_message_begin(self) -> None:
        """Hand the transport over."""
        super().on_message_begin()
        self._head = 0
        self.scope["extensions"] = {_EXTENSION: {"transport": self.transport}}

    def on_url(self, url: bytes) -> None:
        """Take a piece of the target."""
        self._count(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self._count(name + value)
        super().on_header(name, value)

    def _count(self, piece: bytes) -> None:
        self._head += len(piece)
        if self._head > _LONGEST_HEAD:
            # uvicorn answers 400 and closes the connection.
            raise ValueError(f"the request's head is longer than {_LONGEST_HEAD} bytes")


def _transport(scope: Scope) -> asyncio.Transport:
    transport: asyncio.Transport = scope["extensions"][_EXTENSION]["transport"]
    return transport


def headers(scope: Scope) -> dict[str, str]:
    """Return a request's headers by their names in lower case; of one that is repeated, all values, joined."""
    found: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1").strip()
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


def has_body(scope: Scope) -> bool:
    """Tell whether a request announces a body."""
    found = headers(scope)
    return "transfer-encoding" in found or found.get("content-length", "0").strip("0") != ""


async def read_body(receive: Receive, longest: int) -> bytes | None:
    """Read a request's body whole; None as soon as it is longer than ``longest`` bytes."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > longest:
            return None
        if not message.get("more_body"):
            return bytes(body)


def replay(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that gives a body which was read already, and then whatever comes."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return pending.pop() if pending else await receive()

    return again


async def answer(
    scope: Scope, send: Send, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes
) -> bool:
    """Send a proper answer; tell whether the caller was still there."""
    connected = not _transport(scope).is_closing()
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})
    return connected


def add_surplus(scope: Scope, surplus: bytes) -> None:
    """Send bytes that nobody announced right behind an answer."""
    _transport(scope).write(surplus)


async def answer_in_part(
    scope: Scope,
    receive: Receive,
    status: int,
    headers: Iterable[tuple[bytes, bytes]],
    body: bytes,
    length: int,
) -> None:
    """Announce a whole body, send its first ``length`` bytes and close the connection."""
    lines = [b"HTTP/1.1 %d " % status, *(b"%s: %s" % header for header in headers)]
    lines.append(b"content-length: %d" % len(body))
    transport = _transport(scope)
    transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + body[:length])
    transport.close()
    await _disconnected(receive)


async def reset(scope: Scope, receive: Receive) -> None:
    """Cut the connection so that the caller sees a reset, not an end."""
    transport = _transport(scope)
    connection = transport.get_extra_info("socket")
    # Lingering for no time makes the kernel send RST instead of FIN.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    await _disconnected(receive)


async def hold(scope: Scope, receive: Receive, seconds: float) -> None:
    """Say nothing until the caller leaves or the time is over, then close the connection."""
    try:
        await asyncio.wait_for(_disconnected(receive), seconds)
    except TimeoutError:
        _transport(scope).close()
        await _disconnected(receive)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
