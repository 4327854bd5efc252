"""What lies in a bucket, with the sizes, ETags and checksums of the real service."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module

_POLYNOMIAL = 0xC96C5795D7870F42


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
class Upload:
    """A multipart upload under way; of each part, by its number, ETag and content."""

    bucket: str
    key: str
    content_type: str
    parts: dict[int, tuple[str, bytes]] = field(default_factory=dict)


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
