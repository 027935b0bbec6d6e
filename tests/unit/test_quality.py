"""Distances and the table: hand values, independent formulas, torch-fidelity, known limits."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import scipy.linalg
import torch
from quality_tools import draw_features
from torch_fidelity.metric_kid import (
    KEY_METRIC_KID_MEAN,
    KEY_METRIC_KID_STD,
    kid_features_to_metric,
)

from knowledge_gaps.evaluation.quality import distances, table
from knowledge_gaps.evaluation.quality.distances import compute_frechet, compute_kid
from knowledge_gaps.evaluation.quality.diversity import (
    compute_class_entropy,
    count_missing_classes,
    measure_contrast,
)
from knowledge_gaps.evaluation.quality.features import FeatureSet
from knowledge_gaps.evaluation.quality.neighbours import Nearest, find_nearest
from knowledge_gaps.evaluation.quality.table import Reals, compute_floor, compute_quality
from knowledge_gaps.statistics.measures import METRICS


def compare(generated: FeatureSet, reals: Reals) -> dict[str, float | None]:
    """Compute every metric, as the stage does."""
    nearest = find_nearest(generated.features, reals.training.features)
    return compute_quality(generated, reals, nearest.distances)


# ------------------------------------------------------------------------------ Frechet distance


def test_frechet_distance_equals_the_formula_with_a_matrix_root() -> None:
    """|mu1 - mu2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), Heusel et al. 2017, equation 6."""
    first, second = draw_features(400, seed=3), draw_features(500, seed=4, shift=0.2)
    x, y = first.features.astype(np.float64), second.features.astype(np.float64)
    cov_x, cov_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(cov_x @ cov_y).real
    expected = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(cov_x + cov_y - 2 * root)
    assert compute_frechet(first, second) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_of_shifted_features_is_the_squared_shift() -> None:
    first = draw_features(400, seed=3)
    second = FeatureSet(first.features + np.float32(0.5), first.logits, "lenet")
    assert compute_frechet(first, second) == pytest.approx(84 * 0.25, rel=1e-4)
    assert compute_frechet(first, first) == pytest.approx(0.0, abs=1e-4)


# --------------------------------------------------------------------------------------------- KID


def estimate_mmd(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> float:
    """Estimate MMD^2 without bias, with the cubic kernel (Binkowski et al. 2018, equation 4)."""
    k_xx, k_yy, k_xy = ((a @ b.T / x.shape[1] + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    off_diagonal = (k.sum() - np.trace(k) for k in (k_xx, k_yy))
    return float(sum(off_diagonal) / (len(x) * (len(x) - 1)) - 2 * k_xy.mean())


def test_kid_of_whole_sets_equals_the_unbiased_estimate() -> None:
    """Fewer images than a subset: every subset is the whole set, so no randomness is left."""
    first, second = draw_features(60, seed=3), draw_features(60, seed=4, shift=0.3)
    expected = estimate_mmd(first.features.astype(np.float64), second.features.astype(np.float64))
    assert compute_kid(first, second) == pytest.approx((expected, 0.0), abs=1e-5)
    assert expected > 0.01


def call_torch_fidelity(first: FeatureSet, second: FeatureSet) -> tuple[float, float]:
    metric = kid_features_to_metric(
        torch.from_numpy(first.features),
        torch.from_numpy(second.features),
        kid_subsets=distances.KID_SUBSETS,
        kid_subset_size=distances.KID_SUBSET_SIZE,
        rng_seed=distances.KID_SEED,
        verbose=False,
    )
    return metric[KEY_METRIC_KID_MEAN], metric[KEY_METRIC_KID_STD]


def test_kid_is_torch_fidelitys_on_the_same_subsets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distances, "KID_SUBSET_SIZE", 50)
    monkeypatch.setattr(distances, "_ROWS", 64)  # less than a block, some, a last one in part
    monkeypatch.delattr(distances, "_call_library")
    real = draw_features(200, seed=4, shift=0.3)
    for num_images in (60, 128, 130, 450, 60):  # the subsets of the reals depend on that number
        images = draw_features(num_images, seed=num_images)
        expected = call_torch_fidelity(images, real)
        assert compute_kid(images, real) == pytest.approx(expected, rel=2e-5)  # float32 sums


def test_kid_of_many_images_is_left_to_torch_fidelity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distances, "KID_SUBSET_SIZE", 50)
    monkeypatch.setattr(distances, "KID_SUBSETS", 10)  # 25,000 pairs
    first, second = draw_features(130, seed=3), draw_features(200, seed=4, shift=0.3)
    assert compute_kid(first, second) == call_torch_fidelity(first, second)


# --------------------------------------------------------------------------------------- diversity


def predict(*counts: int) -> npt.NDArray[np.float32]:
    """Make logits of so many images of each class."""
    return np.eye(len(counts), dtype=np.float32).repeat(counts, axis=0)


def test_class_entropy_of_uniform_classes_is_ln_10_and_of_one_class_0() -> None:
    logits = predict(*[7] * 10)
    assert compute_class_entropy(logits) == pytest.approx(math.log(10), abs=1e-12)
    assert compute_class_entropy(logits[:7]) == 0.0
    assert compute_class_entropy(logits[:14]) == pytest.approx(math.log(2), abs=1e-12)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((95, 3, 2, 0), 0),  # a tenth is enough
        ((96, 3, 1, 0), 1),
        ((0, 0, 0, 9), 3),
        ((4, 96, 0, 0), 2),
        ((1, 0, 0, 0), 2),  # few images: their number does not count
        ((500, 300, 200, 0), 0),
    ],
)
def test_missing_classes_by_hand(counts: tuple[int, ...], expected: int) -> None:
    real = predict(50, 30, 20, 0)  # a class is missing below 0.05, 0.03, 0.02 and 0
    assert count_missing_classes(predict(*counts), real) == expected


def test_contrast_is_the_mean_deviation_within_images_and_channels() -> None:
    images = np.zeros((2, 1, 4, 4), np.uint8)
    images[0, :, :2] = 255  # half white, half black
    assert measure_contrast(images) == 127.5 / 2
    assert measure_contrast(images, 1) == 127.5
    sheet = np.broadcast_to(np.array((255, 0, 40), np.uint8)[:, None, None], (3, 4, 4))
    assert measure_contrast(np.stack([sheet, 255 - sheet])) == 0.0


# ------------------------------------------------------------------------------------------- table


def test_generator_that_repeats_the_training_set_is_found_out() -> None:
    training, test = draw_features(100, seed=1), draw_features(100, seed=2)
    reals = Reals(test, training)
    found = compare(training, reals)
    assert tuple(found) == METRICS
    assert found["memorised"] == 1.0
    assert compare(test, reals)["memorised"] == 0.01
    assert compute_floor(reals, 100) == {**found, "memorised": 0.01}


def test_generator_that_repeats_the_test_set_has_the_best_of_everything() -> None:
    real = draw_features(200, seed=1)
    found = compare(real, Reals(real, real))
    expected = {"precision": 1, "recall": 1, "density": 1, "coverage": 1, "missing_classes": 0}
    assert {name: found[name] for name in expected} == expected
    assert found["fid"] == pytest.approx(0.0, abs=1e-4)


def test_missing_classes_are_missing_among_the_generated_images() -> None:
    reals = Reals(draw_features(50, seed=1), draw_features(90, seed=2))
    one_class = np.eye(10, dtype=np.float32)[[3] * 40]
    generated = FeatureSet(draw_features(40, seed=3).features, one_class, "lenet")
    assert compare(generated, reals)["missing_classes"] == 9


def test_floor_takes_as_many_training_reals_as_a_generator_has_images() -> None:
    reals = Reals(draw_features(50, seed=1), draw_features(90, seed=2))
    expected = compare(reals.training.take_first(40), reals)
    assert compute_floor(reals, 40) == {**expected, "memorised": 0.02}  # of 50: one below
    assert compute_floor(reals, 90)["fid"] != expected["fid"]


def test_what_depends_on_the_reals_alone_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []

    def count_calls(features: npt.NDArray[np.float32], reals: npt.NDArray[np.float32]) -> Nearest:
        calls.append((len(features), len(reals)))
        return find_nearest(features, reals)

    monkeypatch.setattr(table, "find_nearest", count_calls)
    reals = Reals(draw_features(50, seed=1), draw_features(90, seed=2))
    for seed in (3, 4):
        compare(draw_features(40, seed=seed), reals)
    assert calls == [(50, 90)]


def test_without_classes_there_are_no_numbers_about_classes() -> None:
    test, training, generated = (
        FeatureSet(draw_features(60, seed).features, None, "random_vgg") for seed in (0, 1, 2)
    )
    found = compare(generated, Reals(test, training))
    assert "fid" not in found
    missing = {name for name, value in found.items() if value is None}
    assert missing == {"class_entropy", "missing_classes"}
    assert training.take_first(7).logits is None
