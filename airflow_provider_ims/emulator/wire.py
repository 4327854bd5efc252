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

_EXTENSION = "airflow_provider_ims.transport"


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol, with the connection's transport in each request's scope."""

    def on_message_begin(self) -> None:
        """Hand the transport over."""
        super().on_message_begin()
        self.scope["extensions"] = {_EXTENSION: {"transport": self.transport}}


def _transport(scope: Scope) -> asyncio.Transport:
    transport: asyncio.Transport = scope["extensions"][_EXTENSION]["transport"]
    return transport


async def read_body(receive: Receive) -> bytes:
    """Read a request's body whole."""
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
    return body


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
