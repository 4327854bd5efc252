"""What the user named -> checked, de-duplicated targets, and those -> batches for one request each.

All is checked before the first request. The targets then lie in a temporary file, so that a run over a million
ids needs no memory for them, and what was checked is what is deleted even if the manifest changes meanwhile.
"""

from __future__ import annotations

import ast
import hashlib
import json
import logging
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import quote

from airflow_provider_ims.arguments import NOTHING
from airflow_provider_ims.files.manifest import ManifestReader, report_lines
from airflow_provider_ims.files.storage import storage_path, to_line

if TYPE_CHECKING:
    from airflow_provider_ims.compat import ObjectStoragePath

log = logging.getLogger(__name__)

TargetKind = Literal["media_id", "input_url"]

MAX_BATCH = 20
# Everything travels in the request line. No limit is published; servers commonly take 8 KiB.
MAX_BATCH_QUERY_BYTES = 7000
# What an id can look like is not documented; what a list of ids in a request can't carry is known.
_MEDIA_ID = re.compile(r"[^\s,]{1,128}")


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """One medium to delete. ``ordinal`` counts from 0; ``columns`` is the plan's line."""

    ordinal: int
    value: str
    columns: dict[str, Any] | None = None


class Batch(NamedTuple):
    """Targets for one request. ``number`` counts from 0, and is the same in every try over the same input."""

    number: int
    targets: tuple[Target, ...]


class Targets:
    """Checked targets. Iterating gives them in order, as often as wanted.

    :ivar kind: ``media_id`` or ``input_url``.
    :ivar duplicates: how many were named more than once, and dropped.
    :ivar digest: SHA-256 over all of them, to know the same input again.
    :ivar manifest_digest: SHA-256 of the manifest's bytes, None without a manifest.
    :ivar plan_header: a plan's first line, None without a plan.
    """

    def __init__(self, kind: TargetKind) -> None:
        self.kind = kind
        self.duplicates = 0
        self.manifest_digest: str | None = None
        self.plan_header: dict[str, Any] | None = None
        self._count = 0
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close(), or with the object
        self._hash = hashlib.sha256(kind.encode())
        self._seen: set[bytes] = set()

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Target]:
        self._file.seek(0)
        for ordinal, line in enumerate(self._file):
            item = json.loads(line.decode())  # of bytes, it would guess the encoding each time
            if isinstance(item, str):
                yield Target(ordinal, item)
            else:
                yield Target(ordinal, item["media_id"], item)

    @property
    def digest(self) -> str:
        """SHA-256 over all of them, in hex."""
        return self._hash.hexdigest()

    def add(self, value: str, columns: dict[str, Any] | None = None) -> None:
        """Take in one that is checked; drop it when it was named before."""
        # Digests instead of the values themselves: a third of the memory for long ids, and URLs are longer yet.
        key = hashlib.blake2b(match_key(value).encode(), digest_size=16).digest()
        if key in self._seen:
            self.duplicates += 1
            return
        self._seen.add(key)
        line = to_line(value if columns is None else columns)
        self._hash.update(line)
        self._file.write(line)
        self._count += 1

    def complete(self) -> Targets:
        """Say that all are in."""
        self._seen.clear()
        self._file.flush()
        return self

    def close(self) -> None:
        """Give the temporary file back."""
        self._file.close()


def read_targets(
    media_ids: Any = None,
    input_urls: Any = None,
    manifest: str | ObjectStoragePath | None = None,
    *,
    from_report: bool = False,
) -> Targets:
    """Read the targets from whichever of the three is given; none given means nothing.

    :param media_ids: a list (or any iterable) of ids; text with ids between commas or line ends; or a JSON or
        Python list in a text. ``None``, ``""``, ``"[]"`` and ``"None"`` mean nothing.
    :param input_urls: the same with URLs, spelled as they are registered in IMS.
    :param manifest: path of a plan, or of a text file with one id a line.
    :param from_report: take a report's folder as a manifest too: the targets that it calls ``deleted``.
    :raises ValueError: naming the value that can't be a target.
    """
    check_one_input(media_ids=media_ids, input_urls=input_urls, manifest=manifest)
    if manifest is not None and str(manifest).strip() not in NOTHING:
        if from_report and storage_path(manifest).is_dir():
            return _read_report(manifest)
        return _read_manifest(manifest)
    if input_urls is not None:
        targets = Targets("input_url")
        for value in _split("input_urls", input_urls):
            targets.add(check_input_url(value))
    else:
        targets = Targets("media_id")
        for value in _split("media_ids", media_ids):
            targets.add(check_media_id(value))
    return targets.complete()


def check_one_input(**inputs: Any) -> None:
    """Refuse more than one input: which of them was meant can't be known, and IMS would drop one silently."""
    given = [name for name, value in inputs.items() if value is not None]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} are given, but only one of them can be")


def check_media_id(value: str, source: str = "media_ids") -> str:
    """Give the id without surrounding blanks.

    :raises ValueError: when it can't be an id: empty, with a comma, blank or control character, or a URL.
    """
    text = value.strip()
    if "://" in text:
        raise ValueError(f"{source}: {_shown(text)} is a URL; give URLs as input_urls")
    if not _MEDIA_ID.fullmatch(text) or text in NOTHING or not text.isprintable():
        raise ValueError(f"{source}: {_shown(value)} is not a media id")
    return text


def check_input_url(value: str, source: str = "input_urls") -> str:
    """Give the URL without surrounding blanks and without an empty query.

    :raises ValueError: for a scheme other than http, https and oss; a comma, which separates URLs in a request;
        a query, which no registered URL has, and which may be a signature; a control character.
    """
    text = value.strip()
    url, _, query = text.partition("?")
    scheme, found, rest = url.partition("://")
    if not found or scheme.lower() not in ("http", "https", "oss") or not rest.strip("/"):
        raise ValueError(f"{source}: {_shown(url)} is not an http://, https:// or oss:// URL")
    if "," in text:
        raise ValueError(
            f"{source}: {_shown(url)} has a comma, which IMS takes for the end of a URL; delete this medium by its id"
        )
    if query:
        raise ValueError(
            f"{source}: {_shown(url)} has a query after it; give the URL as it is registered, without a signature"
        )
    if not url.isprintable():
        raise ValueError(f"{source}: {_shown(url)} has a control character")
    return url


def match_key(value: str) -> str:
    """Bring a value into the form in which what was sent and what is echoed are the same.

    The service echoes with stray white space; a URL's scheme is matched without regard to case, and the
    documentation's samples carry an empty query.
    """
    text = value.strip()
    scheme, found, rest = text.partition("://")
    return f"{scheme.lower()}://{rest.removesuffix('?')}" if found else text


def batches(targets: Iterable[Target]) -> Iterator[Batch]:
    """Cut targets into batches of at most 20, each short enough for a request line."""
    number, batch, size = 0, list[Target](), 0
    for target in targets:
        length = len(quote(target.value, safe="~")) + len("%2C")
        if batch and (len(batch) == MAX_BATCH or size + length > MAX_BATCH_QUERY_BYTES):
            yield Batch(number, tuple(batch))
            number, batch, size = number + 1, [], 0
        batch.append(target)
        size += length
    if batch:
        yield Batch(number, tuple(batch))


def _read_manifest(path: str | ObjectStoragePath) -> Targets:
    targets = Targets("media_id")
    reader = ManifestReader(path)
    log.info("Reading %s.", reader.path)  # a million lines take some seconds
    for row in reader:
        targets.add(check_media_id(row.media_id, f"{reader.path}, line {row.line}"), row.columns)
    targets.manifest_digest = reader.digest
    targets.plan_header = reader.plan_header
    return targets.complete()


def _read_report(folder: str | ObjectStoragePath) -> Targets:
    targets: Targets | None = None
    for _, line in report_lines(folder):
        kind: TargetKind = "media_id" if "media_id" in line else "input_url"
        targets = targets or Targets(kind)
        if line.get("outcome") == "deleted" and not line.get("preview"):
            targets.add(str(line[kind]))
    return (targets or Targets("media_id")).complete()


def _split(name: str, given: Any) -> Iterator[str]:
    """Take any spelling apart."""
    if given is None or (isinstance(given, str) and given.strip() in NOTHING):
        return
    if isinstance(given, str):
        text = given.strip()
        if text[0] in "[(":
            yield from _split(name, _parse_list(name, text))
        else:
            yield from (part for part in re.split(r"[,\n]", text) if part.strip())
        return
    if isinstance(given, Mapping | bytes) or not isinstance(given, Iterable):
        raise ValueError(f"{name}: {type(given).__name__} is no list of texts")
    for position, value in enumerate(given):
        if not isinstance(value, str) or value.strip() in NOTHING:
            raise ValueError(f"{name}[{position}] is {_shown(value)}, which names no medium")
        yield value


def _parse_list(name: str, text: str) -> list[Any]:
    """Read what Jinja makes of a list: Python's spelling, or JSON's."""
    value: Any
    try:
        value = json.loads(text)
    except ValueError:
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise ValueError(f"{name}: {_shown(text)} begins like a list, but is none") from None
    if not isinstance(value, list | tuple):
        raise ValueError(f"{name}: {_shown(text)} is no list")
    return list(value)


def _shown(value: object) -> str:
    """Quote a value, cut where it is long, and without a query, which may be a signature."""
    text = value.partition("?")[0] if isinstance(value, str) else value
    shown = repr(text)
    return shown if len(shown) <= 120 else f"{shown[:117]}..."
