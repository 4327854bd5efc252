"""Pages of JSON lines: each row once, in order, in both directions, whatever the sizes of lines and files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_ims.files.storage import to_line
from airflow_provider_ims.web import lines as lines_module
from airflow_provider_ims.web.lines import PAGE_ROWS, Lines, Page, RowQuery

FIELDS = ("media_id", "title", "tags")
NOTHING = RowQuery(FIELDS)


def write(folder: Path, *parts: list[Any]) -> Lines:
    files = []
    for number, part in enumerate(parts):
        file = folder / f"part-{number}.jsonl"
        file.write_bytes(b"".join(line if isinstance(line, bytes) else to_line(line) for line in part))
        files.append(ObjectStoragePath(f"file://{file}"))
    return Lines(files)


def to_row(fields: Any) -> Any:
    return fields if "media_id" in fields else None


def rows(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [
        {"media_id": f"id-{number:05}", "title": "Take", "tags": ["raw"], **fields} for number in range(count)
    ]


def ids(page: Page) -> list[str]:
    return [row.get("media_id", "") for row in page.rows]


def go_through(lines: Lines, query: RowQuery, *, backward: bool) -> list[str]:
    """Follow the links from the first page to the last, or from the last to the first."""
    found: list[str] = []
    page = lines.page(query, to_row, before=lines.size) if backward else lines.page(query, to_row)
    while True:
        assert len(page.rows) <= PAGE_ROWS
        found = ids(page) + found if backward else found + ids(page)
        if backward:
            if page.before is None:
                return found
            page = lines.page(query, to_row, before=page.before)
        else:
            if page.after is None:
                return found
            page = lines.page(query, to_row, after=page.after)


titles = st.text(max_size=40) | st.sampled_from(['"', "\\", "\u2028", "ÄÖ", "晨间新闻", "\ud800", "a" * 3000])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.lists(st.lists(titles, max_size=70), min_size=1, max_size=4),
    text=titles,
    piece=st.sampled_from([1, 7, 64, 2**16]),
    last_newline=st.booleans(),
)
def test_each_row_is_found_once_in_both_directions(
    tmp_path: Path, parts: list[list[str]], text: str, piece: int, last_newline: bool
) -> None:
    text = text.encode("utf-8", "ignore").decode().strip()
    number = iter(range(10_000))
    library = [
        [{"media_id": f"m{next(number)}", "title": title, "tags": [title]} for title in part]
        for part in parts
    ]
    lines = write(tmp_path, [{"plan": 1}], *library)
    if not last_newline and library[-1]:
        file = tmp_path / f"part-{len(library)}.jsonl"
        file.write_bytes(file.read_bytes()[:-1])
        lines = Lines([path for path, _ in lines._files])
    every = [row for part in library for row in part]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines_module, "FIRST_PIECE", piece)
        for query, wanted in (
            (NOTHING, every),
            (RowQuery(FIELDS, text), [row for row in every if in_small_ascii(text, row)]),
        ):
            for backward in (False, True):
                found = go_through(lines, query, backward=backward)
                assert found == [row["media_id"] for row in wanted]


def in_small_ascii(text: str, row: dict[str, Any]) -> bool:
    def small(value: str) -> bytes:
        return value.encode("utf-8", "surrogatepass").lower()

    return small(text) in small(row["media_id"]) or small(text) in small(row["title"])


@pytest.mark.parametrize("backward", [False, True])
def test_any_offset_is_a_place(tmp_path: Path, backward: bool) -> None:
    lines = write(tmp_path, rows(3), rows(2))
    every = [b"id-00000", b"id-00001"]
    for offset in range(-5, lines.size + 5):
        page = (
            lines.page(NOTHING, to_row, before=offset)
            if backward
            else lines.page(NOTHING, to_row, after=offset)
        )
        assert all(row in [*rows(3), *rows(2)] for row in page.rows), (offset, page, every)


def test_a_line_that_cant_be_read_is_an_empty_row(tmp_path: Path) -> None:
    broken = [b"{\n", b'["media_id"]\n', b"[" * 100_000 + b"\n", b"\xff\xfe\n", b"\n"]
    lines = write(tmp_path, [*rows(1), *broken, *rows(1)])
    assert ids(lines.page(NOTHING, to_row)) == ["id-00000", "", "", "", "", "id-00000"]
    assert ids(lines.page(RowQuery(FIELDS, "media"), to_row)) == []


def test_an_outcome_is_found_without_reading_the_other_lines(tmp_path: Path) -> None:
    part = [*rows(300, outcome="deleted"), *rows(2, outcome="forbidden"), *rows(300, outcome="deleted")]
    lines = write(tmp_path, part)
    read: list[str] = []

    def noted(fields: Any) -> Any:
        read.append(fields["outcome"])
        return fields

    page = lines.page(RowQuery(FIELDS, outcome="forbidden"), noted)
    assert [row["outcome"] for row in page.rows] == ["forbidden"] * 2
    assert page.after is None
    assert read == ["forbidden"] * 2


def test_a_name_of_a_field_is_no_hit(tmp_path: Path) -> None:
    lines = write(tmp_path, rows(10))
    assert ids(lines.page(RowQuery(FIELDS, "title"), to_row)) == []
    assert ids(lines.page(RowQuery(FIELDS, "TAKE"), to_row)) == [f"id-{number:05}" for number in range(10)]


@pytest.mark.parametrize("backward", [False, True])
def test_a_search_stops_in_time_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backward: bool
) -> None:
    lines = write(tmp_path, rows(500), rows(1, title="needle"), rows(500))
    monkeypatch.setattr(lines_module, "SEARCH_SECONDS", -1)
    monkeypatch.setattr(lines_module, "FIRST_PIECE", 4000)
    query = RowQuery(FIELDS, "needle")
    page = lines.page(query, to_row, before=lines.size) if backward else lines.page(query, to_row)
    assert page.rows == []
    assert page.searched is not None
    assert 0 < page.searched < 1
    assert go_through(lines, query, backward=backward) == ["id-00000"]


def test_a_file_without_line_ends_is_refused(tmp_path: Path) -> None:
    lines = write(tmp_path, [b"x" * (3 << 20)])
    with pytest.raises(ValueError, match="longer than 1 MiB"):
        lines.page(NOTHING, to_row)
    with pytest.raises(ValueError, match="longer than 1 MiB"):
        lines.page(NOTHING, to_row, before=lines.size - 1)


def test_nothing_is_a_page_without_rows(tmp_path: Path) -> None:
    for lines in (Lines([]), write(tmp_path, [])):
        assert lines.page(NOTHING, to_row) == lines.page(NOTHING, to_row, before=0) == Page([], None, None)
        assert lines.first() == b""


def test_it_reads_a_page_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = write(tmp_path, rows(200_000))
    read: list[int] = []
    really = Lines._read

    def counted(self: Lines, start: int, end: int) -> bytes:
        read.append(end - start)
        return really(self, start, end)

    monkeypatch.setattr(Lines, "_read", counted)
    first = lines.page(NOTHING, to_row)
    last = lines.page(NOTHING, to_row, before=lines.size)
    assert ids(first)[0] == "id-00000"
    assert ids(last)[-1] == "id-199999"
    assert sum(read) < 300_000 < lines.size
    assert json.dumps(first.rows[0])
