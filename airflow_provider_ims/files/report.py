"""The report of a run: JSON lines in few part files, exactly one for each target, in the order of the targets.

While the run is under way, its lines lie in a journal: small files in a folder that query engines pass over, each
written whole, side by side, and never waited for. At the end they become the parts, and the journal goes.
"""

from __future__ import annotations

import json
import logging
import secrets
import tempfile
import threading
import time
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from hashlib import sha256
from itertools import chain, count, islice, takewhile
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import quote

from tenacity import (
    Retrying,
    retry_if_exception,
    sleep_using_event,
    stop_after_delay,
    stop_when_event_set,
    wait_random_exponential,
)

from airflow_provider_ims.api.errors import GuardError, IMSError
from airflow_provider_ims.files.manifest import text_lines
from airflow_provider_ims.files.storage import (
    StorageError,
    delete_all,
    exists,
    is_folder,
    is_local,
    list_names,
    read_whole,
    storage_path,
    temporary_file_error,
    write_whole,
)

if TYPE_CHECKING:
    from airflow_provider_ims.compat import ObjectStoragePath

JOURNAL = "_journal"
LINES_IN_A_PART = 100_000
LONGEST_NAME = 120
"""Bytes of a folder's value; file systems take 255 for a name."""
THREADS = 4
# A file of the journal is written after so many notes or seconds; in a long run seconds are a part of its time.
NOTES_IN_A_FILE, FILE_SECONDS, FILE_GROWTH, LONGEST_FILE_SECONDS = 50, 0.25, 1 / 200, 5.0

log = logging.getLogger(__name__)
T = TypeVar("T")

_ORDINAL = b'{"ordinal": '


def column_folder(base: str | ObjectStoragePath, columns: Mapping[str, str | int]) -> ObjectStoragePath:
    """Return the folder ``base/name=value/...``, which query engines read as columns.

    What is not a letter of ASCII, a digit, ``_``, ``.`` or ``-`` is percent-encoded, with ``~`` in the place of
    ``%``: a path that is pasted from a console or put into a URL must not be encoded once more. A value that gets too
    long for a file system is cut, and told apart by a hash.
    """
    folder = storage_path(base)
    for name, value in columns.items():
        safe = quote(str(value), safe="").replace("~", "%7E").replace("%", "~")
        if len(safe) > LONGEST_NAME:
            safe = f"{safe[: LONGEST_NAME - 20]}~{sha256(str(value).encode()).hexdigest()[:16]}"
        folder = folder / f"{name}={safe}"
    return folder


def free_attempt(base: ObjectStoragePath, attempt: int) -> int:
    """Return the first number from ``attempt`` on whose folder under ``base`` holds nothing yet.

    :raises GuardError: if the store refuses to tell, ``StorageError`` if it can't be reached.
    """
    try:
        # By its name, too, for listings may be late.
        while list_names(folder := attempt_folder(base, attempt)) or exists(_part(folder, 1)):
            attempt += 1
    except StorageError as error:
        raise _before_the_first_request(error) from error
    return attempt


def attempt_folder(base: ObjectStoragePath, attempt: int) -> ObjectStoragePath:
    """Return the folder of one start of a run."""
    return base / f"attempt={attempt}"


def is_report(path: ObjectStoragePath) -> bool:
    """Whether this is a folder, and no file; of a report's, also where a listing does not show it yet.

    :raises StorageError: if the store does not tell.
    """
    return exists(_part(path, 1)) or is_folder(path)


def report_lines(folder: str | ObjectStoragePath) -> Iterator[dict[str, Any]]:
    """Go through a report's lines, parts in order.

    :raises ValueError: for a line that can't be read, for a report whose run has not come to an end yet, and for
        a folder that holds something else.
    """
    parts = report_parts(folder)
    if not parts and (names := list_names(storage_path(folder))):
        if JOURNAL in names:
            raise ValueError(f"the report {folder} is not written yet: its run has not ended, or was cut off")
        raise ValueError(
            f"the folder {folder} holds no part-00001.jsonl; a report's folder is the one whose name is attempt=<n>"
        )
    for path in parts:
        for number, line in text_lines(path):
            try:
                fields = json.loads(line)
            except (ValueError, RecursionError):
                fields = None
            if not isinstance(fields, dict):
                raise ValueError(f"{path}, line {number}: not a line of a report")
            yield fields


def report_parts(folder: str | ObjectStoragePath) -> list[ObjectStoragePath]:
    """Return a report's part files, asked for one by one, for listings may be late.

    :raises StorageError: if the store does not tell.
    """
    base = storage_path(folder)
    return list(takewhile(exists, (_part(base, number) for number in count(1))))


def is_written(folder: ObjectStoragePath, lines: int) -> bool:
    """Return whether a report of so many lines has all its parts, asked for one by one, for listings may be late.

    :raises GuardError: if the store refuses to tell, ``StorageError`` if it can't be reached.
    """
    try:
        return all(exists(_part(folder, number)) for number in range(1, -(-lines // LINES_IN_A_PART) + 1))
    except StorageError as error:
        raise _before_the_first_request(error) from error


class Spool:
    """Lines by the ordinals of their targets, in a temporary file. Of several about one target, the last counts.

    :param targets: how many there are.
    :ivar lines: how many of them have a line.
    """

    def __init__(self, targets: int) -> None:
        self.lines = 0
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close(), or with the object
        self._end = 0
        # To seek is to flush what was written.
        self._is_at_end = True
        self._offsets = array("q", [-1]) * targets

    def put(self, lines: Sequence[tuple[int, bytes]]) -> None:
        """Take in lines, each with its ordinal. Of what could not be written, none is taken in."""
        try:
            if not self._is_at_end:
                self._file.seek(self._end)
            self._is_at_end = False
            self._file.write(b"".join(line for _, line in lines))
        except OSError as error:
            raise temporary_file_error(error) from error
        self._is_at_end = True
        for ordinal, line in lines:
            self.lines += self._offsets[ordinal] < 0
            self._offsets[ordinal] = self._end
            self._end += len(line)

    def get(self, ordinal: int) -> bytes | None:
        """Return the line about a target, None if there is none."""
        if ordinal not in self:
            return None
        self._is_at_end = False
        try:
            self._file.seek(self._offsets[ordinal])  # writes what is not written yet
        except OSError as error:
            raise temporary_file_error(error) from error
        return self._file.readline()

    def __contains__(self, ordinal: int) -> bool:
        return 0 <= ordinal < len(self._offsets) and self._offsets[ordinal] >= 0

    def close(self) -> None:
        """Give the temporary file back."""
        self._file.close()


class ReportWriter(Generic[T]):
    """Writes a report without keeping a run waiting for the store.

    One thread uses it; files are written by threads of its own. What is not known to be written can be asked for at
    any time, so that a checkpoint can hold it.

    :param folder: of the report.
    :param targets: how many there are.
    :param retry_seconds: how long a file is tried again before its error is final.
    :param stop: once set, nothing is tried again.
    """

    def __init__(
        self, folder: ObjectStoragePath, targets: int, *, retry_seconds: float, stop: threading.Event
    ) -> None:
        self.folder = folder
        self.spool = Spool(targets)
        self._retry_seconds = retry_seconds
        self._stop = stop
        self._threads = ThreadPoolExecutor(THREADS, "ims-report")
        self._began = time.monotonic()
        self._next_file = 0.0
        self._name = secrets.token_hex(4)
        self._files = 0
        self._earlier: list[tuple[str, int]] = []
        self._waiting: list[bytes] = []
        self._writing: dict[int, Future[None]] = {}
        # By the number of the file that they go into, until it is written.
        self._notes: dict[int, list[T]] = {}

    def open(self, journal: Sequence[tuple[str, int]]) -> bool:
        """Write a first file, which is empty, to find out whether that can be done; and read what is there already.

        :param journal: of earlier tries, see :attr:`journal`.
        :return: whether files that they wrote are not there.
        :raises GuardError: if the store refuses it, ``StorageError`` if it can't be reached.
        """
        self._earlier = list(journal)
        try:
            self._cut()()
            return self._read()
        except (StorageError, ValueError) as error:
            raise _before_the_first_request(error) from error

    @property
    def journal(self) -> list[tuple[str, int]]:
        """The files so far: (writer, number of its files) for each try. Listings of a store may be late."""
        return [*self._earlier, (self._name, self._files)]

    def add(self, lines: Iterable[tuple[int, bytes]], notes: Iterable[T]) -> None:
        """Take in lines with the ordinals of their targets, and what must be remembered until they are written.

        :param lines: as :func:`~airflow_provider_ims.files.storage.to_line` spells a mapping.
        """
        lines = list(lines)
        self.spool.put(lines)
        self._waiting.extend(b'{"ordinal": %d, ' % ordinal + line[1:] for ordinal, line in lines)
        self._notes.setdefault(self._files, []).extend(notes)

    @property
    def unwritten(self) -> list[T]:
        """What must be remembered by now."""
        return [note for notes in self._notes.values() for note in notes]

    @property
    def busy(self) -> Collection[Future[None]]:
        """What is being written."""
        return self._writing.values()

    def catch_up(self) -> None:
        """Begin to write the next file, if one is due; forget what is written.

        :raises StorageError: naming path and reason, if a file could not be written.
        """
        for number, writing in list(self._writing.items()):
            if writing.done():
                self._end(number)
        notes = len(self._notes.get(self._files, ()))
        if len(self._writing) < THREADS and (notes >= NOTES_IN_A_FILE or time.monotonic() >= self._next_file):
            self._write_waiting()

    def flush(self) -> None:
        """Write what waits, and wait for it.

        :raises StorageError: naming path and reason, if it could not be written.
        """
        self._write_waiting()
        self.wait()

    def wait(self) -> None:
        """Wait for what is being written."""
        for number in list(self._writing):
            self._end(number)

    def write_parts(self, lines: Callable[[], Iterable[bytes]]) -> None:
        """Write the report: what ``lines`` gives, in parts of 100,000 each. After it no file is being written.

        :raises StorageError: naming path and reason, if it could not be written.
        """

        def write() -> None:
            left = iter(lines())
            for number in count(1):
                first = next(left, None)
                if first is None:
                    return
                part = chain([first], islice(left, LINES_IN_A_PART - 1))
                write_whole(_part(self.folder, number), part)

        self._with_retries(write)
        # What they hold, or failed to, stands in the parts by now.
        wait(self._writing.values())
        self._writing.clear()
        self._notes.clear()

    def close(self) -> None:
        """Give back threads and the temporary file."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self.spool.close()

    def _cut(self) -> Callable[[], None]:
        content, path = b"".join(self._waiting), _piece(self.folder, self._name, self._files)
        self._waiting = []
        self._files += 1

        def write() -> None:
            write_whole(path, [content])

        return write

    def _write_waiting(self) -> None:
        if not self._waiting:
            return
        now = time.monotonic()
        self._next_file = now + min(FILE_SECONDS + FILE_GROWTH * (now - self._began), LONGEST_FILE_SECONDS)
        number = self._files
        self._notes.setdefault(number, [])
        self._writing[number] = self._threads.submit(self._with_retries, self._cut())

    def _end(self, number: int) -> None:
        self._writing[number].result()
        del self._writing[number], self._notes[number]

    def _with_retries(self, write: Callable[[], None]) -> None:
        retrying = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, StorageError) and not error.final),
            stop=stop_after_delay(self._retry_seconds) | stop_when_event_set(self._stop),
            sleep=sleep_using_event(self._stop),
            wait=wait_random_exponential(multiplier=0.25, max=20),
            reraise=True,
        )
        try:
            retrying(write)
        except StorageError as error:
            raise StorageError(f"report: {error}", error.final) from error

    def _read(self) -> bool:
        def content(path: ObjectStoragePath) -> bytes | None:
            try:
                return read_whole(path)
            except FileNotFoundError:
                return None

        lost = False
        for found in self._threads.map(content, _pieces(self.folder, self._earlier)):
            lost |= found is None
            noted = (
                line.removeprefix(_ORDINAL).partition(b", ")
                for line in (found or b"").splitlines(keepends=True)
            )
            self.spool.put([(int(ordinal), b"{" + rest) for ordinal, _, rest in noted])
        return lost


def remove_journal(folder: ObjectStoragePath, journal: Sequence[tuple[str, int]]) -> None:
    """Remove the files that a report was made of. That they stay would be untidy, and no reason to fail.

    :param journal: as :attr:`ReportWriter.journal` has it. A listing may lack the youngest of these, and shows what a
        killed try wrote after its last checkpoint.
    """
    try:
        if is_local(folder):
            with suppress(FileNotFoundError):
                folder.fs.rm((folder / JOURNAL).path, recursive=True)
            return
        listed = (folder / JOURNAL / name for name in list_names(folder / JOURNAL))
        delete_all(list({*_pieces(folder, journal), *listed}))
    except Exception as error:  # noqa: BLE001
        log.warning(
            "The journal %s is not needed any more and can't be removed: %s.", folder / JOURNAL, error
        )


def _pieces(folder: ObjectStoragePath, journal: Sequence[tuple[str, int]]) -> list[ObjectStoragePath]:
    return [_piece(folder, writer, number) for writer, files in journal for number in range(files)]


def _part(folder: ObjectStoragePath, number: int) -> ObjectStoragePath:
    return folder / f"part-{number:05d}.jsonl"


def _piece(folder: ObjectStoragePath, writer: str, number: int) -> ObjectStoragePath:
    return folder / JOURNAL / f"{writer}-{number:06d}.jsonl"


def _before_the_first_request(error: StorageError | ValueError) -> IMSError:
    """Say that nothing has happened. What may heal is for Airflow to try again."""
    message = f"report: {error}. No request was sent to IMS"
    if isinstance(error, StorageError) and not error.final:
        return StorageError(message)
    return GuardError(message)
