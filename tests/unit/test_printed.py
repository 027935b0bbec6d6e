"""Effects of printed tables: against Welch's test, and against bounds by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from knowledge_gaps.statistics.printed import Over, bound_printed

MEANS, ERRORS = np.array([0.2, 0.5, 0.45]), np.array([0.02, 0.03, 0.05])


def test_difference_of_two_cells_is_welchs() -> None:
    found = bound_printed(MEANS, ERRORS, 9, ([1], [0]))
    tested = stats.ttest_ind_from_stats(
        0.5 - found.low, 0.03 * math.sqrt(10), 10, 0.2, 0.02 * math.sqrt(10), 10, equal_var=False
    )
    assert tested.pvalue == pytest.approx(0.05)  # a difference of half the interval's width
    assert found.point == pytest.approx(0.3)
    assert 9 < found.degrees < 18


def test_largest_cell_has_the_bounds_of_all() -> None:
    found = bound_printed(MEANS, ERRORS, math.inf, ([0, 1, 2], []), (Over.MAX, Over.MEAN))
    lows = MEANS - stats.norm.isf(0.025 / 3) * ERRORS
    highs = MEANS + stats.norm.isf(0.025) * ERRORS
    assert (found.point, found.low, found.high) == pytest.approx((0.5, lows.max(), highs.max()))
    mirrored = bound_printed(-MEANS, ERRORS, math.inf, ([0, 1, 2], []), (Over.MIN, Over.MEAN))
    expected = (-found.point, -found.high, -found.low)
    assert (mirrored.point, mirrored.low, mirrored.high) == pytest.approx(expected)


def test_spread_of_cells_counts_no_cell_less_itself() -> None:
    found = bound_printed(MEANS, ERRORS, 9, ([0, 1], [0, 1]), (Over.MAX, Over.MIN))
    assert found.point == pytest.approx(0.3)
    assert 0 < found.low < found.point < found.high


def test_no_interval_where_no_spread_is_printed() -> None:
    errors = np.array([0.02, math.nan, 0.05])
    assert math.isnan(bound_printed(MEANS, errors, 9, ([0, 1, 2], [])).low)
    assert not math.isnan(bound_printed(MEANS, errors, 9, ([0, 2], [])).low)
