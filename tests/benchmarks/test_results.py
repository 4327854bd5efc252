"""That the page of results is what the measured files say, and that a figure is judged as it is written."""

from __future__ import annotations

import pytest

from benchmarks.check import CHECKED, worse
from benchmarks.render import PAGE, page, read
from benchmarks.rows import Figure, from_json, load


def test_the_page_is_rendered_from_the_results_and_not_typed_in() -> None:
    assert PAGE.read_text(encoding="utf-8") == "\n".join(page(read()))


def test_what_is_checked_has_been_measured() -> None:
    found = read()
    for name in CHECKED:
        figures = load(name).figures(from_json(found[name]))
        assert any(figure.tolerance is not None for figure in figures), name
        assert not found[name]["short"]


@pytest.mark.parametrize(
    ("value", "bounds", "verdict"),
    [
        (0.8, {"at_most": 0.8}, "reached"),
        (0.81, {"at_most": 0.8}, "missed"),
        (90, {"at_least": 90}, "reached"),
        (89.9, {"at_least": 90}, "missed"),
        (5, {}, ""),
    ],
)
def test_a_figure_is_reached_or_missed(value: float, bounds: dict[str, float], verdict: str) -> None:
    assert Figure("it", value, **bounds).verdict == verdict


@pytest.mark.parametrize(("value", "is_worse"), [(1.0, False), (1.4, False), (1.41, True), (0.1, False)])
def test_worse_is_beyond_tolerance_and_slack(value: float, is_worse: bool) -> None:
    now = Figure("it", value, tolerance=1.3, slack=0.1)
    assert worse(now, Figure("it", 1.0)) is is_worse
