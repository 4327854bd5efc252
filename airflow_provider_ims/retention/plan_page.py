"""A page that shows a plan to the person who approves it: one HTML file that loads nothing.

Titles, URLs and tags come from whoever uploaded the media. Each is escaped, cut where it is long, and isolated, so
that right-to-left text can't rearrange what stands around it; control characters are shown as their codes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from airflow_provider_ims.files.storage import write_whole
from airflow_provider_ims.retention.plan import Plan, file_size

if TYPE_CHECKING:
    from airflow_provider_ims.compat import ObjectStoragePath

MAX_TEXT = 160
MAX_BARS = 36

STYLE = """
:root { color-scheme: light dark;
  --ink: #1d2329; --faint: #5c6670; --line: #d9dee3; --paper: #fff; --kept: #b9c3cc; --gone: #c2410c }
@media (prefers-color-scheme: dark) { :root {
  --ink: #e6e9ec; --faint: #9aa5af; --line: #39424b; --paper: #14181c; --kept: #4b5761; --gone: #f97316 } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 1100px; padding: 1.5rem 1rem 4rem;
  font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper) }
h1 { font-size: 1.5rem; margin: 0 0 .25rem }
h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem }
p { margin: .3rem 0 }
ul { margin: 0; padding-left: 1.2rem }
code { font: 13px/1.4 ui-monospace, monospace; overflow-wrap: anywhere }
.faint { color: var(--faint) }
.refused { border-left: .4rem solid var(--gone); padding: .6rem 1rem; margin: 1rem 0; font-weight: 600 }
.figures { display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; margin-top: 1.2rem }
.figures b { display: block; font-size: 1.6rem; line-height: 1.2 }
.wide { overflow-x: auto }
table { border-collapse: collapse }
th, td { padding: .3rem 1rem .3rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line) }
th { font-weight: 600; color: var(--faint) }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
.months, .rows { width: 100% }
.months td:nth-child(2) { width: 100%; min-width: 8rem }
.rows td { overflow-wrap: anywhere; min-width: 4.5rem }
.rows td:nth-child(2) { min-width: 16rem }
.rows td:first-child { white-space: nowrap }
.rows td:last-child { min-width: 9rem }
.bar { display: flex; height: 1rem; margin-top: .25rem }
.bar i { display: block }
.key i { display: inline-block; width: .8rem; height: .8rem; margin: 0 .3rem 0 1rem }
.gone { background: var(--gone) }
.kept { background: var(--kept) }
"""


def write_page(plan: Plan) -> ObjectStoragePath:
    """Write the page next to the plan; give its path."""
    path = plan.path.parent / f"{plan.path.name}.html"
    write_whole(path, [render(plan).encode()], "text/html; charset=utf-8")  # so that a console shows it
    return path


def render(plan: Plan) -> str:
    """Make the page."""
    header = plan.header
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="referrer" content="no-referrer">
<title>Plan to delete {header["selected"]:,} media</title>
<style>{STYLE}</style>
</head>
<body>
<h1>Plan to delete {header["selected"]:,} of {header["population"]:,} media</h1>
<p class="faint">IMS in {_text(header["region"] or "a region that the connection does not name")}
({_text(header["host"])}), ages counted to {_text(header["as_of"])}</p>
{_refusal(header["refused"])}
{_figures(header)}
<h2>Which media</h2>
<ul>{"".join(f"<li>{_text(words, MAX_TEXT * 10)}</li>" for words in plan.policy.in_words())}</ul>
<h2>Why the others stay</h2>
{_table(("kept by", "media"), ((_text(by), _count(count)) for by, count in header["kept"].items()))}
<h2>When they were created</h2>
<p class="key faint">media a {_period(plan)}:<i class="gone"></i>selected<i class="kept"></i>kept</p>
{_histogram(plan)}
<h2>What they are</h2>
{_types(plan)}
<h2>{"The oldest" if plan.last else "All of them"}</h2>
{_rows(plan.first)}
{"<h2>The newest</h2>" + _rows(plan.last) if plan.last else ""}
<h2>The plan itself</h2>
<p><code>{_text(plan.path, 2000)}</code></p>
<p>SHA-256 <code>{_text(plan.digest)}</code></p>
<p class="faint">This page is for reading. What is approved, and deleted, is the plan with this SHA-256.</p>
</body>
</html>
"""


def _refusal(refused: str | None) -> str:
    if refused is None:
        return ""
    return (
        f'<p class="refused" role="alert">Nothing can be deleted from this plan: {_text(refused, 2000)}.</p>'
    )


def _figures(header: Mapping[str, Any]) -> str:
    unknown = header["size_unknown"]
    figures = [
        (f"{header['selected']:,}", "media selected"),
        (f"{header['percent']}%", f"of {header['population']:,} media"),
        (file_size(header["bytes"]), f"and {unknown:,} media of unknown size" if unknown else "in files"),
        (str(header["oldest"] or "none")[:10], "the oldest was created"),
        (str(header["newest"] or "none")[:10], "the newest was created"),
        (f"{header['undecided']:,}", "undecided, and so kept"),
    ]
    shown = (
        f'<div><b>{_text(value)}</b><span class="faint">{_text(name)}</span></div>' for value, name in figures
    )
    return f'<div class="figures">{"".join(shown)}</div>'


def _period(plan: Plan) -> str:
    return "month" if len(plan.months) <= MAX_BARS else "year"


def _histogram(plan: Plan) -> str:
    letters = 7 if _period(plan) == "month" else 4
    bars: dict[str, tuple[int, int]] = {}
    for month, (count, selected) in plan.months.items():
        period = month[:letters] or "unknown"
        before = bars.get(period, (0, 0))
        bars[period] = before[0] + count, before[1] + selected
    most = max((count for count, _ in bars.values()), default=1)
    return _table(
        ("created", "", "selected", "all"),
        (
            (_text(period), _bar(selected / most, (count - selected) / most), _count(selected), _count(count))
            for period, (count, selected) in bars.items()
        ),
        "months",
    )


def _bar(gone: float, kept: float) -> str:
    return (
        f'<div class="bar"><i class="gone" style="width:{gone:.2%}"></i>'
        f'<i class="kept" style="width:{kept:.2%}"></i></div>'
    )


def _types(plan: Plan) -> str:
    return _table(
        ("type", "media", "size"),
        ((_text(kind), _count(count), _size(size)) for kind, (count, size) in plan.types.items()),
    )


def _rows(rows: Iterable[Mapping[str, Any]]) -> str:
    return _table(
        ("created", "title and URL", "type", "size", "tags", "media id"),
        (
            (
                _text(row["created"][:10]),
                f"{_text(row['title'] or 'without a title')}<br>"
                f'<code class="faint">{_text(row["input_url"] or "")}</code>',
                _text(row["media_type"]),
                _size(row["size"]),
                " ".join(_text(tag) for tag in row["tags"]),
                f"<code>{_text(row['media_id'])}</code>",
            )
            for row in rows
        ),
        "rows",
    )


def _table(names: Iterable[str], rows: Iterable[Iterable[str]], kind: str = "") -> str:
    """Make a table; a cell is HTML already."""
    head = "".join(f"<th>{_text(name)}</th>" for name in names)
    body = "".join(
        "<tr>" + "".join(cell if cell.startswith("<td") else f"<td>{cell}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    if not body:
        return '<p class="faint">none</p>'
    table = f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="wide">{table}</div>'


def _count(number: int) -> str:
    return f'<td class="number">{number:,}</td>'


def _size(count: int | None) -> str:
    return f'<td class="number">{"unknown" if count is None else file_size(count)}</td>'


def _text(value: object, longest: int = MAX_TEXT) -> str:
    """Make anybody's text harmless: cut, escaped, its direction isolated, its invisible characters shown."""
    text = str(value)
    if len(text) > longest:
        text = f"{text[:longest]}… ({len(text):,} characters)"
    shown = "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)
    return f"<bdi>{escape(shown)}</bdi>"
