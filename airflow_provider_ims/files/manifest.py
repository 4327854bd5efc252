"""Reading the files that name media: id lists and plans.

A plan is JSON lines: the first describes the plan and has no ``media_id``, each other is a medium. A report is a
folder of part files in JSON lines, one target a line, with its ``outcome``. Everything else is a text file with
one id a line.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from airflow_provider_ims.api.errors import GuardError
from airflow_provider_ims.api.identifiers import show
from airflow_provider_ims.api.times import read_time
from airflow_provider_ims.files.storage import lines, read_chunks, storage_path

if TYPE_CHECKING:
    from airflow_provider_ims.compat import ObjectStoragePath

log = logging.getLogger(__name__)


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


class ManifestRow(NamedTuple):
    """One medium that a manifest names. ``columns`` is the plan's line, None for a list of ids."""

    line: int
    media_id: str
    columns: dict[str, Any] | None


class ManifestReader:
    """Goes through a manifest once. ``plan_header`` is a plan's first line as soon as rows come, else None.

    :param approved_digest: SHA-256 of the only file that may be read.
    :raises GuardError: when the file is another one, whether or not it could be read.
    :raises ValueError: naming the file and the line that can't be read.
    """

    def __init__(self, path: str | ObjectStoragePath, approved_digest: str | None = None) -> None:
        self.path = storage_path(path, "manifest")
        self.plan_header: dict[str, Any] | None = None
        self._approved_digest = approved_digest
        self._hash = hashlib.sha256()

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes that were read, in hex."""
        return self._hash.hexdigest()

    def __iter__(self) -> Iterator[ManifestRow]:
        # Before, so that nothing is said of another file's lines; and after, as it may have changed meanwhile.
        if self._approved_digest is not None and self.path.is_file():
            check_digest(_file_digest(self.path), approved=self._approved_digest)
        yield from self._rows()
        if self._approved_digest is not None:
            check_digest(self.digest, approved=self._approved_digest)

    def _rows(self) -> Iterator[ManifestRow]:
        for number, line in text_lines(self.path, self._hash):
            if not line.startswith("{"):
                if self.plan_header is not None:
                    raise ValueError(f"{self.path}, line {number}: not a line of a plan")
                yield ManifestRow(number, line, None)
                continue
            fields = self._object(number, line)
            if number == 1 and "media_id" not in fields and "plan" in fields:
                self.plan_header = fields
            elif "outcome" in fields:
                raise ValueError(
                    f"{self.path} is a report: it tells what became of media, and is no list of media to delete"
                )
            elif self.plan_header is None:
                raise ValueError(
                    f"{self.path} lacks the first line of a plan, which tells what it was made for; make a new plan"
                )
            elif not isinstance(fields.get("media_id"), str):
                raise ValueError(f"{self.path}, line {number}: has no media_id; make a new plan")
            elif read_time(created := fields.get("created")) is None:
                raise ValueError(
                    f"{self.path}, line {number}: its created is {show(created)}, which is no time; make a new plan"
                )
            else:
                yield ManifestRow(number, fields["media_id"], fields)

    def _object(self, number: int, line: str) -> dict[str, Any]:
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError):
            raise ValueError(
                f"{self.path}, line {number}: not a whole JSON object; is the file cut?"
            ) from None
        return dict(fields)


def check_digest(found: str | None, *, approved: str) -> None:
    """Refuse another manifest than the one that was approved.

    :raises GuardError: if the two SHA-256 differ.
    """
    if found is None:
        raise GuardError("manifest_digest is given, but no manifest that it could be of. Nothing was deleted")
    if found != str(approved).strip().lower():
        raise GuardError(
            f"the manifest is not the one that was approved: its SHA-256 is {found}, "
            f"approved was {approved}. Nothing was deleted"
        )


def _file_digest(path: ObjectStoragePath) -> str:
    digest = hashlib.sha256()
    for piece in read_chunks(path):
        digest.update(piece)
    return digest.hexdigest()


def text_lines(path: ObjectStoragePath, digest: _Hash | None = None) -> Iterator[tuple[int, str]]:
    """Go through the lines that are not blank, with their numbers."""
    try:
        for number, raw in enumerate(lines(path), start=1):
            if digest:
                digest.update(raw)
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError:
                raise ValueError(f"{path}, line {number}: not UTF-8 text") from None
            if text:
                yield number, text
    except FileNotFoundError as error:
        # A store can tell that even the bucket is not there; a disk tells the name once more.
        more = "" if error.strerror or "bucket" not in str(error) else f": {error}"
        raise ValueError(f"manifest {path} does not exist{more}") from None
    except IsADirectoryError:
        raise ValueError(f"manifest {path} is a folder, not a file") from None
