"""What is asked of a local OSS, and how it refuses."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from email.message import Message
from functools import cached_property
from urllib.parse import parse_qsl, unquote, urlsplit


class Refusal(Exception):
    """An answer that is an error of the service."""

    def __init__(self, status: int, code: str, message: str, **fields: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.fields = fields


@dataclass(frozen=True)
class Request:
    """One HTTP request.

    :param method: such as ``PUT``.
    :param target: path and query as they were sent.
    """

    method: str
    target: str
    headers: Message
    body: bytes

    @cached_property
    def raw_query(self) -> str:
        """The query as it was sent."""
        return urlsplit(self.target).query

    @cached_property
    def query(self) -> dict[str, str]:
        """The parameters of the query."""
        return dict(parse_qsl(self.raw_query, keep_blank_values=True))

    @cached_property
    def _address(self) -> tuple[str, str]:
        parts = urlsplit(self.target)
        return _bucket_and_key(parts.netloc or self.headers.get("Host", ""), unquote(parts.path))

    @property
    def bucket(self) -> str:
        """The bucket's name; empty if the service itself is asked."""
        return self._address[0]

    @property
    def key(self) -> str:
        """The file's name in the bucket; empty if the bucket itself is asked."""
        return self._address[1]


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
