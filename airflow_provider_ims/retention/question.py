"""The question that is put to the person who approves a plan: a short Markdown text for an approval form.

Whose text is not the package's own is shown as code, as it stands: Markdown finds neither links nor markup in that.
"""

from __future__ import annotations

import re
from typing import Any

from airflow_provider_ims.retention.plan import Plan, file_size, printable

TITLES_SHOWN = 5
MAX_TITLE = 80
MAX_SENTENCE = 500


def write_question(plan: Plan, page: object, link: str = "") -> str:
    """Return what somebody needs to know who decides whether a plan's media are deleted.

    :param page: path of the page that shows the plan.
    :param link: an address at which a browser shows it; empty if there is none.
    """
    header = plan.header
    size = file_size(header["bytes"])
    if header["size_unknown"]:
        size += f" and {header['size_unknown']:,} of unknown size"
    parts = [
        f"**{header['selected']:,} of {header['population']:,} media** ({header['percent']}%, {size}) in "
        f"{_place(header)} would be deleted, and can't be brought back."
    ]
    if header["selected"]:
        oldest, newest = (str(header[name])[:10] for name in ("oldest", "newest"))
        shown = _spread(plan.first, plan.last)
        which = (
            "They"
            if len(shown) == header["selected"]
            else f"{len(shown)} of them, from the oldest to the newest"
        )
        parts += [
            f"The oldest was created {oldest}, the newest {newest}. {which}:",
            "\n".join(map(_line, shown)),
        ]
    parts += [
        "A medium is selected if it",
        "\n".join(f"- {_code(sentence, MAX_SENTENCE)}" for sentence in plan.policy.describe()),
        (f"[Look at all of them]({link}). " if link else "") + f"The plan's page is {_code(page, 2000)}.",
        f"The plan is {_code(plan.path, 2000)}, SHA-256 {_code(plan.digest)}.",
    ]
    return "\n\n".join(parts)


def _place(header: dict[str, Any]) -> str:
    host = _code(header["host"])
    return f"{_code(header['region'])} ({host})" if header["region"] else host


def _spread(first: list[dict[str, Any]], last: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a few rows: the oldest, the newest, and some between them of those that are at hand."""
    rows = first + last
    if len(rows) <= TITLES_SHOWN:
        return rows
    return [rows[index * (len(rows) - 1) // (TITLES_SHOWN - 1)] for index in range(TITLES_SHOWN)]


def _line(row: dict[str, Any]) -> str:
    title = _code(row["title"], MAX_TITLE) if row["title"] else "without a title"
    size = "unknown size" if row["size"] is None else file_size(row["size"])
    return f"- {title}, {row['created'][:10]}, {size}"


def _code(value: object, longest: int = MAX_TITLE) -> str:
    """Return anybody's text as a code span: between more backticks than it has in a row."""
    text = printable(value, longest)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}" if "`" in text or text != text.strip() else f"{fence}{text}{fence}"
