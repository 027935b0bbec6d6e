"""Paired measurement: variants take turns in one run, and what is told of them are their ratios.

A machine's speed drifts, with what else it does and how warm it is. Two numbers that are taken one
beside the other share the drift, so their ratio is steadier than either. No clock and no file here:
what a turn measures is up to the caller; `results` makes tables of it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from scipy import stats

CONFIDENCE = 0.95
LEAST_SIZES = 3  # of a fitted line

_Name = TypeVar("_Name")


@dataclass(frozen=True)
class Spread:
    """Values of one quantity over the turns; the median is what a table tells first."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle value, or the mean of the two middle ones."""
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        """The smallest value."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The largest value."""
        return max(self.values)


@dataclass(frozen=True)
class Slope:
    """Slope b of a fitted line with intercept.

    Attributes:
        value: b; of logarithms it is the exponent of a power law.
        std_error: of b, from the distances of the points from the line; it tells how straight the
            line is, too.
        low: lower end of b's 95 % interval, by Student's t.
        high: its upper end.
    """

    value: float
    std_error: float
    low: float
    high: float


def take_turns(
    variants: Mapping[_Name, Callable[[], float]], num_turns: int
) -> dict[_Name, list[float]]:
    """Measure every variant once a turn, every second turn in reverse order.

    Args:
        variants: each measures once and returns the number.
        num_turns: at least 1.

    Returns:
        The numbers of each variant, one a turn.
    """
    found: dict[_Name, list[float]] = {name: [] for name in variants}
    for turn in range(num_turns):
        names = list(variants)
        if turn % 2 == 1:
            names.reverse()
        for name in names:
            found[name].append(variants[name]())
    return found


def compare(numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
    """Divide what was measured in the same turn; raises ValueError for unequal numbers of turns."""
    return Spread(tuple(a / b for a, b in zip(numerators, denominators, strict=True)))


def fit_line(sizes: Sequence[float], costs: Sequence[float]) -> Slope:
    """Fit cost = a + b size: what one more costs, whatever the first ones cost.

    Args:
        sizes: at least three different ones.
        costs: one for each size.

    Raises:
        ValueError: for fewer than three sizes: two points lie on a line whatever they are.
    """
    if len(set(sizes)) < LEAST_SIZES:
        raise ValueError(f"sizes: {sorted(set(sizes))} found, at least three are needed")
    fit = stats.linregress(sizes, costs)
    margin = float(fit.stderr * stats.t.ppf((1 + CONFIDENCE) / 2, len(sizes) - 2))
    value = float(fit.slope)
    return Slope(value, float(fit.stderr), value - margin, value + margin)


def fit_power(sizes: Sequence[float], costs: Sequence[float]) -> Slope:
    """Fit cost = a size^b, for costs without a large constant part; as `fit_line`, all above 0."""
    return fit_line([math.log(size) for size in sizes], [math.log(cost) for cost in costs])
