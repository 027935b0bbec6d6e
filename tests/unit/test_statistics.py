"""Small statistics by hand: tests of two sets of scores, names of measures, words for signals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from knowledge_gaps.statistics.hypotheses import (
    adjust_holm,
    compare_scores,
    compute_detectable_auc,
)
from knowledge_gaps.statistics.measures import METRICS, find_metric_of, name_features, name_metric
from knowledge_gaps.statistics.rules import classify_signals

NAN = math.nan
CASES = [
    (0.5, 0.0, "detected"),  # whatever the area
    (1.0, 0.5, "detected"),
    (0.499, 0.5, "gone"),
    (0.0, 0.4, "gone"),
    (0.0, 0.6, "gone"),
    (0.0, 0.600001, "shifted"),
    (0.499, 1.0, "shifted"),
    (0.0, 0.399999, "inverted"),
    (0.0, 0.0, "inverted"),
    (NAN, 0.9, "unknown"),
    (0.9, NAN, "unknown"),
]


def count_wins(first: np.ndarray, second: np.ndarray) -> float:
    return float((first[:, None] > second).sum() + 0.5 * (first[:, None] == second).sum())


def compute_p_value(first: np.ndarray, second: np.ndarray) -> float:
    """Two-sided normal approximation of U, with continuity correction and correction for ties."""
    n, m = len(first), len(second)
    _, ties = np.unique(np.concatenate([first, second]), return_counts=True)
    tied = sum(count**3 - count for count in ties) / ((n + m) * (n + m - 1))
    std = math.sqrt(n * m / 12 * (n + m + 1 - tied))
    z = (abs(count_wins(first, second) - n * m / 2) - 0.5) / std
    return min(1.0, math.erfc(z / math.sqrt(2)))


@pytest.mark.parametrize("shift", [0.0, 0.2, -0.6])
def test_p_value_is_that_of_the_area_under_the_curve(shift: float) -> None:
    rng = np.random.default_rng(3)
    first = (rng.normal(shift, 1, 60).round(1)).astype(np.float32)
    second = (rng.normal(0, 1, 45).round(1)).astype(np.float32)
    assert np.intersect1d(first, second).size > 0
    assert compare_scores(first, second) == pytest.approx(compute_p_value(first, second), abs=1e-12)
    assert compare_scores(np.zeros(5), np.zeros(7)) == 1.0


@pytest.mark.parametrize(
    ("p_values", "expected"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.03, 0.04], [0.06, 0.06]),  # never below one that is smaller to begin with
        ([0.5, 0.6, 0.7], [1.0, 1.0, 1.0]),
        ([], []),
    ],
)
def test_holm_by_hand(p_values: list[float], expected: list[float]) -> None:
    np.testing.assert_allclose(adjust_holm(p_values), expected, rtol=1e-12)


@pytest.mark.parametrize("num_tests", [1, 4])
def test_detectable_area_is_where_the_test_starts_to_reject(num_tests: int) -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=500), rng.normal(size=500)
    limit = compute_detectable_auc(500, num_tests, alpha=0.01)
    rejected = {}
    for shift in np.linspace(0, 0.4, 41):
        area = count_wins(first + shift, second) / 500**2
        rejected[area] = compare_scores(first + shift, second) * num_tests < 0.01
    assert not any(rejected[area] for area in rejected if 0.5 < area < limit - 1e-3)
    assert all(rejected[area] for area in rejected if area > limit + 1e-3)
    assert set(rejected.values()) == {False, True}
    assert compute_detectable_auc(2, 1, 0.01) == 1.0


@pytest.mark.parametrize("is_fid", [True, False])
@pytest.mark.parametrize("metric", METRICS)
def test_every_column_is_found_again(metric: str, is_fid: bool) -> None:
    expected = "frechet" if metric == "fid" and not is_fid else metric
    assert find_metric_of(name_metric(metric, 4000, "mine", is_fid)) == expected


@pytest.mark.parametrize(("num_images", "count"), [(4000, "4k"), (300, "300"), (1500, "1500")])
def test_column_states_extractor_and_number_of_images(num_images: int, count: str) -> None:
    assert name_metric("fid", num_images, "inception") == f"fid_inception_{count}"
    features = name_features("lenet_on_reals", "fashion-mnist")
    assert name_metric("fid", num_images, features) == f"fid_lenet_fashion_mnist_{count}"
    assert name_features("random_vgg", "fashion-mnist") == "random_vgg"


@pytest.mark.parametrize("column", ["phi", "fid", "fidelity_lenet_4k", "collapse", ""])
def test_other_columns_hold_no_metric(column: str) -> None:
    assert find_metric_of(column) is None


def test_every_pair_has_its_word() -> None:
    rates, areas = (np.array([case[column] for case in CASES]) for column in (0, 1))
    expected = [case[2] for case in CASES]
    assert classify_signals(rates, areas).tolist() == expected
    pairs = classify_signals(rates[:6].reshape(2, 3), areas[:6].reshape(2, 3))
    assert pairs.tolist() == [expected[:3], expected[3:6]]
