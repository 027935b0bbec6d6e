"""The two-way bootstrap and the bounds of extremes: formulas, plain loops, simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from knowledge_gaps.statistics.bootstrap import (
    Component,
    PairMatrix,
    Resampled,
    Statistic,
    draw_counts,
    make_interval,
    resample_cells,
)
from knowledge_gaps.statistics.effects import Over, bound_effect

NAN = math.nan
ONE = np.ones(1)
VALUES = np.random.default_rng(7).random((4, 5))
TRUE = (True,)


def make_independent(points: list[float], errors: list[float], num: int = 20_000) -> Resampled:
    """Make cells that vary independently of one another, with many degrees of freedom."""
    noise = np.random.default_rng(0).standard_normal((len(points), num))
    draws = np.array(points)[:, None] + np.array(errors)[:, None] * noise
    components = []
    for cell, error in enumerate(errors):
        is_used = np.zeros((1_000, len(points)), dtype=bool)
        is_used[:, cell] = True
        components.append(Component(str(cell), is_used * error / math.sqrt(1_000), is_used))
    return Resampled(np.array(points), draws, tuple(components))


def test_counts_are_those_of_drawing_one_less() -> None:
    counts = draw_counts(0, "gans/a", TRUE * 6, 20_000)
    assert (counts.sum(axis=1) == 5).all()
    # multinomial: mean k/n, variance k/n (1 - 1/n)
    assert counts.mean(axis=0) == pytest.approx(np.full(6, 5 / 6), abs=0.03)
    assert counts.var(axis=0) == pytest.approx(np.full(6, 25 / 36), abs=0.03)
    covariance = float(np.cov(counts.T)[0, 1])
    assert covariance == pytest.approx(-5 / 36, abs=0.03)


def test_only_members_are_drawn_and_one_member_counts_once() -> None:
    counts = draw_counts(0, "gans/a", (False, True, False, True, True), 500)
    assert (counts[:, [0, 2]] == 0).all()
    assert (counts.sum(axis=1) == 2).all()
    assert (draw_counts(0, "gans/a", (False, True, False), 500) == np.array([0, 1, 0])).all()


def test_sets_of_members_share_their_draws() -> None:
    everyone = draw_counts(3, "gans/a", TRUE * 3, 5_000)  # two draws
    pair = draw_counts(3, "gans/a", (True, True, False), 5_000)  # one draw
    # where instance 2 was never drawn, the first draw was of 0 or 1, and the pair drew the same
    without = everyone[everyone[:, 2] == 0], pair[everyone[:, 2] == 0]
    assert len(without[0]) > 1_500
    assert (without[0] * without[1]).sum(axis=1).min() >= 1


def test_draws_depend_on_seed_and_name_alone() -> None:
    first = draw_counts(1, "gans/a", TRUE * 4, 100)
    assert (draw_counts(1, "gans/a", TRUE * 4, 2_500)[:100] == first).all()
    assert (draw_counts(2, "gans/a", TRUE * 4, 100) != first).any()
    assert (draw_counts(1, "gans/b", TRUE * 4, 100) != first).any()


@pytest.mark.parametrize("statistic", list(Statistic))
def test_draws_are_those_of_a_plain_loop(statistic: Statistic) -> None:
    values = VALUES.copy()
    values[1, 2] = values[3, 0] = NAN
    found = resample_cells([PairMatrix(values, "g", "c")], 5, statistic, 50)
    rows, columns = (draw_counts(5, name, TRUE * n, 50) for name, n in (("g", 4), ("c", 5)))
    num_pairs = 18
    for resample in range(50):
        pairs = [
            values[i, j]
            for i in range(4)
            for j in range(5)
            for _ in range(int(rows[resample, i] * columns[resample, j]))
            if not math.isnan(values[i, j])
        ]
        expected = np.mean(pairs) if statistic is Statistic.MEAN else np.std(pairs)
        if statistic is Statistic.STD:
            expected *= math.sqrt(num_pairs / (num_pairs - 1))
        assert found.draws[0, resample] == pytest.approx(expected, abs=1e-9)
    numbers = values[~np.isnan(values)]
    point = numbers.mean() if statistic is Statistic.MEAN else numbers.std(ddof=1)
    assert found.points[0] == pytest.approx(point, abs=1e-12)


def test_one_side_is_the_t_interval() -> None:
    values = np.array([[0.2], [0.5], [0.3], [0.9]])
    interval = make_interval(resample_cells([PairMatrix(values, "g")], 0), ONE)
    expected = stats.t.interval(0.95, 3, values.mean(), stats.sem(values[:, 0]))
    assert (interval.low, interval.high) == pytest.approx(expected, abs=0.01)
    assert interval.fixed == ()


def test_degrees_of_freedom_are_satterthwaites() -> None:
    # rows and columns add up exactly, so both variances are known
    rows, columns = np.array([0.0, 0.1, 0.5]), np.array([0.0, 0.3, 0.1, 0.8])
    resampled = resample_cells([PairMatrix(rows[:, None] + columns, "g", "c")], 0)
    shares = stats.sem(rows) ** 2, stats.sem(columns) ** 2
    degrees = sum(shares) ** 2 / (shares[0] ** 2 / 2 + shares[1] ** 2 / 3)
    interval = make_interval(resampled, ONE)
    half = stats.t.ppf(0.975, degrees) * math.sqrt(sum(shares))
    assert interval.high - interval.point == pytest.approx(half, rel=0.02)
    assert interval.point - interval.low == pytest.approx(half, rel=0.02)


def test_single_instance_gives_no_width_of_its_own() -> None:
    values = np.array([[0.2], [0.5], [0.3]])
    with_one = make_interval(resample_cells([PairMatrix(values, "g", "c")], 0), ONE)
    without = make_interval(resample_cells([PairMatrix(values, "g")], 0), ONE)
    assert (with_one.low, with_one.high) == (without.low, without.high)
    assert (with_one.fixed, without.fixed) == (("c",), ())
    single = make_interval(resample_cells([PairMatrix(values[:1], "g", "c")], 0), ONE)
    assert single.point == 0.2
    assert math.isnan(single.low)
    assert math.isnan(single.high)


def test_resamples_without_a_pair_are_dropped_and_counted() -> None:
    values = np.diag([0.1, 0.5, 0.9])
    values[values == 0] = NAN
    resampled = resample_cells([PairMatrix(values, "g", "c")], 0, num_resamples=4_000)
    interval = make_interval(resampled, ONE)
    rows, columns = (draw_counts(0, name, TRUE * 3, 4_000) for name in ("g", "c"))
    assert interval.num_dropped == int(((rows * columns).sum(axis=1) == 0).sum()) > 0
    assert math.isfinite(interval.high)


def test_difference_is_paired() -> None:
    shifted = [PairMatrix(VALUES, "g", "c"), PairMatrix(VALUES + 0.3, "g", "c")]
    interval = make_interval(resample_cells(shifted, 0), np.array([-1.0, 1.0]))
    assert (interval.low, interval.high) == pytest.approx((0.3, 0.3), abs=1e-6)
    apart = [shifted[0], PairMatrix(VALUES + 0.3, "other", "another")]
    other = make_interval(resample_cells(apart, 0), np.array([-1.0, 1.0]))
    assert other.high - other.low > 0.1


def test_bounds_of_the_largest_cell() -> None:
    cells = make_independent([0.2, 0.4, 0.3], [0.01, 0.02, 0.2])
    largest = bound_effect(cells, [0, 1, 2], over=(Over.MAX, Over.MEAN))
    assert largest.point == 0.4
    assert largest.high == pytest.approx(0.3 + 1.96 * 0.2, abs=0.005)  # the uncertain one's
    assert largest.low == pytest.approx(0.4 - stats.norm.isf(0.025 / 3) * 0.02, abs=0.001)
    mirrored = make_independent([-0.2, -0.4, -0.3], [0.01, 0.02, 0.2])
    smallest = bound_effect(mirrored, [0, 1, 2], over=(Over.MIN, Over.MEAN))
    assert (-smallest.high, -smallest.low) == pytest.approx((largest.low, largest.high), abs=0.01)


def test_bounds_of_a_spread_and_of_a_difference_of_extremes() -> None:
    cells = make_independent([0.2, 0.4], [0.01, 0.01])
    spread = bound_effect(cells, [0, 1], [0, 1], (Over.MAX, Over.MIN))
    error = math.sqrt(2) * 0.01
    assert spread.point == pytest.approx(0.2)
    assert spread.low == pytest.approx(0.2 - stats.norm.isf(0.025 / 4) * error, abs=0.001)
    assert spread.high == pytest.approx(0.2 + 1.96 * error, abs=0.001)
    # max less max: the right side is mirrored, so each bound pays for its own side's choices
    both = bound_effect(cells, [0, 1], [0], (Over.MAX, Over.MAX))
    assert both.point == pytest.approx(0.2)
    assert both.low == pytest.approx(0.2 - stats.norm.isf(0.025 / 2) * error, abs=0.001)
