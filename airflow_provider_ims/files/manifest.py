"""Reading the files that name media: id lists, plans and reports.

A plan is JSON lines: the first describes the plan and has no ``media_id``, each other is a medium. A report is a
folder of part files in JSON lines, one target a line, with its ``outcome``. Everything else is a text file with
one id a line.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from airflow_provider_ims.files.storage import lines, list_names, storage_path

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

log = logging.getLogger(__name__)


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


class Row(NamedTuple):
    """One medium that a manifest names. ``columns`` is the plan's line, None for a list of ids."""

    line: int
    media_id: str
    columns: dict[str, Any] | None


class ManifestReader:
    """Goes through a manifest once. ``plan_header`` is a plan's first line as soon as rows come, else None.

    :raises ValueError: naming the file and the line that can't be read.
    """

    def __init__(self, path: str | ObjectStoragePath) -> None:
        self.path = storage_path(path, "manifest")
        self.plan_header: dict[str, Any] | None = None
        self._hash = hashlib.sha256()

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes that were read, in hex."""
        return self._hash.hexdigest()

    def __iter__(self) -> Iterator[Row]:
        for number, line in _lines(self.path, self._hash):
            if not line.startswith("{"):
                if self.plan_header is not None:
                    raise ValueError(f"{self.path}, line {number}: not a line of a plan")
                yield Row(number, line, None)
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
            else:
                yield Row(number, fields["media_id"], fields)

    def _object(self, number: int, line: str) -> dict[str, Any]:
        try:
            fields = json.loads(line)
        except ValueError:
            raise ValueError(
                f"{self.path}, line {number}: not a whole JSON object; is the file cut?"
            ) from None
        return dict(fields)


def report_lines(
    folder: str | ObjectStoragePath, *, first_part: int = 1
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Go through a report's lines with the number of the part each stands in, parts in order.

    The last line of a part may be cut where a writer was killed; it is left out, as its target gets a line in a
    later part.

    :raises ValueError: for any other line that can't be read.
    """
    for part, path in report_parts(folder):
        if part < first_part:
            continue
        cut: str | None = None
        for number, line in _lines(path):
            if cut:
                raise ValueError(cut)
            try:
                fields = json.loads(line)
            except ValueError:
                fields = None
            if isinstance(fields, dict):
                yield part, fields
            else:
                cut = f"{path}, line {number}: not a line of a report"
        if cut:
            log.info("%s ends in a line that was cut when its writer was killed; it does not count.", path)


def report_parts(folder: str | ObjectStoragePath) -> list[tuple[int, ObjectStoragePath]]:
    """List a report folder's part files by their numbers."""
    base = storage_path(folder)
    numbers = (re.fullmatch(r"part-([0-9]+)\.jsonl", name) for name in list_names(base))
    return sorted((int(number[1]), base / number[0]) for number in numbers if number)


def _lines(path: ObjectStoragePath, digest: _Hash | None = None) -> Iterator[tuple[int, str]]:
    """Give the lines that are not blank, with their numbers."""
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
