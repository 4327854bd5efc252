"""Pages of a file of JSON lines, however large it is: found by byte offsets, so that nothing is indexed or kept.

A page says where the one before and the one after begin; the last is read from the end. A search goes through the
bytes from where a page begins, and when its time is up, a page says from where to search on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_ims.files.storage import MAX_LINE_BYTES, file_length, read_range, to_line

if TYPE_CHECKING:
    from airflow_provider_ims.compat import ObjectStoragePath

PAGE_ROWS = 50
SEARCH_SECONDS = 1.2
# The first bytes that are read are about a page, then it is a search: few round trips to a store, little memory.
FIRST_PIECE, LARGEST_PIECE = 2**16, 2**22

Fields = Mapping[str, Any]


class RowQuery(NamedTuple):
    """Which rows are asked for.

    :param text: that one of ``fields`` contains. The letters A to Z match in either case, all others as they are
        written: bytes are compared, which is what keeps a search in a million lines short.
    :param outcome: that a target of a deletion had.
    """

    fields: tuple[str, ...]
    text: str = ""
    outcome: str | None = None

    @property
    def needle(self) -> bytes:
        """What the line of such a row contains, in small letters."""
        if self.text:
            return to_line(self.text)[1:-2].lower()
        if self.outcome:
            return to_line({"outcome": self.outcome})[1:-2]
        return b"\n"  # as each line does

    def accepts(self, row: Fields) -> bool:
        """Whether a row is asked for."""
        if self.outcome and row.get("outcome") != self.outcome:
            return False
        text = _small(self.text)
        return any(text in _small(value) for value in self._values(row)) if text else True

    def _values(self, row: Fields) -> Iterator[str]:
        for name in self.fields:
            value = row.get(name)
            values = value if isinstance(value, list) else [value]
            yield from (one for one in values if isinstance(one, str))


class Page(NamedTuple):
    """Some rows; a line that can't be read is an empty one.

    :param before: offset that the page before this one ends at; None if this is the first.
    :param after: offset that the page after this one begins at; None if this is the last.
    :param searched: share of the file that was searched when the time was up; None if that did not happen.
    """

    rows: list[Fields]
    before: int | None
    after: int | None
    searched: float | None = None


class Lines:
    """The lines of some files, one after the other, addressed by their offset in all of them together."""

    def __init__(self, files: Sequence[ObjectStoragePath]) -> None:
        self._files = [(path, file_length(path)) for path in files]
        self.size = sum(size for _, size in self._files)

    def first(self) -> bytes:
        """Return the first line."""
        return next((piece.partition(b"\n")[0] for _, piece in self._forward(0)), b"")

    def page(
        self,
        query: RowQuery,
        to_row: Callable[[Fields], Fields | None],
        *,
        after: int = 0,
        before: int | None = None,
    ) -> Page:
        """Return the rows from the offset ``after`` on, or those that end at the offset ``before``.

        :param to_row: checks what a line holds; None for a line that is no row.
        """
        backward = before is not None
        begin = self._line_start(after if before is None else before)
        found: list[tuple[int, int, Fields]] = []
        stopped_at: int | None = None
        deadline = time.monotonic() + SEARCH_SECONDS
        for offset, piece in self._backward(begin) if backward else self._forward(begin):
            for start, line in _lines_with(query.needle, piece, backward=backward):
                row = _read(line, to_row)
                if row is not None and query.accepts(row):
                    found.append((offset + start, offset + start + len(line), row))
                    if len(found) > PAGE_ROWS:
                        break
            if len(found) > PAGE_ROWS:
                break
            if time.monotonic() > deadline:
                stopped_at = offset if backward else offset + len(piece)
                break
        more = len(found) > PAGE_ROWS
        found = sorted(found[:PAGE_ROWS])
        rows = [row for _, _, row in found]
        if stopped_at is not None and not 0 < stopped_at < self.size:
            stopped_at = None
        if backward:
            earlier = found[0][0] if more else stopped_at
            searched = None if stopped_at is None else 1 - stopped_at / self.size
            return Page(rows, earlier, begin if begin < self.size else None, searched)
        later = found[-1][1] if more else stopped_at
        searched = None if stopped_at is None else stopped_at / self.size
        return Page(rows, begin or None, later, searched)

    def _read(self, start: int, end: int) -> bytes:
        pieces = []
        begin = 0
        for path, size in self._files:
            low, high = max(start - begin, 0), min(end - begin, size)
            if low < high:
                pieces.append(read_range(path, low, high))
            begin += size
        return b"".join(pieces)

    def _line_start(self, offset: int) -> int:
        """Return where the first line begins that does not begin before an offset: anybody can ask for any."""
        if offset <= 0:
            return 0
        for start, piece in self._forward(min(offset, self.size) - 1):
            return min(start + piece.index(b"\n") + 1, self.size)
        return self.size

    def _forward(self, offset: int) -> Iterator[tuple[int, bytes]]:
        """Read pieces of whole lines, each with its offset, growing until they are large."""
        length, rest = FIRST_PIECE, b""
        while offset < self.size:
            end = min(offset + length, self.size)
            piece = rest + self._read(offset, end)
            start = offset - len(rest)
            if end == self.size and not piece.endswith(b"\n"):
                piece += b"\n"
            whole = piece.rfind(b"\n") + 1
            if whole:
                yield start, piece[:whole]
            rest = _checked(piece[whole:])
            offset, length = end, min(2 * length, LARGEST_PIECE)

    def _backward(self, offset: int) -> Iterator[tuple[int, bytes]]:
        """Read pieces of whole lines that end at a line's start, the nearest first."""
        length, rest = FIRST_PIECE, b"" if offset < self.size else self._missing_end()
        while offset > 0:
            begin = max(offset - length, 0)
            piece = self._read(begin, offset) + rest
            # What stands before the first line's end may have begun earlier.
            whole = piece.index(b"\n") + 1 if begin and b"\n" in piece else len(piece) if begin else 0
            if whole < len(piece):
                yield begin + whole, piece[whole:]
            rest = _checked(piece[:whole])
            offset, length = begin, min(2 * length, LARGEST_PIECE)

    def _missing_end(self) -> bytes:
        return b"" if self._read(self.size - 1, self.size) == b"\n" else b"\n"


def _lines_with(needle: bytes, piece: bytes, *, backward: bool) -> Iterator[tuple[int, bytes]]:
    """Find the lines that contain something, each with its offset in the piece."""
    text = piece.lower() if needle != b"\n" else piece
    at = text.rfind(needle) if backward else text.find(needle)
    while at >= 0:
        start, end = piece.rfind(b"\n", 0, at) + 1, piece.index(b"\n", at) + 1
        yield start, piece[start:end]
        at = text.rfind(needle, 0, start) if backward else text.find(needle, end)


def _small(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass").lower()


def _read(line: bytes, to_row: Callable[[Fields], Fields | None]) -> Fields | None:
    if line.isspace():
        return None
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return to_row(fields) if isinstance(fields, dict) else {}


def _checked(rest: bytes) -> bytes:
    if len(rest) > MAX_LINE_BYTES:
        raise ValueError(f"it has a line longer than {MAX_LINE_BYTES >> 20} MiB")
    return rest
