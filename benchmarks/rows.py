"""What a row of the benchmarks is, and how its figures are computed from what was measured."""

from __future__ import annotations

import importlib
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

Samples = dict[str, dict[str, list[float]]]
"""Contender -> quantity -> a value for each round."""

NAMES = ("imports", "cost", "latency", "limit", "size", "waiting", "planning", "resuming", "store")
"""The modules with a row each, in the order of the table."""


@dataclass(frozen=True)
class Quantity:
    """Something measured for each contender, such as seconds.

    :param digits: shown after the point.
    """

    words: str
    unit: str
    digits: int = 0


@dataclass(frozen=True)
class Figure:
    """One number that a row is judged by; nothing is judged where there is neither a least nor a most.

    :param tolerance: the short run of ``make bench-check`` may be so many times worse than what is committed;
        None where a short run can't tell.
    :param slack: and by so much in the figure's own unit, whatever the ratio, before that counts.
    :param reason: why it falls short, when it does.
    """

    words: str
    value: float
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None
    digits: int = 2
    tolerance: float | None = None
    slack: float = 0.0
    reason: str = ""

    @property
    def verdict(self) -> str:
        """``reached``, ``missed``, or nothing when there is no figure to reach."""
        if self.at_most is None and self.at_least is None:
            return ""
        low = self.at_least is None or self.value >= self.at_least
        return "reached" if low and (self.at_most is None or self.value <= self.at_most) else "missed"

    @property
    def to_reach(self) -> str:
        """The bound in words."""
        if self.at_most is not None:
            return f"at most {self.at_most:,g} {self.unit}".strip()
        return f"at least {self.at_least:,g} {self.unit}".strip() if self.at_least is not None else ""

    @property
    def text(self) -> str:
        """The value in words."""
        return f"{self.value:,.{self.digits}f} {self.unit}".strip()


@dataclass
class Measured:
    """What came of a row.

    :param samples: the rounds.
    :param curves: what a plot shows beyond them: name -> points.
    :param notes: sentences about this very run.
    """

    samples: Samples
    curves: dict[str, list[list[float]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Row:
    """A row of the benchmarks.

    :param how: what is done, in a few sentences.
    :param measure: runs it; its argument asks for the short run.
    :param figures: computes what the row is judged by.
    """

    number: int
    name: str
    title: str
    how: str
    quantities: dict[str, Quantity]
    measure: Callable[[bool], Measured]
    figures: Callable[[Measured], list[Figure]]


def load(name: str) -> Row:
    """Give a row by its name; its packages are imported only now."""
    row: Row = importlib.import_module(f"benchmarks.{name}").ROW
    return row


def median(samples: Samples, contender: str, quantity: str) -> float:
    """The middle of all rounds."""
    return statistics.median(samples[contender][quantity])


def ratio(samples: Samples, quantity: str, ours: str, theirs: str) -> float:
    """The middle of the ratios of each round: what disturbs the machine for longer disturbs both."""
    pairs = zip(samples[ours][quantity], samples[theirs][quantity], strict=True)
    return statistics.median(mine / other for mine, other in pairs)


def in_alternation(
    rounds: int, contenders: Sequence[str], measure: Callable[[str], dict[str, float]]
) -> Samples:
    """Measure each contender once a round, so that none has the quiet minute for itself; odd rounds backwards."""
    samples: Samples = {contender: {} for contender in contenders}
    for number in range(rounds):
        for contender in contenders[:: 1 if number % 2 == 0 else -1]:
            for quantity, value in measure(contender).items():
                samples[contender].setdefault(quantity, []).append(value)
    return samples


def from_json(value: dict[str, Any]) -> Measured:
    """Read what :mod:`benchmarks.__main__` wrote."""
    return Measured(value["samples"], value["curves"], value["notes"])
