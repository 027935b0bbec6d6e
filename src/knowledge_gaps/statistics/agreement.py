"""How alike two classifiers are: in their errors, in their features, and as matrices of pairs."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import permutation_test, rankdata

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

# the kinds of images that two classifiers are compared on
HELD_OUT = "reals_and_held_out"  # test reals, and generators that no classifier was trained on
FOOLING = "fooling"  # generators that fool classifiers of the cohort
FOOLING_OTHERS = "fooling_others"  # of these, the ones that fool neither of the two

MIN_GRAM_IMAGES = 4  # the unbiased estimate divides by N - 3
MIN_INSTANCES = 5  # below it too few permutations exist for any p-value to mean much
NUM_PERMUTATIONS = 50_000  # all of them up to 8 instances; that many drawn at random above
_BATCH_SIZE = 5_000  # permutations at once


class MatrixCorrelation(NamedTuple):
    """How two matrices of pairs of the same instances go together.

    Both numbers are NaN when an element is missing, or all elements of a matrix are equal.
    """

    spearman: float  # rank correlation of their off-diagonal elements
    p_value: float  # two-sided, over permutations of the instances


def compute_error_consistency(correct_a: BoolArray, correct_b: BoolArray) -> dict[str, float]:
    """Compare on which images two classifiers are wrong.

    Source: Geirhos, Meding and Wichmann 2020, "Beyond accuracy", section 2: Cohen's kappa of being
    right, (c_obs - c_exp) / (1 - c_exp) with c_exp = p_a p_b + (1 - p_a)(1 - p_b).

    Args:
        correct_a: [N], whether the first classifier is right; at least one image.
        correct_b: [N], the second one on the same images.

    Returns:
        By column of agreement.csv. Agreement is the share of images on which both are right or both
        wrong, expected if errors were independent. Kappa is 1 for the same errors, below 0 for
        errors that avoid one another, NaN when both are always right or always wrong.
    """
    accuracy_a, accuracy_b = float(correct_a.mean()), float(correct_b.mean())
    observed = float((correct_a == correct_b).mean())
    expected = accuracy_a * accuracy_b + (1 - accuracy_a) * (1 - accuracy_b)
    is_certain = accuracy_a == accuracy_b and accuracy_a in (0.0, 1.0)
    return {
        "num_images": len(correct_a),
        "num_errors_a": int((~correct_a).sum()),
        "num_errors_b": int((~correct_b).sum()),
        "num_errors_both": int((~correct_a & ~correct_b).sum()),
        "observed_agreement": observed,
        "expected_agreement": expected,
        "error_consistency": float("nan") if is_certain else (observed - expected) / (1 - expected),
    }


def compute_gram(features: npt.NDArray[np.floating]) -> FloatArray:
    """Return the inner products float64 [N, N] of features [N, F]; all that linear CKA needs."""
    doubled = features.astype(np.float64)
    gram: FloatArray = doubled @ doubled.T
    return gram


def compute_cka(gram_a: FloatArray, gram_b: FloatArray) -> float:
    """Return linear CKA of two networks' features of the same images.

    The estimate is the unbiased one: with more features than images the plain one is far above 0
    for networks that have nothing in common.

    Source: Kornblith et al. 2019, "Similarity of neural network representations revisited", eq. 4,
    with the estimate of HSIC by Song et al. 2012, as in Nguyen, Raghu and Kornblith 2021, eq. 3.

    Args:
        gram_a: [N, N] of the first network's features, N at least MIN_GRAM_IMAGES.
        gram_b: [N, N] of the second one's.

    Returns:
        1 for the same features, about 0 for independent ones; NaN when all images have the same.
    """
    if len(gram_a) < MIN_GRAM_IMAGES:
        raise ValueError(f"{len(gram_a)} images found, {MIN_GRAM_IMAGES} are needed")
    hollow_a, hollow_b = (gram - np.diag(np.diag(gram)) for gram in (gram_a, gram_b))
    norm = _estimate_hsic(hollow_a, hollow_a) * _estimate_hsic(hollow_b, hollow_b)
    return _estimate_hsic(hollow_a, hollow_b) / norm**0.5 if norm > 0 else float("nan")


def symmetrise(matrix: FloatArray) -> FloatArray:
    """Give each pair the mean of its two elements, for a matrix [N, N] of ordered pairs."""
    mean: FloatArray = (matrix + matrix.T) / 2
    return mean


def correlate_matrices(first: FloatArray, second: FloatArray) -> MatrixCorrelation:
    """Test whether two symmetric matrices [N, N] of pairs of the same instances go together.

    The elements of a matrix are not independent, for an instance has a whole row of them. So the
    instances are permuted, rows and columns together. The diagonals do not count.

    Source: Mantel 1967, with Spearman's rank correlation.
    """
    upper = np.triu_indices(len(first), k=1)
    elements = [matrix[upper] for matrix in (first, second)]
    if any(len(np.unique(values)) < 2 or np.isnan(values).any() for values in elements):
        return MatrixCorrelation(float("nan"), float("nan"))
    # standardised ranks: the product of two such vectors is their correlation
    ranks = [rankdata(values) - (len(values) + 1) / 2 for values in elements]
    ranks_first, ranks_second = (values / np.linalg.norm(values) for values in ranks)
    square = np.zeros(first.shape)
    square[upper] = ranks_first
    square += square.T

    def correlate(order: npt.NDArray[np.int64], axis: int) -> Any:
        assert axis == -1
        return square[order[..., upper[0]], order[..., upper[1]]] @ ranks_second

    tested = permutation_test(
        (np.arange(len(first)),),
        correlate,
        permutation_type="pairings",
        vectorized=True,
        n_resamples=NUM_PERMUTATIONS,
        batch=_BATCH_SIZE,
        alternative="two-sided",
        random_state=np.random.default_rng(0),
    )
    return MatrixCorrelation(float(tested.statistic), float(tested.pvalue))


def _estimate_hsic(hollow_a: FloatArray, hollow_b: FloatArray) -> float:
    """Estimate HSIC without bias from two Gram matrices [N, N] without diagonals."""
    num_images = len(hollow_a)
    together = np.vdot(hollow_a, hollow_b)
    apart = hollow_a.sum() * hollow_b.sum() / ((num_images - 1) * (num_images - 2))
    rows = hollow_a.sum(axis=0) @ hollow_b.sum(axis=0) * 2 / (num_images - 2)
    return float((together + apart - rows) / (num_images * (num_images - 3)))
