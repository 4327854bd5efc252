"""The Chinese pages say what the English ones say: their code, names, tables, pictures and links are the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.test_docs import ROOT

TRANSLATED = {ROOT / "README.md": ROOT / "README.zh-CN.md"} | {
    ROOT / "docs" / page.name: page for page in sorted((ROOT / "docs/zh").glob("*.md"))
}
PAIRS = pytest.mark.parametrize(
    ("english", "chinese"), TRANSLATED.items(), ids=[page.name for page in TRANSLATED]
)
FENCE = re.compile(r"^(?:<!-- (?:file|not run): [^\n]+ -->\n)?```.*?^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
# Where Alibaba Cloud has the same page in English and in Chinese.
HELP = re.compile(r"^https://(?:www\.alibabacloud\.com/help|help\.aliyun\.com)/(\w+)/")
LINK = re.compile(r"(!?)\[((?:[^\[\]]|`[^`]*`)*)\]\(([^)\s]+)\)")


def prose(page: Path) -> str:
    """A page without its blocks of code, and without the link to its other language."""
    text = FENCE.sub("", page.read_text())
    return re.sub(r"\A(# [^\n]+\n)\n\[(?:中文|English)\]\([^)]+\)\n", r"\1", text)


def tables(page: Path) -> Iterator[list[list[str]]]:
    """The tables of a page, without their heads."""
    for table in re.findall(r"(?:^\|.*\n)+", prose(page), re.MULTILINE):
        _, _, *rows = [
            [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
            for line in table.splitlines()
        ]
        yield rows


def links(page: Path) -> list[tuple[str, Path | str]]:
    """Where its links and pictures lead, in order; a page stands for its translation."""
    english = {chinese: page for page, chinese in TRANSLATED.items()}
    found: list[tuple[str, Path | str]] = []
    for kind, _, target in LINK.findall(prose(page)):
        if "://" in target:
            found.append((kind, HELP.sub("help/", target)))
            continue
        path, _, _ = target.partition("#")
        resolved = (page.parent / path).resolve() if path else page
        found.append((kind, english.get(resolved, resolved)))
    return found


def anchors(page: Path) -> set[str]:
    """Of its headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_there_are_translations() -> None:
    names = {page.name for page in TRANSLATED}
    assert names == {"README.md", "connect.md", "transcoding.md", "retention.md", "troubleshooting.md"}


@PAIRS
def test_the_code_is_the_same(english: Path, chinese: Path) -> None:
    assert FENCE.findall(chinese.read_text()) == FENCE.findall(english.read_text())


@PAIRS
def test_the_names_are_the_same(english: Path, chinese: Path) -> None:
    """Parameters, files, commands, values: all that is set as code."""
    assert set(CODE.findall(prose(chinese))) == set(CODE.findall(prose(english)))


@PAIRS
def test_the_tables_are_the_same(english: Path, chinese: Path) -> None:
    """Row by row, all that is set as code; and first columns to the letter where they are nothing else."""
    ours, theirs = list(tables(english)), list(tables(chinese))
    assert [len(table) for table in theirs] == [len(table) for table in ours]
    for one, other in zip(ours, theirs, strict=True):
        for row, translated in zip(one, other, strict=True):
            assert len(row) == len(translated), translated
            assert CODE.findall(translated[0]) == CODE.findall(row[0])
            if not re.search(r"[A-Za-z]", CODE.sub("", row[0])):
                assert translated[0] == row[0]
            assert sorted(set(CODE.findall(" ".join(translated)))) == sorted(set(CODE.findall(" ".join(row))))


@PAIRS
def test_the_links_are_the_same(english: Path, chinese: Path) -> None:
    assert sorted(map(str, links(chinese))) == sorted(map(str, links(english)))


@PAIRS
def test_the_headings_are_as_many(english: Path, chinese: Path) -> None:
    levels = [
        [len(found) for found in re.findall(r"^(#+) ", FENCE.sub("", page.read_text()), re.MULTILINE)]
        for page in (english, chinese)
    ]
    assert levels[0] == levels[1]


@PAIRS
def test_each_link_to_a_page_that_is_translated_leads_to_the_translation(
    english: Path, chinese: Path
) -> None:
    for _, _, target in LINK.findall(prose(chinese)):
        if help_page := HELP.match(target):
            assert help_page[1] == "zh", target
        elif "://" not in target:
            path, _, anchor = target.partition("#")
            resolved = (chinese.parent / path).resolve() if path else chinese
            assert resolved.exists(), target
            assert resolved not in TRANSLATED, f"{target} is in English"
            if anchor:
                assert unquote(anchor) in anchors(resolved), target
