"""Intervals of effects of a printed table: independent means with standard errors, without chains.

The interval of the cell that came out largest is not an interval of the largest: that cell was
chosen by its luck. So the bounds are combined from those of all cells.

Source: Satterthwaite 1946 for the degrees of freedom of a sum; Berger and Hsu 1996, Statistical
Science 11(4), on intersection-union tests. Let theta_a be the cells. max theta <= u is an
intersection of one statement for each cell: the largest upper bound holds at its own level, since
it misses only when that of the truly largest cell does. max theta >= l is a union: the largest
lower bound misses when any of K bounds does, so each gets a K-th of the probability (Bonferroni). A
minimum is the mirror image; in a difference the right side is mirrored once more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from knowledge_gaps.statistics.chains import CONFIDENCE, Floats, Interval, Over


def bound_printed(
    means: Floats,
    errors: Floats,
    degrees: float,
    sides: tuple[Sequence[int], Sequence[int]],
    over: tuple[Over, Over] = (Over.MEAN, Over.MEAN),
    confidence: float = CONFIDENCE,
) -> Interval:
    """Bound the mean, minimum or maximum of the left cells, less that of the right ones, if any.

    Args:
        means: [K], a cell each, independent of one another.
        errors: [K], their standard errors; NaN where none is printed.
        degrees: of freedom of each error; math.inf where they are known.
        sides: indices of the left cells and of the right ones, which may be none.
        over: of the left and of the right side; (MAX, MIN) on the same cells is their spread.
        confidence: level of the interval.

    Returns:
        Without bounds when an error is NaN. The degrees of freedom are the fewest of those of all
        combinations of cells; there are no chains.
    """
    lefts = _list_combinations(sides[0], over[0], len(means))
    rights = _list_combinations(sides[1], over[1], len(means)) if sides[1] else [0 * means]

    def count(left: Over, right: Over) -> int:  # in how many ways a bound can miss
        return (len(lefts) if over[0] is left else 1) * (len(rights) if over[1] is right else 1)

    tail = (1 - confidence) / 2
    tails = np.array([tail / count(Over.MAX, Over.MIN), tail / count(Over.MIN, Over.MAX)])
    # [lefts, rights, 4]: point, low, high, degrees
    table = np.array(
        [[_bound(means, errors, degrees, a - b, tails) for b in rights] for a in lefts]
    )
    outer = np.min if over[0] is Over.MIN else np.max  # NaN stays NaN, and a mean is one number
    inner = np.min if over[1] is Over.MAX else np.max
    point, low, high = outer(inner(table[:, :, :3], axis=1), axis=0).tolist()
    return Interval(point, low, high, degrees=float(table[:, :, 3].min()))


def _bound(
    means: Floats, errors: Floats, degrees: float, weights: Floats, tails: Floats
) -> tuple[float, float, float, float]:
    """Bound one combination of cells: point, low, high and degrees of freedom."""
    used = np.flatnonzero(weights)
    if len(used) == 0:  # a cell less itself
        return 0.0, 0.0, 0.0, degrees
    point = float(weights[used] @ means[used])
    variances = (weights[used] * errors[used]) ** 2
    total = float(variances.sum())
    if math.isnan(total) or total == 0:
        return point, math.nan, math.nan, math.nan
    joint = degrees * total**2 / float((variances**2).sum())
    below, above = (stats.t.isf(tails, joint) * math.sqrt(total)).tolist()
    return point, point - below, point + above, joint


def _list_combinations(cells: Sequence[int], over: Over, num_cells: int) -> list[Floats]:
    """List the combinations among which the extreme is, or the one that is the mean."""
    units = [np.eye(num_cells)[cell] for cell in cells]
    return [np.mean(units, axis=0)] if over is Over.MEAN else units
