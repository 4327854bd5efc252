"""How arguments are read that a template may have rendered to text.

Strictly: what can't be read for certain is refused by name, since a wrong guess deletes too much, or waits for
nothing.
"""

from __future__ import annotations

import ast
import json
import re
import unicodedata
from collections.abc import Iterator, Sized
from typing import Any

from airflow_provider_ims.api.identifiers import has_control_character, is_list, is_no_name, is_visible, show

# How templates and hand-written conf spell nothing, whatever the case.
_NOTHING = frozenset({"none", "null", "[]", "()", "{}", "set()", "frozenset()"})
_BRACKETS = {"[": "]", "(": ")", "{": "}", "<": ">"}
_OPENING = {closing: opening for opening, closing in _BRACKETS.items()}
_QUOTES = frozenset("'\"`´“”„‘’‚«»‹›「」『』")
# Of a text's characters in their plain form (NFKC): what is meant to separate, and does not.
_OTHER_SEPARATORS = frozenset(";|、،؛\t")
# What Python prints as the beginning or the end of a set, a view or another object.
_PRINTED = re.compile(r"""[\[({<][\[({<'"]|['"\])}>][\])}>]""")
# What a word of a text has that is a piece of a list in some other spelling, or a column of a table.
_PIECE_OF_A_LIST = re.compile(
    r"""
      ^[-*+•‣▪◦]\s                           # an item of YAML or Markdown
    | :\s+(?:true|false|yes|no|null)$        # an entry of YAML
    | ^\#.*\s\#                              # several hashtags
    | \\                                     # a line end as the environment of a process spells it
    | =\s*[\[({<]                            # an argument
    | \s\s
    """,
    re.VERBOSE | re.IGNORECASE,
)
_NUMBERED = re.compile(r"[0-9]+[.)]\s")
_ONE_STRING = re.compile(rb"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")


def is_nothing(value: Any) -> bool:
    """Return whether an argument names nothing: None, an empty collection, or a text that stands for one."""
    if isinstance(value, Sized) and not isinstance(value, str):
        # An array of numpy may be a single value, which has no length.
        return getattr(value, "ndim", 1) != 0 and len(value) == 0
    text = str(value)
    return not is_visible(text) or text.strip().casefold() in _NOTHING


def check_one_input(**inputs: Any) -> None:
    """Refuse more than one input: which of them was meant can't be known, and IMS would drop one silently."""
    given = [name for name, value in inputs.items() if value is not None]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} are given, but only one of them can be")


def read_bool(name: str, given: Any) -> bool:
    """Return a bool, or what a text names: ``true`` or ``false``, whatever the case.

    :raises ValueError: for anything else, nothing least of all.
    """
    read = {"true": True, "false": False}.get(given.strip().casefold()) if isinstance(given, str) else given
    if type(read) is not bool:
        raise ValueError(f"{name} is {show(given)}, not True or False")
    return read


def read_whole_number(name: str, given: Any, *, least: int) -> int | None:
    """Return a number that may have been rendered to text; None for None.

    :raises ValueError: for anything but a whole number from ``least`` on.
    """
    if given is None:
        return None
    read = given
    if isinstance(given, str) and re.fullmatch(r"[0-9]{1,18}", given.strip()):
        read = int(given)
    if type(read) is not int or read < least:
        raise ValueError(f"{name} is {show(given)}, not a whole number from {least} on")
    return read


def read_percent(name: str, given: Any) -> float | None:
    """Return a percentage that may have been rendered to text; None for None.

    :raises ValueError: for anything but a number from 0 to 100.
    """
    if given is None:
        return None
    percent = read_decimal(given)
    if percent is None or not 0 <= percent <= 100:
        raise ValueError(f"{name} is {show(given)}, not a number from 0 to 100")
    return percent


def read_decimal(given: Any) -> float | None:
    """Return a number, or what a text spells in decimal notation; None for anything else.

    Python's own reading is laxer: it takes ``1_0`` for ten.
    """
    if isinstance(given, str):
        return float(given) if re.fullmatch(r"[0-9]{0,18}\.?[0-9]{1,18}", given := given.strip()) else None
    return float(given) if type(given) in (int, float) and abs(given) < 2**53 else None


def read_list(name: str, given: Any, *, trailing_comma: bool = True) -> Iterator[str]:
    """Yield the texts of a list, whichever way it is spelled, without surrounding blanks; nothing for nothing.

    :param name: the argument's, for messages.
    :param given: a list or any other iterable of texts; text with commas or line ends between items; or what
        templates make of a list, tuple or set: its JSON or Python spelling.
    :param trailing_comma: whether text may end in a comma.
    :raises ValueError: naming the value that is no list, or the item that is no text.
    """
    if is_nothing(given):
        return
    if isinstance(given, str):
        text = given.strip()
        if text[0] not in _BRACKETS:
            yield from _split(name, text, trailing_comma)
            return
        given = _parse(name, text)
    if not is_list(given):
        raise ValueError(f"{name}: {show(given)} is a {type(given).__name__}, not a list of texts")
    for position, value in enumerate(given):
        if isinstance(value, list | tuple | set | frozenset):
            raise ValueError(f"{name}[{position}] is a list itself: {show(value)}; give one list of texts")
        if is_no_name(str(value)):
            raise ValueError(f"{name}[{position}] is {show(value)}, which names nothing")
        if not isinstance(value, str):
            raise ValueError(f"{name}[{position}] is {show(value)} ({type(value).__name__}), not a text")
        yield value.strip()


def read_words(name: str, given: Any) -> tuple[str, ...]:
    """Return the words of a filter, such as tags, sorted and without duplicates.

    :raises ValueError: for no words, and for one that looks like several or like a piece of a list: with a comma,
        another separator or a control character in it, a quote or a bracket around it; in text also as YAML and
        others write the items of a list.
    """
    words = list(read_list(name, given, trailing_comma=False))
    is_text = isinstance(given, str) and given.strip()[:1] not in _BRACKETS
    for word in words:
        plain = unicodedata.normalize("NFKC", word)
        if "," in plain or _OTHER_SEPARATORS.intersection(plain):
            raise ValueError(f"{name}: {show(word)} looks like several; separate them by commas or line ends")
        if has_control_character(word):
            raise ValueError(f"{name}: {show(word)} has a control character")
        if _is_enclosed(word, is_text=is_text):
            raise ValueError(
                f"{name}: {show(word)} looks like a piece of a list; leave quotes and brackets out"
            )
        if is_text and (
            _PIECE_OF_A_LIST.search(word) or (len(words) > 1 and all(map(_NUMBERED.match, words)))
        ):
            raise ValueError(f"{name}: {show(word)} looks like a piece of a list; give a list, not its text")
    if not words:
        raise ValueError(
            f"{name} is {show(given)}, which names nothing; leave it out to do without this filter"
        )
    return tuple(sorted(set(words)))


def _split(name: str, text: str, trailing_comma: bool) -> Iterator[str]:
    """Take text apart; blank lines and a comma at a line's end are how people write lists, an empty item is not."""
    lines = [line for line in re.split(r"[\r\n]+", text) if line.strip()]
    for number, line in enumerate(lines, start=1):
        items = [item.strip() for item in line.split(",")]
        if not items[-1] and (trailing_comma or number < len(lines)):
            items.pop()
        for item in items:
            if is_no_name(item):
                raise ValueError(f"{name}: {show(line)} has an item that names nothing")
            yield item


def _parse(name: str, text: str) -> list[Any]:
    """Read JSON's spelling of a list, or Python's of a list, tuple or set."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = _parse_python(name, text)
    if not isinstance(value, list):
        raise ValueError(f"{name}: {show(text)} is no list")
    return value


def _parse_python(name: str, text: str) -> list[Any]:
    no_list = ValueError(f"{name}: {show(text)} begins like a list, but is none")
    try:
        node = ast.parse(text, mode="eval").body
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise no_list from None
    if not isinstance(node, ast.List | ast.Tuple | ast.Set):
        raise no_list
    lines = text.encode().splitlines(keepends=True)
    values = []
    for position, item in enumerate(node.elts):
        if isinstance(item, ast.List | ast.Tuple | ast.Set):
            raise ValueError(f"{name}[{position}] is a list itself; give one list of texts")
        if not isinstance(item, ast.Constant):
            raise no_list
        source = lines[item.lineno - 1][item.col_offset : item.end_col_offset]
        # Python takes 'A' 'B' for one text, which is how numpy spells two.
        if isinstance(item.value, str) and not (
            item.lineno == item.end_lineno and _ONE_STRING.fullmatch(source)
        ):
            raise ValueError(
                f"{name}[{position}]: {show(source.decode())} is not one text; is a comma missing?"
            )
        values.append(item.value)
    return values


def _is_enclosed(word: str, *, is_text: bool) -> bool:
    """Whether something around a word is a list's and not its own.

    :param is_text: it was cut out of a text, which may have left a quote at one end.
    """
    quotes = (word[0] in _QUOTES) + (word[-1] in _QUOTES)
    if quotes == 2 or (quotes and is_text) or _PRINTED.search(word):
        return True
    closing, opening = _BRACKETS.get(word[0]), _OPENING.get(word[-1])
    if closing and (word.endswith(closing) or closing not in word):
        return word[0] != "<" or word.endswith(closing)  # alone it is a sign for "less"
    return opening is not None and opening not in word
