"""Writing a report: JSON lines in numbered part files of one folder, a target a line.

A local file takes lines at once. A store that can't append gets a new part file each time the run is kept.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import IO, TYPE_CHECKING, Any

from airflow_provider_ims.exceptions import IMSGuardError
from airflow_provider_ims.files.manifest import report_parts
from airflow_provider_ims.files.storage import is_local, storage_path, to_line

if TYPE_CHECKING:
    from airflow_provider_ims.compat import ObjectStoragePath


def column_folder(base: str | ObjectStoragePath, columns: Mapping[str, str | int]) -> ObjectStoragePath:
    """Give the folder ``base/name=value/...``, which query engines read as columns.

    Characters that a store can't take in a name are percent-encoded.
    """
    folder = storage_path(base)
    for name, value in columns.items():
        safe = re.sub(r"[^\w.~-]", lambda found: f"%{ord(found[0]):02X}", str(value))
        folder = folder / f"{name}={safe}"
    return folder


class Report:
    """Writes one report.

    :param folder: of one start of the run, ``.../attempt=<n>``.
    :param first_part: number of the first part file to write; earlier ones belong to earlier tries.
    :raises IMSGuardError: when the folder can't be written to.
    """

    def __init__(self, folder: ObjectStoragePath, first_part: int = 1) -> None:
        self.folder = folder
        self.part = first_part
        self.lines = 0
        self._buffer: list[bytes] = []
        self._file: IO[bytes] | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if is_local(folder):
                self._file = open(self._part_path(first_part).path, "xb")  # noqa: SIM115 - closed by close()
            else:
                self._part_path(first_part).write_bytes(b"")
        except Exception as error:  # stores raise errors of many kinds
            raise IMSGuardError(
                f"the report folder {folder} can't be written to: {_in_words(error)}. No request was sent"
            ) from error

    @classmethod
    def begin(cls, base: ObjectStoragePath, attempt: int) -> Report:
        """Start one in the first folder from ``attempt=<attempt>`` on that holds no lines yet."""
        try:
            while report_parts(folder := base / f"attempt={attempt}"):
                attempt += 1
        except Exception as error:
            raise IMSGuardError(
                f"the report folder {base} can't be read: {_in_words(error)}. No request was sent"
            ) from error
        return cls(folder)

    @classmethod
    def go_on(cls, folder: str) -> Report:
        """Go on with one, in a part file after those that are there."""
        path = storage_path(folder)
        parts = report_parts(path)
        return cls(path, parts[-1][0] + 1 if parts else 1)

    @property
    def takes_lines_at_once(self) -> bool:
        """Whether a written line survives this process, whatever happens next."""
        return self._file is not None

    def write(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Write lines, or keep them until :meth:`cut` where the store can't append."""
        spelled = [to_line(line) for line in lines]
        self.lines += len(spelled)
        if self._file:
            self._file.write(b"".join(spelled))
            self._file.flush()
        else:
            self._buffer += spelled

    def cut(self) -> Callable[[], None]:
        """Give what makes the lines so far durable; it may run in another thread while writing goes on."""
        if self._file:
            return self._sync
        if not self._buffer:
            return lambda: None
        content, path = b"".join(self._buffer), self._part_path(self.part)
        self._buffer, self.part, self.lines = [], self.part + 1, 0

        def write_part() -> None:
            path.write_bytes(content)

        return write_part

    def close(self) -> None:
        """Write what is left."""
        self.cut()()
        if self._file:
            self._file.close()

    def _sync(self) -> None:
        if self._file and not self._file.closed:
            os.fsync(self._file.fileno())

    def _part_path(self, number: int) -> ObjectStoragePath:
        return self.folder / f"part-{number:05d}.jsonl"


def _in_words(error: Exception) -> str:
    """Say what a store says, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {' '.join(str(error).split()) or 'no reason is given'}"
