"""Bounds of a largest or smallest cell, and of differences between such cells.

The interval of whichever cell came out largest is no interval of the largest: that cell was chosen
by its luck. So the bounds are put together from those of all cells.

Source: Berger and Hsu (1996), Statistical Science 11(4), on intersection-union tests. Let theta_a
be the cells. max theta <= u is an intersection of one statement for each cell: the largest upper
bound holds at its own level, since it misses only when that of the truly largest cell does.
max theta >= l is a union: the largest lower bound misses when any of K bounds does, so each gets a
K-th of the probability (Bonferroni). A minimum is the mirror image; in a difference the right side
is mirrored once more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum

import numpy as np

from knowledge_gaps.statistics.bootstrap import (
    CONFIDENCE,
    Floats,
    Interval,
    Resampled,
    make_interval,
)

_TAIL = (1 - CONFIDENCE) / 2


class Over(StrEnum):
    """How several cells become one number."""

    MEAN = "mean"
    MIN = "min"
    MAX = "max"


def bound_effect(
    resampled: Resampled,
    left: Sequence[int],
    right: Sequence[int] = (),
    over: tuple[Over, Over] = (Over.MEAN, Over.MEAN),
) -> Interval:
    """Bound the mean, minimum or maximum of some cells, less that of other cells.

    Args:
        resampled: cells with their draws.
        left: positions of cells, at least one.
        right: positions of the cells that are taken off; none for the left side alone.
        over: how the cells of the left and of the right side become one number. (MAX, MIN) on the
            same cells is their spread.
    """
    num_cells = len(resampled.points)
    lefts = _list_combinations(left, over[0], num_cells)
    rights = _list_combinations(right, over[1], num_cells) if right else [np.zeros(num_cells)]
    outer, inner = _choose(over[0]), _choose(_mirror(over[1]))
    num_max, num_min = 1, 1  # in how many ways a bound below and a bound above can miss
    for kind, combinations in ((over[0], lefts), (_mirror(over[1]), rights)):
        num_max *= len(combinations) if kind is Over.MAX else 1
        num_min *= len(combinations) if kind is Over.MIN else 1
    tails = (_TAIL / num_max, _TAIL / num_min)
    table = [[_bound_difference(resampled, a - b, tails) for b in rights] for a in lefts]
    everything = [interval for row in table for interval in row]

    def combine(take: Callable[[Interval], float]) -> float:
        return outer([inner([take(interval) for interval in row]) for row in table])

    return Interval(
        point=combine(lambda interval: interval.point),
        low=combine(lambda interval: interval.low),
        high=combine(lambda interval: interval.high),
        num_dropped=max(interval.num_dropped for interval in everything),
        fixed=tuple(sorted({name for interval in everything for name in interval.fixed})),
    )


def _bound_difference(
    resampled: Resampled, coefficients: Floats, tails: tuple[float, float]
) -> Interval:
    if not coefficients.any():  # a cell less itself
        return Interval(point=0.0, low=0.0, high=0.0, num_dropped=0, fixed=())
    return make_interval(resampled, coefficients, tails)


def _list_combinations(cells: Sequence[int], over: Over, num_cells: int) -> list[Floats]:
    """List the combinations among which the extreme is, or the one that is the mean."""
    units = [np.eye(num_cells)[cell] for cell in cells]
    return [np.mean(units, axis=0)] if over is Over.MEAN else units


def _mirror(over: Over) -> Over:
    return {Over.MIN: Over.MAX, Over.MAX: Over.MIN}.get(over, over)


def _choose(over: Over) -> Callable[[Sequence[float]], float]:
    """Return the function that takes the extreme; NaN stays NaN, and a mean is one number."""
    return lambda values: float(np.min(values) if over is Over.MIN else np.max(values))
