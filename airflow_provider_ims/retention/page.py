"""A page that shows a plan to the person who approves it: one HTML file that loads nothing.

``page.html.j2`` says how it looks. Titles, URLs and tags come from whoever uploaded the media: the filter ``text``
escapes each, cuts it where it is long, shows control characters as their codes, and isolates it, so that
right-to-left text can't rearrange what stands around it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from airflow_provider_ims.files.storage import write_whole
from airflow_provider_ims.retention.plan import Plan, file_size, printable
from airflow_provider_ims.retention.policy import describe_exclusion

if TYPE_CHECKING:
    from airflow_provider_ims.compat import ObjectStoragePath

MAX_TEXT = 160
MAX_BARS = 36


class Bar(NamedTuple):
    """The media of a month or a year, and both numbers in percent of the longest bar."""

    period: str
    selected: int
    media: int
    selected_percent: float
    kept_percent: float


def write_page(plan: Plan) -> ObjectStoragePath:
    """Write the page next to the plan; return its path.

    :raises StorageError: if it can't be written.
    """
    path = plan.path.parent / f"{plan.path.name}.html"
    write_whole(path, [render(plan).encode()], "text/html; charset=utf-8")
    return path


def render(plan: Plan) -> str:
    """Return the page."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= FILTERS
    template = environment.from_string((files(__package__) / "page.html.j2").read_text(encoding="utf-8"))
    bars, period = make_bars(plan.months)
    return template.render(
        plan=plan,
        header=plan.header,
        policy=plan.policy.describe(),
        kept=[(describe_exclusion(by), by, count) for by, count in plan.header["kept"].items()],
        bars=bars,
        period=period,
    )


def make_bars(months: Mapping[str, Sequence[int]]) -> tuple[list[Bar], str]:
    """Return the bars of the histogram, and whether each stands for a month or a year."""
    period, letters = ("month", 7) if len(months) <= MAX_BARS else ("year", 4)
    sums: dict[str, tuple[int, int]] = {}
    for month, (count, selected) in months.items():
        name = month[:letters] or "unknown"
        before = sums.get(name, (0, 0))
        sums[name] = before[0] + count, before[1] + selected
    percent = 100 / max((count for count, _ in sums.values()), default=1)
    bars = [
        Bar(name, selected, count, selected * percent, (count - selected) * percent)
        for name, (count, selected) in sums.items()
    ]
    return bars, period


def escape_text(value: object, longest: int = MAX_TEXT) -> Markup:
    """Return anybody's text as HTML that is but text."""
    return Markup("<bdi>{}</bdi>").format(escape(printable(value, longest)))


FILTERS: dict[str, Callable[..., str]] = {
    "text": escape_text,
    "count": lambda number: f"{number:,}",
    "size": lambda size: file_size(size) if type(size) is int else "unknown",
}
"""What a template shows values with."""
