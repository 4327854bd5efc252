"""A client that signs requests as it should, and lets each piece of them be wrong."""

from __future__ import annotations

import hashlib
import http.client
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_provider_ims.api import signing
from airflow_provider_ims.emulator import Emulator


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class RawClient:
    """Signs and sends requests a piece at a time, so that each piece can be wrong."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator

    def sign(
        self,
        action: str,
        params: Mapping[str, str],
        *,
        headers: Mapping[str, str] | None = None,
        unsigned: Mapping[str, str] | None = None,
        clock_error: timedelta = timedelta(0),
        body: bytes = b"",
        method: str = "POST",
    ) -> tuple[str, str, dict[str, str], bytes]:
        query = signing.canonical_query(params)
        date = (datetime.now(UTC) + clock_error).strftime("%Y-%m-%dT%H:%M:%SZ")
        signed = {
            "host": self.emulator.host,
            "x-acs-action": action,
            "x-acs-content-sha256": hashlib.sha256(body).hexdigest(),
            "x-acs-date": date,
            "x-acs-signature-nonce": secrets.token_hex(16),
            "x-acs-version": "2020-11-09",
            **(headers or {}),
        }
        canonical = signing.canonical_request(method, "/", query, signed, signed["x-acs-content-sha256"])
        signature = signing.signature(self.emulator.access_key_secret, signing.string_to_sign(canonical))
        names = signing.canonical_headers(signed)[1]
        signed["Authorization"] = signing.authorization(self.emulator.access_key_id, names, signature)
        return method, f"/?{query}", {**signed, **(unsigned or {})}, body

    def send(self, request: tuple[str, str, dict[str, str], bytes], *, timeout: float = 10.0) -> Reply:
        method, url, headers, body = request
        connection = http.client.HTTPConnection(self.emulator.host, timeout=timeout)
        try:
            connection.request(method, url, body or None, headers)
            response = connection.getresponse()
            return Reply(
                response.status,
                {name.lower(): value for name, value in response.getheaders()},
                response.read(),
            )
        finally:
            connection.close()

    def __call__(self, action: str, timeout: float = 10.0, **params: str) -> Reply:
        return self.send(self.sign(action, params), timeout=timeout)
