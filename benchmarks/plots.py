"""The plots."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, MaxNLocator

from benchmarks import imports, limit
from benchmarks.rows import Measured

# Okabe and Ito's colours, which people with any kind of colour vision tell apart; and a shape for each.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#777777"
STYLES = ((BLUE, "-", "o"), (ORANGE, "--", "s"), (GREEN, "-.", "^"), (PURPLE, ":", "D"))

plt.rcParams |= {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "axes.axisbelow": True,
    "figure.dpi": 110,
    "svg.hashsalt": "ims",  # the same data give the same file
    "svg.fonttype": "none",
}


def save(figure: Any, file: Path) -> None:
    """Write a plot, without the time and the library's name in it."""
    nothing = {"Date": None, "Creator": None} if file.suffix == ".svg" else {"Software": None}
    figure.savefig(file, metadata=nothing, bbox_inches="tight")
    plt.close(figure)


def draw_imports(measured: Measured) -> Any:
    """Bars for the time of each import."""
    names = list(measured.samples)
    values = [measured.samples[name]["milliseconds"] for name in names]
    middles = [statistics.median(found) for found in values]
    figure, axes = plt.subplots(figsize=(8, 2.9))
    colours = [BLUE if name == imports.OURS else GREY for name in names]
    spread = [
        [middle - min(found) for middle, found in zip(middles, values, strict=True)],
        [max(found) - middle for middle, found in zip(middles, values, strict=True)],
    ]
    axes.barh(names, middles, color=colours, xerr=spread, error_kw={"capsize": 3, "lw": 1})
    right = max(max(found) for found in values)
    for row, (name, middle) in enumerate(zip(names, middles, strict=True)):
        modules = statistics.median(measured.samples[name]["modules"])
        axes.text(
            max(values[row]) + right * 0.015, row, f"{middle:,.0f} ms, {modules:,.0f} modules", va="center"
        )
    axes.set_xlim(0, right * 1.45)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("import beyond Airflow's common base (ms): median, least and most")
    return figure


def draw_limit(measured: Measured) -> Any:
    """A panel for each limit, a column for each delay: the share used over time."""
    rates = list(dict.fromkeys(watch.limit for watch in limit.WATCHES))
    delays = list(dict.fromkeys(watch.answer_ms for watch in limit.WATCHES))
    figure, panels = plt.subplots(len(rates), len(delays), figsize=(10, 10), layout="constrained")
    for watch in limit.WATCHES:
        axes = panels[rates.index(watch.limit)][delays.index(watch.answer_ms)]
        for name, (colour, line, _) in zip(limit.CONTENDERS, STYLES, strict=True):
            if points := measured.curves.get(watch.row_of(name)):
                thick = 2.4 if name == limit.OURS else 1.4
                axes.plot(*zip(*points, strict=True), line, color=colour, lw=thick, label=name)
        axes.axhline(100, color="black", lw=0.8)
        axes.set_ylim(0, 135)
        axes.set_xlim(0, watch.seconds)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if watch.reachable < watch.limit:
            axes.axhline(100 * watch.reachable / watch.limit, color=GREY, lw=0.8, ls="--")
        refused = [
            statistics.median(found["throttled"])
            for name in watch.contenders
            if (found := measured.samples.get(watch.row_of(name)))
        ]
        words = ", ".join(f"{share:.0f}" for share in refused)
        axes.set_title(
            f"{watch.limit:,} a second at {watch.answer_ms} ms (throttled: {words} %)",
            loc="left",
            fontsize=10,
        )
    for row in panels:
        row[0].set_ylabel("share of the limit used (%)")
    for axes in panels[-1]:
        axes.set_xlabel("time since the first request (s)")
    figure.legend(
        *panels[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False
    )
    return figure


def draw_size(measured: Measured) -> Any:
    """Time and memory against the number of media, both on plain logarithmic axes."""
    sizes = [int(name.split()[0].replace(",", "")) for name in measured.samples]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axes, quantity, (colour, _, mark) in (
        (left, "seconds", STYLES[0]),
        (right, "megabytes", STYLES[0]),
    ):
        values = [found[quantity] for found in measured.samples.values()]
        middles = [statistics.median(found) for found in values]
        spread = [
            [middle - min(found) for middle, found in zip(middles, values, strict=True)],
            [max(found) - middle for middle, found in zip(middles, values, strict=True)],
        ]
        axes.errorbar(sizes, middles, yerr=spread, color=colour, marker=mark, capsize=3, label="measured")
        axes.set_xlabel("media")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,.0f}"))
        if quantity == "seconds":
            axes.set_xscale("log")
            axes.set_yscale("log")
            fifth = middles[sizes.index(200_000)] if 200_000 in sizes else middles[-1]
            at = 200_000 if 200_000 in sizes else sizes[-1]
            axes.plot(sizes, [fifth * size / at for size in sizes], "--", color=GREY, label="in proportion")
            axes.set_ylabel("time (s)")
            axes.yaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:,g}"))
        else:
            axes.xaxis.set_major_locator(plt.FixedLocator([0, 250_000, 500_000, 750_000, 1_000_000]))
            axes.set_ylim(0, max(middles) * 1.2)
            axes.set_ylabel("peak memory of the task's process (MB)")
        axes.legend(frameon=False, loc="lower right")
    return figure


DRAWINGS: dict[str, Callable[[Measured], Any]] = {
    "imports": draw_imports,
    "limit": draw_limit,
    "size": draw_size,
}
