"""``python -m benchmarks.render``: RESULTS.md and the plots, from the files in ``results``."""

from __future__ import annotations

import argparse
import json
import re
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.rows import NAMES, Measured, Quantity, Row, from_json, load

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
PAGE = HERE / "RESULTS.md"
PLOTS = HERE / "plots"

HEAD = """# Results

Measured by `make bench`, and written by `python -m benchmarks.render` from `results/*.json`; nothing is typed in.
Each row's contenders took turns on the same machine. Shown are medians, with the least and the most of all rounds in
brackets; ratios are medians of the ratios of each round. Single rows: `python -m benchmarks ROW`.
"""

PLOT_OF = {
    "imports": "What an import takes, and what it loads.",
    "limit": "Share of the limit that is used, over time.",
    "size": "Time and peak memory against the number of media.",
}


def render(
    results: Path = RESULTS, page_file: Path = PAGE, plots_folder: Path = PLOTS, kind: str = "svg"
) -> None:
    """Write the page and the plots.

    :param kind: of the plots' files: ``svg``, or ``png`` for a look.
    """
    from benchmarks import plots

    found = read(results)
    page_file.write_text("\n".join(page(found)), encoding="utf-8")
    for name, draw in plots.DRAWINGS.items():
        if name in found:
            plots_folder.mkdir(parents=True, exist_ok=True)
            plots.save(draw(from_json(found[name])), plots_folder / f"{name}.{kind}")


def read(results: Path = RESULTS) -> dict[str, Any]:
    """Give what was measured, row by row."""
    files = {name: results / f"{name}.json" for name in NAMES}
    return {
        name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.exists()
    }


def page(found: dict[str, Any]) -> Iterator[str]:
    """Give the page's lines."""
    yield HEAD
    yield from _machines(found)
    yield "## Figures to reach\n"
    yield "| row | figure | measured | to reach | |"
    yield "|---|---|---|---|---|"
    rows = {name: (load(name), from_json(value)) for name, value in found.items()}
    for row, measured in rows.values():
        for figure in row.figures(measured):
            if figure.verdict:
                yield f"| {row.number} | {figure.words} | {figure.text} | {figure.to_reach} | {figure.verdict} |"
    yield ""
    if missing := [name for name in NAMES if name not in found]:
        yield f"Not measured yet: {', '.join(missing)}.\n"
    for name, (row, measured) in rows.items():
        yield f"## {row.number}. {row.title}\n"
        yield f"{row.how}\n"
        yield from table(row, measured)
        yield ""
        for figure in row.figures(measured):
            verdict = f" ({figure.to_reach}: **{figure.verdict}**)" if figure.verdict else ""
            reason = f". {figure.reason}" if figure.verdict == "missed" and figure.reason else ""
            yield f"- {figure.words}: {figure.text}{verdict}{reason}"
        yield from (f"- {note}" for note in measured.notes)
        yield f"- Measured on {found[name]['measured']} in {found[name]['seconds']:,} s.\n"
        if name in PLOT_OF:
            yield f"![{PLOT_OF[name]}](plots/{name}.svg)\n"


def _machines(found: dict[str, Any]) -> Iterator[str]:
    """The machine and the versions, once where all rows agree."""
    groups: dict[str, list[str]] = {}
    for name, value in found.items():
        machine = value["machine"]
        words = (
            f"{machine['cores']} cores, {machine['processor']}, {machine['system']}, Python {machine['python']}; "
            + ", ".join(f"{package} {number}" for package, number in value["versions"].items())
        )
        groups.setdefault(words, []).append(str(load(name).number))
    for words, numbers in groups.items():
        where = "" if len(groups) == 1 else f"Rows {', '.join(numbers)}: "
        yield f"{where}{words}.\n"


def table(row: Row, measured: Measured) -> Iterator[str]:
    """The medians and spreads of all contenders."""
    quantities = {
        name: quantity
        for name, quantity in row.quantities.items()
        if any(name in values for values in measured.samples.values())
    }
    heads = [
        f"{quantity.words}{f', {quantity.unit}' if quantity.unit else ''}" for quantity in quantities.values()
    ]
    yield f"| | {' | '.join(heads)} | rounds |"
    yield f"|---|{'---:|' * len(heads)}---:|"
    for contender, values in measured.samples.items():
        cells = [_cell(values.get(name, []), quantity) for name, quantity in quantities.items()]
        rounds = max(len(found) for found in values.values())
        yield f"| {contender} | {' | '.join(cells)} | {rounds} |"


def _cell(values: list[float], quantity: Quantity) -> str:
    if not values:
        return "–"
    middle, least, most = (
        f"{value:,.{quantity.digits}f}" for value in (statistics.median(values), min(values), max(values))
    )
    return middle if least == most else f"{middle} ({least}–{most})"


def in_columns(lines: Iterator[str]) -> str:
    """A table for the terminal."""
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines
        if not re.fullmatch(r"[|:-]+", line)
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return "\n".join(
        "  "
        + "  ".join(
            f"{cell:{'<' if column == 0 else '>'}{width}}"
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in cells
    )


def main() -> None:
    """Render what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.render", description=__doc__)
    parser.add_argument("--png", type=Path, metavar="FOLDER", help="all of it, as PNG, elsewhere: for a look")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder to read from")
    arguments = parser.parse_args()
    if arguments.png:
        arguments.png.mkdir(parents=True, exist_ok=True)
        render(arguments.results, arguments.png / "RESULTS.md", arguments.png, "png")
    else:
        render(arguments.results)


if __name__ == "__main__":
    main()
