"""What the user named -> checked, de-duplicated targets, and those -> batches for one request each.

All is checked before the first request. The targets then lie in a temporary file, so that a run over a million
ids needs no memory for them, and what was checked is what is deleted even if the manifest changes meanwhile.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import quote

from airflow_provider_ims.api.identifiers import (
    MAX_MEDIA_PER_CALL,
    check_input_url,
    check_media_id,
    match_key,
)
from airflow_provider_ims.arguments import check_one_input, is_nothing, read_list
from airflow_provider_ims.files.manifest import ManifestReader
from airflow_provider_ims.files.report import is_report, report_lines
from airflow_provider_ims.files.storage import StorageError, storage_path, temporary_file_error, to_line

if TYPE_CHECKING:
    from airflow_provider_ims.compat import ObjectStoragePath

log = logging.getLogger(__name__)

TargetKind = Literal["media_id", "input_url"]

# Everything travels in the request line. No limit is published; servers commonly take 8 KiB.
MAX_BATCH_QUERY_BYTES = 7000
READ_BYTES = 2**20


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
    """Checked targets. Iterating gives them in order, as often as wanted, also several times at once.

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
        # Where the lines of such ids begin; in small letters they are as long.
        self._in_capitals: dict[bytes, int] = {}

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Target]:
        for ordinal, line in enumerate(self._lines()):
            item = json.loads(line.decode())  # of bytes, it would guess the encoding each time
            if isinstance(item, str):
                yield Target(ordinal, item)
            else:
                yield Target(ordinal, item["media_id"], item)

    def _lines(self) -> Iterator[bytes]:
        """Read from a place of its own, which the file's position, shared by all iterations, can't be."""
        descriptor, place, rest = self._file.fileno(), 0, b""
        while piece := os.pread(descriptor, READ_BYTES, place):
            place += len(piece)
            *lines, rest = (rest + piece).split(b"\n")
            yield from lines

    @property
    def digest(self) -> str:
        """SHA-256 over all of them, in hex."""
        return self._hash.hexdigest()

    def add(self, value: str, columns: dict[str, Any] | None = None) -> None:
        """Take in one that is checked; drop it when it was named before.

        Of an id that is named in capitals and in small letters the latter are kept, as the service has them.
        """
        # Digests instead of the values themselves: a third of the memory for long ids, and URLs are longer yet.
        plain = match_key(value)
        key = hashlib.blake2b(plain.encode(), digest_size=16).digest()
        line = to_line(value if columns is None else columns)
        if key in self._seen:
            self.duplicates += 1
            if value == plain and (place := self._in_capitals.pop(key, None)) is not None:
                self._file.flush()
                os.pwrite(self._file.fileno(), line, place)
            return
        self._seen.add(key)
        if self.kind == "media_id" and columns is None and value != plain:
            self._in_capitals[key] = self._file.tell()
        self._hash.update(line)
        try:
            self._file.write(line)
        except OSError as error:
            raise temporary_file_error(error) from error
        self._count += 1

    def complete(self) -> Targets:
        """Say that all are in."""
        self._seen.clear()
        self._in_capitals.clear()
        try:
            self._file.flush()
        except OSError as error:
            raise temporary_file_error(error) from error
        return self

    def close(self) -> None:
        """Give the temporary file back."""
        self._file.close()


def read_targets(
    media_ids: Any = None,
    input_urls: Any = None,
    manifest: str | ObjectStoragePath | None = None,
    *,
    manifest_digest: str | None = None,
    from_report: bool = False,
) -> Targets:
    """Read the targets from whichever of the three is given; none given means nothing.

    Lists are brought into one order, so that a ``set``, whose order differs from process to process, is the same
    input in each try; a manifest's order is that of the file.

    :param media_ids: a list (or any iterable) of ids; text with ids between commas or line ends; or a JSON or
        Python list, tuple or set in a text. ``None``, ``""``, ``"[]"`` and ``"None"`` mean nothing.
    :param input_urls: the same with URLs, spelled as they are registered in IMS.
    :param manifest: path of a plan, or of a text file with one id a line.
    :param manifest_digest: SHA-256 of the manifest as it was approved.
    :param from_report: take a report's folder as a manifest too: the targets that it calls ``deleted``.
    :raises GuardError: when the manifest is another file than the approved one, whatever is in it.
    :raises ValueError: naming the value that can't be a target.
    """
    check_one_input(media_ids=media_ids, input_urls=input_urls, manifest=manifest)
    if manifest is not None and not is_nothing(manifest):
        if from_report and is_report(storage_path(manifest, "manifest")):
            return read_report(manifest)
        return _read_manifest(manifest, manifest_digest)
    if input_urls is not None:
        return _read_list("input_url", input_urls, check_input_url)
    return _read_list("media_id", media_ids, check_media_id)


def _read_list(kind: TargetKind, given: Any, check: Callable[[str, str], str]) -> Targets:
    name = f"{kind}s"
    targets = Targets(kind)
    for value in sorted((check(value, name) for value in read_list(name, given)), key=_order):
        targets.add(value)
    return targets.complete()


def _order(value: str) -> tuple[str, bool, str]:
    """Sort by what is compared, then by the spelling, so that the same one of several spellings is kept.

    Of an id's that is the one in small letters, as the service has them.
    """
    plain = match_key(value)
    return plain, value != plain, value


def batches(targets: Iterable[Target]) -> Iterator[Batch]:
    """Cut targets into batches of at most 20, each short enough for a request line."""
    number, batch, size = 0, list[Target](), 0
    for target in targets:
        is_plain = target.value.isascii() and target.value.isalnum()  # as most ids are
        length = len(target.value if is_plain else quote(target.value, safe="~")) + len("%2C")
        if batch and (len(batch) == MAX_MEDIA_PER_CALL or size + length > MAX_BATCH_QUERY_BYTES):
            yield Batch(number, tuple(batch))
            number, batch, size = number + 1, [], 0
        batch.append(target)
        size += length
    if batch:
        yield Batch(number, tuple(batch))


def _read_manifest(path: str | ObjectStoragePath, approved_digest: str | None) -> Targets:
    targets = Targets("media_id")
    reader = ManifestReader(path, approved_digest)
    log.info("Reading %s.", reader.path)  # a million lines take some seconds
    for row in reader:
        targets.add(check_media_id(row.media_id, f"{reader.path}, line {row.line}"), row.columns)
    targets.manifest_digest = reader.digest
    targets.plan_header = reader.plan_header
    return targets.complete()


def read_report(folder: str | ObjectStoragePath, lines: int | None = None) -> Targets:
    """Read the targets that a report calls ``deleted``.

    :param lines: how many it must have, if that is known.
    :raises ValueError: if it is not written yet, or can't be read.
    :raises StorageError: if it can't be read just now, or has another number of lines.
    """
    targets: Targets | None = None
    found = unrecorded = 0
    for line in report_lines(folder):
        found += 1
        kind: TargetKind = "media_id" if "media_id" in line else "input_url"
        targets = targets or Targets(kind)
        if line.get("outcome") == "deleted" and not line.get("preview"):
            targets.add(str(line[kind]))
        unrecorded += line.get("outcome") is None
    if lines is not None and found != lines:
        raise StorageError(
            f"the report {folder} has {found:,} lines, and {lines:,} were written; does something else write or "
            "delete there?"
        )
    if not found:  # a run over nothing writes no report
        raise ValueError(f"the folder {folder} is empty, so it is no report; was it made by somebody else?")
    if unrecorded:
        log.warning(
            "%s targets have no outcome in the report %s, since their lines were lost; they are not waited for.",
            f"{unrecorded:,}",
            folder,
        )
    return (targets or Targets("media_id")).complete()
