"""The two-way bootstrap: confidence intervals for means over pairs of instances.

A cell holds one number for each pair of a generator instance and a classifier instance. Pairs that
share an instance are not independent, so instances are drawn on both sides, not pairs.

Source: Owen (2007), The pigeonhole bootstrap, Annals of Applied Statistics 1(2), for drawing rows
and columns independently; Rao and Wu (1988), JASA 83, section 2, for drawing n - 1 of n, which
makes the variance of a mean s^2 / n; Satterthwaite (1946) for the degrees of freedom. How often the
interval covers the truth is measured by benchmarks/coverage.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

NUM_RESAMPLES = 10_000
CONFIDENCE = 0.95
TAIL = (1 - CONFIDENCE) / 2  # probability left out below, and as much above
NO_COHORT = ""  # the other side of numbers that have one side only
_CHUNK = 1_000  # resamples whose ranks are held at a time


class Statistic(StrEnum):
    """What is computed from the pairs of a cell."""

    MEAN = "mean"
    STD = "std"  # sample standard deviation over the pairs


@dataclass(frozen=True)
class PairMatrix:
    """One cell: a number for each pair.

    All instances of the two cohorts have their row and column, also those without a pair in this
    cell. Cells whose cohorts have the same name share their draws.
    """

    values: Floats  # [generators, classifiers]; NaN where there is no pair
    generators: str  # name of the rows' cohort
    classifiers: str = NO_COHORT  # of the columns'

    def find_used(self, axis: int) -> Mask:
        """Say which instances of one side have a pair."""
        used: Mask = (~np.isnan(self.values)).sum(axis=1 - axis) > 0
        return used


@dataclass(frozen=True)
class Component:
    """What one cohort adds to the variance of the cells.

    The variance of a combination c of cells is the sum of (deviations @ c) squared.
    """

    name: str
    deviations: Floats  # [instances, cells]
    is_used: Mask  # [instances, cells] whether an instance has a pair in a cell


@dataclass(frozen=True)
class Resampled:
    """Cells with their resamples."""

    points: Floats  # [cells] the statistic of each cell; NaN for a cell without a pair
    draws: Floats  # [cells, resamples]; a resample that has no pair of a cell is NaN there
    components: tuple[Component, ...]  # of the variance, one for each cohort


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval; each is NaN where there is none.

    It does not cover other instances of cohorts that are fixed: some cell has one instance of them.
    """

    point: float = np.nan
    low: float = np.nan
    high: float = np.nan
    num_dropped: int = 0  # resamples left out because a cell had no pair in them
    fixed: tuple[str, ...] = ()

    def clip(self, low: float, high: float) -> Interval:
        """Keep the bounds within what is possible; NaN stays."""
        bounds = np.clip([self.low, self.high], low, high).tolist()
        return replace(self, low=bounds[0], high=bounds[1])


@lru_cache(maxsize=256)
def draw_counts(seed: int, cohort: str, members: tuple[bool, ...], num_resamples: int) -> Counts:
    """Draw n - 1 of the n instances of a cohort that are members, with replacement.

    Every draw ranks all instances of the cohort at random and takes the first that is a member: it
    is the same instance for two sets of members wherever both have it. The name of the cohort
    selects the random stream.

    Returns:
        How often each instance was drawn, float32 [num_resamples, instances], read-only. A single
        member counts once each time.
    """
    chosen = np.flatnonzero(members)
    counts = np.zeros((num_resamples, len(members)), dtype=np.float32)
    if len(chosen) <= 1:
        counts[:, chosen] = 1
    else:
        rng = np.random.default_rng([seed, *cohort.encode()])
        for start in range(0, num_resamples, _CHUNK):
            # the size depends on the cohort alone, and so does the stream
            ranks = rng.random((_CHUNK, len(members) - 1, len(members)), dtype=np.float32)
            part = counts[start : start + _CHUNK]
            winners = ranks[: len(part), : len(chosen) - 1, chosen].argmin(axis=2)
            for position, instance in enumerate(chosen):
                part[:, instance] = (winners == position).sum(axis=1)
    counts.flags.writeable = False
    return counts


def resample_cells(
    cells: Sequence[PairMatrix],
    seed: int,
    statistic: Statistic = Statistic.MEAN,
    num_resamples: int = NUM_RESAMPLES,
) -> Resampled:
    """Draw instances with replacement and compute the statistic of every cell for each draw.

    An instance counts in all cells of its cohort as often as it was drawn, so differences between
    cells are paired. Cells that hold different instances of a cohort share the draws as far as they
    can. Each cohort has its own stream, whatever the other cells are.
    """
    points, draws = np.empty(len(cells)), np.empty((len(cells), num_resamples))
    parts: dict[str, Component] = {}
    for number, cell in enumerate(cells):
        counts = []
        for axis, cohort in enumerate((cell.generators, cell.classifiers)):
            is_used = cell.find_used(axis)
            counts.append(draw_counts(seed, cohort, tuple(is_used.tolist()), num_resamples))
            if cohort != NO_COHORT:
                shape = len(is_used), len(cells)
                empty = Component(cohort, np.zeros(shape), np.zeros(shape, dtype=np.bool_))
                part = parts.setdefault(cohort, empty)
                part.is_used[:, number] = is_used
                part.deviations[is_used, number] = _leave_out(cell.values, axis, is_used, statistic)
        points[number] = _weigh_all(cell.values, statistic)
        draws[number] = _weigh_pairs(cell.values, statistic, *counts)
    return Resampled(points, draws, tuple(parts.values()))


def make_interval(
    resampled: Resampled, coefficients: Floats, tails: tuple[float, float] = (TAIL, TAIL)
) -> Interval:
    """Compute the confidence interval of a combination of cells.

    The standard error is that of the draws. It is widened by Student's t with Satterthwaite's
    degrees of freedom: a cohort of n instances has n - 1, and counts by its share of the variance.

    Args:
        resampled: cells with their draws.
        coefficients: [cells]; a cell whose coefficient is 0 takes no part.
        tails: probability left out below and above.

    Returns:
        Without bounds (NaN) when no side has two instances.
    """
    used = np.flatnonzero(coefficients)
    if len(used) == 0:  # a cell less itself
        return Interval(0.0, 0.0, 0.0)
    weights = coefficients[used]
    point = float(weights @ resampled.points[used])
    all_draws = weights @ resampled.draws[used]
    draws = all_draws[~np.isnan(all_draws)]
    num_dropped = len(all_draws) - len(draws)
    parts = [
        Component(part.name, part.deviations[:, used] * weights, part.is_used[:, used])
        for part in resampled.components
        if part.is_used[:, used].any()
    ]
    fixed = tuple(part.name for part in parts if (part.is_used.sum(axis=0) == 1).any())
    degrees = _find_degrees(parts)
    if degrees is None or len(draws) < 2:
        return Interval(point, np.nan, np.nan, num_dropped, fixed)
    error = float(draws.std(ddof=1))
    low, high = (float(stats.t.isf(tail, degrees)) * error for tail in tails)
    return Interval(point, point - low, point + high, num_dropped, fixed)


def _weigh_all(values: Floats, statistic: Statistic) -> float:
    rows, columns = (np.ones((1, size), dtype=np.float32) for size in values.shape)
    return float(_weigh_pairs(values, statistic, rows, columns)[0])


def _weigh_pairs(values: Floats, statistic: Statistic, rows: Counts, columns: Counts) -> Floats:
    """Compute the statistic [R] of values [n, m] with weights rows [R, n] and columns [R, m].

    NaN where all pairs weigh nothing, and for the STD of one pair.
    """
    is_pair = ~np.isnan(values)
    num_pairs = is_pair.sum()
    centre = float(values[is_pair].mean()) if num_pairs else 0.0  # spares digits in the squares
    deviations = np.where(is_pair, values - centre, 0.0)

    def add_up(matrix: Floats) -> Floats:
        total: Floats = ((rows @ matrix) * columns).sum(axis=1)
        return total

    with np.errstate(invalid="ignore", divide="ignore"):
        weight = add_up(is_pair.astype(np.float64))
        mean = add_up(deviations) / weight
        if statistic is Statistic.MEAN:
            return centre + mean
        variance = np.maximum(add_up(deviations**2) / weight - mean**2, 0.0)
        std: Floats = np.sqrt(variance * num_pairs / (num_pairs - 1.0))
        return std


def _leave_out(values: Floats, axis: int, is_used: Mask, statistic: Statistic) -> Floats:
    """Leave out each used instance of a side in turn: the jackknife's share of the variance.

    Returns the deviations [used], scaled to the cell's standard error.
    """
    used = np.flatnonzero(is_used)
    num = len(used)
    rest = np.array([_weigh_all(np.delete(values, index, axis=axis), statistic) for index in used])
    if num <= 1 or np.isnan(rest).all():  # two pairs have no STD without one of them
        return np.zeros(num)
    rest = np.where(np.isnan(rest), np.nanmean(rest), rest)
    deviations: Floats = np.sqrt((num - 1) / num) * (rest - rest.mean())
    return deviations


def _find_degrees(parts: Sequence[Component]) -> float | None:
    """Find Satterthwaite's degrees of freedom of a sum of cells; None without two instances.

    A cohort has the mean of n - 1 over its cells, each counting by its own variance: as few as its
    cells have when they share their instances, and cautious when they do not.
    """
    shares, degrees = [], []
    for part in parts:
        sizes = part.is_used.sum(axis=0)
        is_free = sizes > 1
        if is_free.any():
            by_cell = (part.deviations[:, is_free] ** 2).sum(axis=0)
            weights = by_cell if by_cell.any() else None
            shares.append(float((part.deviations.sum(axis=1) ** 2).sum()))
            degrees.append(float(np.average(sizes[is_free] - 1.0, weights=weights)))
    if not shares:
        return None
    total = sum(shares)
    if total == 0:
        return min(degrees)  # all instances agree, and so do all draws
    return total**2 / sum(share**2 / number for share, number in zip(shares, degrees, strict=True))
