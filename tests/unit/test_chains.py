"""Intervals over chains: against scipy and cases by hand, what they do at the ends, coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from knowledge_gaps.statistics.chains import (
    Interval,
    Over,
    Scale,
    Statistic,
    assess_equivalence,
    bound_effect,
    bound_mean,
    compute_change,
    compute_effects,
    compute_resolution,
    summarise_pairs,
)

NAN = math.nan
LEAST = compute_resolution(4_000)


def get_bounds(interval: Interval) -> tuple[float, float]:
    return interval.low, interval.high


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_plain_interval_is_scipys(confidence: float) -> None:
    values = np.array([12.0, 15.5, NAN, 11.0, 19.0])
    known = values[[0, 1, 3, 4]]
    found = bound_mean(values, confidence=confidence)
    expected = stats.t.interval(confidence, 3, known.mean(), stats.sem(known))
    assert get_bounds(found) == pytest.approx(expected, rel=1e-9)
    assert (found.point, found.degrees) == (known.mean(), 3)
    assert (found.num_chains, found.num_missing) == (4, 1)


def test_interval_of_a_share_is_symmetric_in_logits() -> None:
    values = np.array([0.05, 0.02, 0.11, 0.06])
    found = bound_mean(values, Scale.SHARE, LEAST)
    mean = values.mean()
    error = stats.sem(values) / (mean * (1 - mean))
    low, high = stats.t.interval(0.95, 3, math.log(mean / (1 - mean)), error)
    expected = 1 / (1 + math.exp(-low)), 1 / (1 + math.exp(-high))
    assert found.point == pytest.approx(mean)
    assert get_bounds(found) == pytest.approx(expected, rel=1e-9)
    mirrored = bound_mean(1 - values, Scale.SHARE, LEAST)
    assert get_bounds(mirrored) == pytest.approx((1 - found.high, 1 - found.low), abs=1e-12)


def test_chains_at_the_ends_keep_the_point_between_its_bounds() -> None:
    none = bound_mean(np.zeros(6), Scale.SHARE, LEAST)
    # half an image of 4,000 and the noise of counting it, sqrt(2) in logits
    high = stats.t.isf(0.025, 5) * math.sqrt(2 / (1 - LEAST)) / math.sqrt(6)
    assert (none.point, none.low) == (0, 0)
    assert none.high == pytest.approx(1 / (1 + math.exp(-math.log(LEAST / (1 - LEAST)) - high)))
    every = bound_mean(np.ones(6), Scale.SHARE, LEAST)
    assert (every.point, every.high) == (1, 1)
    assert every.low == pytest.approx(1 - none.high)
    assert bound_mean(np.zeros(2), Scale.SHARE, LEAST).high > 0.9  # two chains say little
    for values in ([0, 0, 0, 1], [0, 1], [0, 0, 0, 0.2], [0.9999, 1, 1]):
        found = bound_mean(np.array(values, float), Scale.SHARE, LEAST)
        assert 0 <= found.low <= found.point <= found.high <= 1
        assert found.high - found.low > 1e-4


def test_no_interval_without_a_spread_or_two_chains() -> None:
    for values, point in (([], NAN), ([NAN], NAN), ([NAN, 0.4], 0.4), ([3.0, 3.0, 3.0], 3.0)):
        found = bound_mean(np.array(values))
        assert np.isnan([found.low, found.high, found.degrees]).all()
        assert found.point == pytest.approx(point, nan_ok=True)
        assert found.num_chains + found.num_missing == len(values)
    # differences of shares are known to one image of 4,000
    found = bound_mean(np.zeros(4), Scale.PLAIN, LEAST)
    assert found.high == pytest.approx(stats.t.isf(0.025, 3) / 4_000 / 2)
    with pytest.raises(ValueError, match="least"):
        bound_mean(np.zeros(4), Scale.SHARE)


def test_pairs_are_summarised_within_chains() -> None:
    values = np.array([[[1.0, 3.0], [NAN, 5.0]], [[NAN, NAN], [NAN, 2.0]], np.full((2, 2), NAN)])
    assert summarise_pairs(values) == pytest.approx([3.0, 2.0, NAN], nan_ok=True)
    found = summarise_pairs(values, Statistic.STD)
    assert found == pytest.approx([2.0, NAN, NAN], nan_ok=True)


def test_effects_are_of_each_chain() -> None:
    left = np.array([[0.1, 0.4], [0.8, 0.2], [0.5, NAN]])
    right = np.array([[0.3, 0.1], [0.1, 0.7], [0.2, 0.2]])
    assert compute_effects(left) == pytest.approx([0.25, 0.5, NAN], nan_ok=True)
    # the largest cell is another one in each chain
    largest = compute_effects(left, right, (Over.MAX, Over.MIN))
    assert largest == pytest.approx([0.3, 0.7, NAN], nan_ok=True)
    found = bound_effect(left, right, (Over.MAX, Over.MIN), Scale.SHARE, LEAST)
    assert (found.point, found.num_chains, found.num_missing) == (pytest.approx(0.5), 2, 1)
    assert get_bounds(found) == (-1, 1)  # one degree of freedom
    alone = bound_effect(left, scale=Scale.SHARE, least=LEAST)
    assert alone == bound_mean(np.array([0.25, 0.5, NAN]), Scale.SHARE, LEAST)


def test_difference_cancels_what_cells_of_a_chain_share() -> None:
    rng = np.random.default_rng(0)
    chains, noise = rng.normal(size=(8, 1)), rng.normal(size=(8, 2))
    found = bound_effect(chains + 0.01 * noise[:, :1] + 0.5, chains + 0.01 * noise[:, 1:])
    assert found.point == pytest.approx(0.5, abs=0.02)
    assert found.high - found.low < 0.05  # the chains' standard deviation is 1


@pytest.mark.parametrize("mean", [0.0, 0.09, -0.14])
def test_equivalence_is_two_one_sided_tests(mean: float) -> None:
    effects = mean + np.array([0.02, -0.01, 0.03, -0.04, 0.0, NAN])
    found = assess_equivalence(effects, 0.1)
    known = effects[:5]
    larger = max(
        stats.ttest_1samp(known, -0.1, alternative="greater").pvalue,
        stats.ttest_1samp(known, 0.1, alternative="less").pvalue,
    )
    assert found.p_value == pytest.approx(larger, rel=1e-9)
    assert found.is_equivalent == (larger < 0.05) == (mean == 0.0)
    assert found.is_different == (mean == -0.14)


def test_equivalence_needs_an_interval() -> None:
    for effects in ([0.0], [0.0, 0.0]):
        found = assess_equivalence(np.array(effects), 0.1)
        assert not found.is_equivalent
        assert not found.is_different
        assert math.isnan(found.p_value)
    assert assess_equivalence(np.zeros(6), 0.1, least=LEAST).is_equivalent


def test_change_adds_the_variances_of_the_sides_that_meet() -> None:
    change = compute_change(Interval(0.5, 0.4, 0.8, 5.0, 6), Interval(0.7, 0.4, 0.9, 2.0, 3))
    assert change.point == pytest.approx(0.2)
    assert get_bounds(change) == pytest.approx(
        (0.2 - math.hypot(0.3, 0.3), 0.2 + math.hypot(0.2, 0.1))
    )
    assert (change.degrees, change.num_chains) == (2, 9)
    assert math.isnan(compute_change(Interval(0.5), Interval(0.7, 0.4, 0.9, 2.0, 3)).low)


@pytest.mark.parametrize(("mean", "scale"), [(0.3, Scale.SHARE), (0.5, Scale.SHARE), (0.0, "")])
def test_intervals_cover_the_mean(mean: float, scale: str) -> None:
    """Shares whose logits vary by 0.5 between six chains, or differences by 0.1."""
    rng, num_trials = np.random.default_rng(1), 2_000
    noise = rng.normal(size=(num_trials, 6))
    if scale == Scale.SHARE:
        shares = 1 / (1 + np.exp(-math.log(mean / (1 - mean)) - 0.5 * noise))
        nodes, weights = np.polynomial.hermite_e.hermegauss(40)
        truth = weights / weights.sum() @ (1 / (1 + (1 - mean) / mean * np.exp(-0.5 * nodes)))
        found = [bound_mean(values, Scale.SHARE, LEAST) for values in shares]
    else:
        truth, found = mean, [bound_mean(0.1 * values) for values in noise]
    num_covered = sum(each.low <= truth <= each.high for each in found)
    assert stats.binomtest(num_covered, num_trials, 0.95).pvalue > 0.001
