"""Tests of two sets of scores: their p-values, adjusted for many tests, and their power."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri
from scipy.stats import mannwhitneyu

FloatArray = npt.NDArray[np.float64]

AUDIT_ALPHA = 0.01  # bound on the chance that a shortcut audit without a shortcut fails


def compare_scores(first: npt.NDArray[np.floating], second: npt.NDArray[np.floating]) -> float:
    """Test whether two sets of scores are drawn from one distribution.

    The statistic is the area under the ROC curve; the test asks whether it differs from chance.

    Source: Mann and Whitney 1947, with the normal approximation and its correction for ties.

    Returns:
        Two-sided p-value; 1 when all scores, of which there is one at least in each, are equal.
    """
    if min(first.min(), second.min()) == max(first.max(), second.max()):
        return 1.0
    doubled = (scores.astype(np.float64) for scores in (first, second))  # scipy keeps to float32
    return float(mannwhitneyu(*doubled, alternative="two-sided", method="asymptotic").pvalue)


def adjust_holm(p_values: npt.ArrayLike) -> FloatArray:
    """Adjust p-values [N] to bound the chance of any false alarm, however the tests depend.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    given = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(given, kind="stable")
    adjusted = np.empty_like(given)
    factors = np.arange(len(given), 0, -1)  # how many are not rejected yet
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(given[order] * factors))
    return adjusted


def compute_detectable_auc(num_scores: int, num_tests: int, alpha: float) -> float:
    """Return the area under the ROC curve from which a test of chance is rejected.

    Args:
        num_scores: in each of the two sets, without ties.
        num_tests: in the family, of which this one has the smallest p-value.
        alpha: bound on the chance of any false alarm in the family.
    """
    std = math.sqrt((2 * num_scores + 1) / 12) / num_scores  # of the area, where it is chance
    return min(1.0, 0.5 + float(ndtri(1 - alpha / (2 * num_tests))) * std)
