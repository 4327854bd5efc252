"""The one reader of lists: every spelling names the same, and what is no list is refused by name."""

from __future__ import annotations

import json
import uuid
from collections import deque
from typing import Any

import numpy
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_ims.arguments import (
    is_nothing,
    read_bool,
    read_list,
    read_percent,
    read_whole_number,
    read_words,
)
from airflow_provider_ims.deletion.targets import read_targets

IDS = st.lists(st.text("0123456789abcdef", min_size=32, max_size=32), min_size=2, max_size=6, unique=True)
TAGS = st.lists(
    st.text("abcXYZ01-_ 中é", min_size=2, max_size=8).map(lambda tag: f"t{tag.replace('  ', ' -')}t"),
    min_size=2,
    unique=True,
)
SPELLINGS = (
    list,
    tuple,
    set,
    frozenset,
    iter,
    deque,
    numpy.array,
    pandas.Series,
    pandas.Index,
    lambda items: dict.fromkeys(items).keys(),
    ",".join,
    "\n".join,
    "\r\n".join,
    ", \n".join,
    json.dumps,
    lambda items: json.dumps(items, ensure_ascii=False, indent=2),
    str,
    lambda items: str(tuple(items)),
    lambda items: str(set(items)),
)
# Not one of them is a list, though each is made of one.
NO_LISTS = (
    ";".join,
    "|".join,
    "、".join,
    "，".join,
    "；".join,
    "｜".join,
    "\t".join,
    lambda items: str(items).replace(",", ""),  # numpy
    lambda items: "\n".join(f'"{item}"' for item in items),  # CSV
    lambda items: ",".join(f"'{item}'" for item in items),
    lambda items: "[" + ",".join(items) + "]",
    lambda items: [",".join(items)],
    lambda items: ["\n".join(items)],
    lambda items: [items],
    lambda items: str([items]),
    lambda items: [*items, None],
    lambda items: [*items, ""],
    lambda items: str([*items, None]),
    lambda items: ",".join([*items, "None"]),
    lambda items: ",,".join(items),
    lambda items: "," + ",".join(items),
    lambda items: ",".join([*items, "nan"]),
    lambda items: dict.fromkeys(items, 1),
    lambda items: json.dumps(dict.fromkeys(items, 1)),
    lambda items: str(items)[:-1],
    lambda items: str(items).encode(),
    lambda items: pandas.DataFrame({name: [name] for name in items}),
    lambda items: numpy.array([items]),
    lambda items: numpy.array(items[0]),
    lambda items: str(frozenset(items)),
    lambda items: str(deque(items[:1])),
    lambda items: str(dict.fromkeys(items[:1]).keys()),
    lambda items: str(pandas.Series(items)),
    lambda items: str(pandas.Index(items[:1])),
    lambda items: "\n".join(f"- {item}" for item in items),
    lambda items: "\n".join(f"* {item}" for item in items),
    lambda items: f"- {items[0]}",
    lambda items: "\n".join(f"{number}. {item}" for number, item in enumerate(items, start=1)),
    lambda items: "\n".join(f"{item}: true" for item in items),
    lambda items: r"\n".join(items),
    lambda items: " ".join(f"#{item}" for item in items),
    lambda items: f"´{items[0]}´",
    lambda items: f"tags=['{items[0]}']",
    lambda items: f"tags=[{items[0]}]",
    lambda items: [*items, "False"],
    lambda items: [*items, "NaT"],
    lambda items: [*items, "\u200b"],
    lambda _: "False",
    lambda _: "N/A",
)


@given(IDS, st.sampled_from(SPELLINGS))
def test_every_spelling_names_the_same_media(ids: list[str], spell: Any) -> None:
    targets = read_targets(media_ids=spell(ids))
    assert [target.value for target in targets] == sorted(ids)
    assert targets.digest == read_targets(media_ids=ids[::-1]).digest


@given(TAGS, st.sampled_from(SPELLINGS))
def test_every_spelling_names_the_same_tags(tags: list[str], spell: Any) -> None:
    assert read_words("exclude_tags", spell(tags)) == tuple(sorted(tags))


@given(IDS, st.sampled_from(NO_LISTS))
def test_what_is_no_list_of_ids_is_refused_by_name(ids: list[str], spoil: Any) -> None:
    with pytest.raises(ValueError, match=r"^media_ids") as refused:
        read_targets(media_ids=spoil(ids))
    assert len(str(refused.value)) < 250


@given(TAGS, st.sampled_from(NO_LISTS))
def test_what_is_no_list_of_tags_is_refused_by_name(tags: list[str], spoil: Any) -> None:
    with pytest.raises(ValueError, match=r"^exclude_tags"):
        read_words("exclude_tags", spoil(tags))


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ("keep\nhold", ("hold", "keep")),
        ("{'keep', 'hold'}", ("hold", "keep")),
        ({"keep", "hold"}, ("hold", "keep")),
        ("keep (old)", ("keep (old)",)),
        ("#keep", ("#keep",)),
        ("hdr:true", ("hdr:true",)),
        ("重要・保留\n保留\u3000重要\nمهم\u200f", ("مهم\u200f", "保留\u3000重要", "重要・保留")),
        (["1. Bundesliga", "2. Bundesliga"], ("1. Bundesliga", "2. Bundesliga")),
        (["- 完结 -", "• live"], ("- 完结 -", "• live")),
        (["a  b", r"C:\media", "audio: no"], (r"C:\media", "a  b", "audio: no")),
        ('["a  b"]', ("a  b",)),
        ("['a  b']", ("a  b",)),
        (["#中秋 #国庆", "team:[sports]", "type:(promo)"], ("#中秋 #国庆", "team:[sports]", "type:(promo)")),
        (["[4K] Hits", "(Live) Hits", "「特別」映像"], ("(Live) Hits", "[4K] Hits", "「特別」映像")),
        (["'90s", "Kids'", '5"', "<3"], ("'90s", '5"', "<3", "Kids'")),
        (["👨\u200d👩\u200d👧", "می\u200cخواهم"], ("می\u200cخواهم", "👨\u200d👩\u200d👧")),
        ("keep-it\nproject: news\na/b\n1. FC", ("1. FC", "a/b", "keep-it", "project: news")),
        ("[\"rock'n'roll\"]", ("rock'n'roll",)),
    ],
)
def test_tags(given_: Any, words: tuple[str, ...]) -> None:
    assert read_words("exclude_tags", given_) == words


@pytest.mark.parametrize(
    "no_tags",
    [
        *(
            ["keep,hold"],
            "['A' 'B']",
            "'keep'",
            '"keep"',
            "[keep]",
            "keep;",
            "keep,",
            ["(keep)"],
            "keep\x0bhold",
        ),
        *("'90s", ["frozenset({'keep'})"], ["'keep'"], ["「keep」"], ["[keep"], ["keep]"], "<3 > 2"),
        ["keep\u2028hold"],
    ],
)
def test_no_tags(no_tags: Any) -> None:
    with pytest.raises(ValueError, match=r"^require_tags"):
        read_words("require_tags", no_tags)


@pytest.mark.parametrize(
    "nothing",
    [
        None,
        "",
        " \n",
        "None",
        "none",
        "NULL",
        "[]",
        "()",
        "{}",
        "set()",
        "frozenset()",
        "\u200b",
        "\x00",
        [],
        {},
        set(),
        numpy.array([]),
    ],
    ids=repr,
)
def test_nothing(nothing: Any) -> None:
    assert is_nothing(nothing)
    assert list(read_list("media_ids", nothing)) == []
    with pytest.raises(ValueError, match=r"names nothing"):
        read_words("exclude_tags", nothing)
    with pytest.raises(ValueError, match=r"preview is"):
        read_bool("preview", nothing)


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (7, r"\(int\), not a text"),
        (b"aaaa", r"\(bytes\), not a text"),
        (uuid.UUID(int=7), r"\(UUID\), not a text"),
        ({"media_id": "a"}, r"\(dict\), not a text"),
        (None, "names nothing"),
        (float("nan"), "names nothing"),
        (pandas.NA, "names nothing"),
        (pandas.NaT, "names nothing"),
    ],
    ids=repr,
)
def test_an_item_that_is_no_text_is_not_called_nothing(item: Any, words: str) -> None:
    with pytest.raises(ValueError, match=rf"^media_ids\[1\] is .*{words}"):
        list(read_list("media_ids", ["a", item]))


@pytest.mark.parametrize(
    "number", ["-1", "1.0", "1e3", "+1", "1_0", "٥", "five", True, 1.0, "", "9" * 5000, [1]]
)
def test_no_whole_number(number: Any) -> None:
    with pytest.raises(ValueError, match=r"^max_media is"):
        read_whole_number("max_media", number, least=0)


@pytest.mark.parametrize(
    ("text", "value"), [("20", 20.0), (" 12.5\n", 12.5), (".5", 0.5), (0, 0.0), (100, 100.0), (None, None)]
)
def test_percentages(text: Any, value: float | None) -> None:
    assert read_percent("max_percent", text) == value


@pytest.mark.parametrize(
    "text",
    [
        "-1",
        "+1",
        "1_0",
        "1e1",
        "0x1",
        "٥",
        "５",
        "1.",
        ".",
        "1,5",
        "20%",
        "100.1",
        "nan",
        "inf",
        "",
        "9" * 5000,
        -0.1,
        100.1,
        float("nan"),
        float("inf"),
        10**400,
        True,
        "all",
        [1],
    ],
)
def test_no_percentages(text: Any) -> None:
    with pytest.raises(ValueError, match=r"^max_percent is"):
        read_percent("max_percent", text)


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), (" False\n", False), ("TRUE", True), (False, False)]
)
def test_bools(text: Any, value: bool) -> None:
    assert read_bool("preview", text) is value


@pytest.mark.parametrize("text", ["yes", "1", 1, 0, "on", "t"])
def test_no_bools(text: Any) -> None:
    with pytest.raises(ValueError, match=r"^preview is"):
        read_bool("preview", text)


def test_a_message_shows_no_signature() -> None:
    for value in (
        ["oss://b/k?Signature=abc", 7],
        [["oss://b/k?Signature=abc"]],
        "['oss://b/k?Signature=abc' 'x']",
    ):
        with pytest.raises(ValueError, match=r"^input_urls") as refused:
            read_targets(input_urls=value)
        assert "Signature" not in str(refused.value)
