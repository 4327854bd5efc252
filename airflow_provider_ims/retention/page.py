"""A page that shows a plan to the person who approves it: one HTML file that loads nothing.

``templates/plan_page.html`` says how it looks, ``templates/plan_parts.html`` what it has in common with the page in
Airflow's UI. Titles, URLs and tags come from whoever uploaded the media: the filter ``text`` escapes each, cuts it
where it is long, shows control characters as their codes, and isolates it, so that right-to-left text can't rearrange
what stands around it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from airflow_provider_ims.files.storage import write_whole
from airflow_provider_ims.retention.plan import Plan, file_size, page_path, printable
from airflow_provider_ims.retention.policy import describe_exclusion, read_policy

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
    path = page_path(plan.path)
    write_whole(path, [render(plan).encode()], "text/html; charset=utf-8")
    return path


def render(plan: Plan) -> str:
    """Return the page."""
    template = make_environment().get_template("plan_page.html")
    summary = PlanSummary(plan.header)
    return template.render(plan=summary, path=plan.path, digest=plan.digest, first=plan.first, last=plan.last)


def make_environment(*packages: str) -> Environment:
    """Return what renders the templates of ``packages``, which may use those of this one, and escapes all values."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in (*packages, __package__)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "text": escape_text,
        "count": lambda number: f"{number:,}",
        "size": lambda size: file_size(size) if type(size) is int else "unknown",
    }
    return environment


class PlanSummary:
    """What a plan's first line says, as its pages show it.

    :param header: the first line.
    :raises ValueError: it is no plan's; so do ``KeyError``, ``TypeError`` and ``AttributeError`` say.
    """

    def __init__(self, header: Mapping[str, Any]) -> None:
        self.header = header
        self.policy = read_policy(header["policy"]).describe()
        self.selected, self.population = int(header["selected"]), int(header["population"])
        self.refused = header["refused"]
        unknown = int(header["size_unknown"])
        self.figures = [
            (f"{self.selected:,}", "media selected"),
            (f"{header['percent']}%", f"of {self.population:,} media"),
            (
                file_size(int(header["bytes"])),
                f"and {unknown:,} of unknown size" if unknown else "in files",
            ),
            (str(header["oldest"] or "none")[:10], "the oldest was created"),
            (str(header["newest"] or "none")[:10], "the newest was created"),
            (f"{int(header['undecided']):,}", "undecided, and so kept"),
        ]
        self.kept = [(describe_exclusion(by), by, int(count)) for by, count in header["kept"].items()]
        # A part of a plan, made for one of many tasks, knows neither.
        self.bars, self.period = make_bars(header.get("months") or {})
        self.types = [
            (kind, int(count), int(size)) for kind, (count, size) in (header.get("types") or {}).items()
        ]


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
