"""The HTTP front: plain ASGI, since the emulator must never be the slow part of what is measured with it."""

from __future__ import annotations

import asyncio
import time

from airflow_provider_ims.emulator import wire
from airflow_provider_ims.emulator.gateway import parse_request
from airflow_provider_ims.emulator.service import Exchange, Service

_LONGEST_BODY = 16 * 2**20
"""Bytes; what the operations take stands in the query, and a body is only hashed."""
_SURPLUS = b"<!-- surplus -->"


class ServiceApp:
    """What answers at the service's port."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def __call__(self, scope: wire.Scope, receive: wire.Receive, send: wire.Send) -> None:
        """Answer one request."""
        body = await wire.read_body(receive, _LONGEST_BODY)
        if body is None:
            await wire.answer(scope, send, 413, [(b"connection", b"close")], b"")
            return
        request = parse_request(scope["method"], scope["path"], scope["query_string"], scope["headers"], body)
        exchange = self.service.admit(request)
        records = self.service.records
        started = time.monotonic()
        try:
            if exchange.delay_before:
                await asyncio.sleep(exchange.delay_before)
            self.service.work(exchange)
            if exchange.delay_after:
                await asyncio.sleep(exchange.delay_after)
            await _deliver(exchange, scope, receive, send)
        finally:
            exchange.entry.seconds = round(time.monotonic() - started, 6)
            records.close(exchange.entry)


async def _deliver(exchange: Exchange, scope: wire.Scope, receive: wire.Receive, send: wire.Send) -> None:
    reply = exchange.reply
    rule = exchange.rule
    if reply is None:
        assert rule is not None
        if rule.kind == "reset":
            await wire.reset(scope, receive)
        else:
            await wire.hold(scope, receive, rule.number("seconds"))
        return
    headers = exchange.headers()
    kind = "" if rule is None else rule.kind
    if rule is not None and kind == "truncated":
        length = min(len(reply.body) - 1, int(len(reply.body) * rule.number("share")))
        await wire.answer_in_part(scope, receive, reply.status, headers, reply.body, length)
        return
    if rule is not None and kind == "overlong" and rule.options["declared"]:
        await wire.answer(scope, send, reply.status, headers, reply.body + _SURPLUS)
        return
    connected = await wire.answer(scope, send, reply.status, headers, reply.body)
    exchange.entry.answered = connected and reply.honest
    if kind == "overlong":
        wire.add_surplus(scope, _SURPLUS)
