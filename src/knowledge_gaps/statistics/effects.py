"""Intervals of effects: means, extremes and differences of cells, and changes between studies.

The interval of the cell that came out largest is not an interval of the largest: that cell was
chosen by its luck. So the bounds are combined from those of all cells.

Source: Berger and Hsu (1996), Statistical Science 11(4), on intersection-union tests. Let theta_a
be the cells. max theta <= u is an intersection of one statement for each cell: the largest upper
bound holds at its own level, since it misses only when that of the truly largest cell does.
max theta >= l is a union: the largest lower bound misses when any of K bounds does, so each gets a
K-th of the probability (Bonferroni). A minimum is the mirror image; in a difference the right side
is mirrored once more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum

import numpy as np

from knowledge_gaps.statistics.bootstrap import TAIL, Floats, Interval, Resampled, make_interval


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
    """Bound the mean, minimum or maximum of the left cells, less that of the right ones, if any.

    `over` is of the left and of the right side; (MAX, MIN) on the same cells is their spread.
    """
    num_cells = len(resampled.points)
    lefts = _list_combinations(left, over[0], num_cells)
    rights = _list_combinations(right, over[1], num_cells) if right else [np.zeros(num_cells)]

    def count(left: Over, right: Over) -> int:  # in how many ways a bound can miss
        return (len(lefts) if over[0] is left else 1) * (len(rights) if over[1] is right else 1)

    tails = (TAIL / count(Over.MAX, Over.MIN), TAIL / count(Over.MIN, Over.MAX))
    table = [[make_interval(resampled, a - b, tails) for b in rights] for a in lefts]
    outer = np.min if over[0] is Over.MIN else np.max  # NaN stays NaN, and a mean is one number
    inner = np.min if over[1] is Over.MAX else np.max

    def combine(name: str) -> float:
        return float(outer([inner([getattr(each, name) for each in row]) for row in table]))

    intervals = [interval for row in table for interval in row]
    return Interval(
        point=combine("point"),
        low=combine("low"),
        high=combine("high"),
        num_dropped=max(interval.num_dropped for interval in intervals),
        fixed=tuple(sorted({name for interval in intervals for name in interval.fixed})),
    )


def compute_change(before: Interval, after: Interval) -> Interval:
    """Take the difference of two independent estimates, with its interval.

    Each bound recovers the two estimates' variances from their own intervals on the side that
    matters for it, so that intervals may be skewed. It covers what the two intervals cover.

    Source: MOVER, Zou and Donner (2008), Construction of confidence limits about effect measures,
    Statistics in Medicine 27, section 2.

    Returns:
        After less before, at the level of both; NaN where something is missing.
    """
    point = after.point - before.point
    below = math.hypot(after.point - after.low, before.high - before.point)
    above = math.hypot(after.high - after.point, before.point - before.low)
    fixed = tuple(sorted({*before.fixed, *after.fixed}))
    return Interval(point, point - below, point + above, fixed=fixed)


def _list_combinations(cells: Sequence[int], over: Over, num_cells: int) -> list[Floats]:
    """List the combinations among which the extreme is, or the one that is the mean."""
    units = [np.eye(num_cells)[cell] for cell in cells]
    return [np.mean(units, axis=0)] if over is Over.MEAN else units
