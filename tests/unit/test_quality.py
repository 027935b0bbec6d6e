"""Metrics of quality: hand values, independent formulas, torch-fidelity, known limits."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt
import pytest
import scipy.linalg
import torch
from quality_tools import draw_features
from scipy.spatial.distance import cdist
from torch_fidelity.metric_kid import (
    KEY_METRIC_KID_MEAN,
    KEY_METRIC_KID_STD,
    kid_features_to_metric,
)

from knowledge_gaps.evaluation import quality
from knowledge_gaps.evaluation.quality import Reals
from knowledge_gaps.evaluation.registry import FeatureSet
from knowledge_gaps.statistics.measures import METRICS
from knowledge_gaps.statistics.rules import Collapse, Diversity, describe_rule, judge_collapse


def place(points: npt.ArrayLike) -> FeatureSet:
    """Make a set of images whose features are given [N, F]."""
    return FeatureSet(np.asarray(points, np.float32), None)


def compare(generated: FeatureSet, reals: Reals) -> dict[str, float | None]:
    """Compute every metric, as the stage does."""
    nearest = quality.find_nearest(generated.features, reals.training.features)
    return quality.compute_quality(generated, reals, nearest.distances)


def test_frechet_distance_equals_the_formula_with_a_matrix_root() -> None:
    """|mu1 - mu2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), Heusel et al. 2017, equation 6."""
    first, second = draw_features(400, seed=3), draw_features(500, seed=4, shift=0.2)
    x, y = first.features.astype(np.float64), second.features.astype(np.float64)
    cov_x, cov_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(cov_x @ cov_y).real
    expected = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(cov_x + cov_y - 2 * root)
    assert quality.compute_frechet(first, second) == pytest.approx(expected, rel=1e-6)
    assert quality.compute_frechet(first, first) == pytest.approx(0.0, abs=1e-4)


def test_kid_is_torch_fidelitys_on_the_same_subsets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "KID_SUBSET_SIZE", 50)
    monkeypatch.setattr(quality, "KERNELS_BATCH_SIZE", 64)
    real = draw_features(200, seed=4, shift=0.3)
    for num_images in (60, 128, 130):  # less than a block, some, a last one in part
        images = draw_features(num_images, seed=num_images)
        expected = kid_features_to_metric(
            torch.from_numpy(images.features),
            torch.from_numpy(real.features),
            kid_subsets=100,
            kid_subset_size=50,
            rng_seed=2020,
            verbose=False,
        )
        mean_std = [expected[name] for name in (KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD)]
        found = quality.compute_kid(images, real)
        assert found == pytest.approx(mean_std, rel=2e-5)  # float32 sums


def test_nearest_real_is_that_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    images, reals = draw_features(30, seed=1).features, draw_features(50, seed=2).features
    expected = cdist(images, reals)
    for batch_size in (7, 1000):
        monkeypatch.setattr(quality, "NEAREST_BATCH_SIZE", batch_size)
        found = quality.find_nearest(images, reals)
        assert found.indices.tolist() == expected.argmin(axis=1).tolist()
        np.testing.assert_allclose(found.distances, expected.min(axis=1), rtol=1e-6)
        assert (quality.find_nearest(reals, reals).distances == 0).all()
    origin, reals = place([[0, 0]]).features, place([[3, 4], [0, 5], [3, 4]]).features
    found = quality.find_nearest(origin, reals)
    assert (found.indices.tolist(), found.distances.tolist()) == ([0], [5.0])


def test_closest_pairs_come_first_and_equal_ones_in_order() -> None:
    nearest = quality.Nearest(np.array([5, 6, 7, 8]), np.array([2.0, 0.5, 1.0, 0.5], np.float32))
    assert quality.list_closest(nearest, 3) == [(1, 6, 0.5), (3, 8, 0.5), (2, 7, 1.0)]
    assert len(quality.list_closest(nearest, 10)) == 4


def test_memorised_by_hand() -> None:
    """Reals at 0, 1, ..., 200: the 0.01 quantile is 2."""
    held_out = np.arange(201, dtype=np.float32)
    found = quality.compute_memorised(np.array([0.0, 1.9, 2.0, 2.1], np.float32), held_out)
    assert found == 0.5  # the one on the threshold is free


@pytest.mark.parametrize("batch_size", [37, 1000])
def test_density_and_coverage_are_those_of_a_loop(
    monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    """Naeem et al. 2020, equations 3 and 4."""
    monkeypatch.setattr(quality, "DISTANCES_BATCH_SIZE", batch_size)
    real, generated = draw_features(60, seed=1), draw_features(40, seed=2, shift=0.3)
    radii = [sorted(row)[5] for row in cdist(real.features, real.features)]  # [0] is itself
    to_generated = cdist(real.features, generated.features)
    inside = [[d < radius for d in row] for row, radius in zip(to_generated, radii, strict=True)]
    expected = sum(map(sum, inside)) / (5 * 40), sum(map(any, inside)) / 60
    assert 0.2 < expected[1] < 0.9
    assert quality.compute_density_coverage(generated, Reals(real, real)) == expected
    assert quality.compute_density_coverage(real, Reals(real, real)) == (1.0, 1.0)


def test_precision_and_recall_are_told_apart() -> None:
    """Generated images on one half of the reals: all realistic, half of the reals covered."""
    line = np.stack([np.arange(40), np.zeros(40)], axis=1)
    real = place(np.concatenate([line, line + 1000]))
    assert quality.compute_precision_recall(place(line), real) == (1.0, 0.5)


def predict(*counts: int) -> npt.NDArray[np.float32]:
    """Make logits of so many images of each class."""
    return np.eye(len(counts), dtype=np.float32).repeat(counts, axis=0)


def test_class_entropy_of_uniform_classes_is_ln_10_and_of_one_class_0() -> None:
    logits = predict(*[7] * 10)
    assert quality.compute_class_entropy(logits) == pytest.approx(math.log(10), abs=1e-12)
    assert quality.compute_class_entropy(logits[:7]) == 0.0


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((95, 3, 2, 0), 0),  # a tenth is enough
        ((96, 3, 1, 0), 1),
        ((0, 0, 0, 9), 3),
        ((1, 0, 0, 0), 2),  # few images: their number does not count
        ((500, 300, 200, 0), 0),
    ],
)
def test_missing_classes_by_hand(counts: tuple[int, ...], expected: int) -> None:
    real = predict(50, 30, 20, 0)  # a class is missing below 0.05, 0.03, 0.02 and 0
    assert quality.count_missing_classes(predict(*counts), real) == expected


def test_contrast_is_the_mean_deviation_within_images_and_channels() -> None:
    images = np.zeros((2, 1, 4, 4), np.uint8)
    images[0, :, :2] = 255  # half white, half black
    assert quality.measure_contrast(images) == 127.5 / 2
    assert quality.measure_contrast(images, 1) == 127.5
    sheet = np.broadcast_to(np.array((255, 0, 40), np.uint8)[:, None, None], (3, 4, 4))
    assert quality.measure_contrast(np.stack([sheet, 255 - sheet])) == 0.0


def test_generator_that_repeats_a_split_is_found_out() -> None:
    training, test = draw_features(100, seed=1), draw_features(100, seed=2)
    reals = Reals(test, training)
    found = compare(training, reals)
    assert tuple(found) == METRICS
    assert found["memorised"] == 1.0
    assert quality.compute_floor(reals, 100) == {**found, "memorised": 0.01}
    found = compare(test, reals)
    best = {"precision": 1, "recall": 1, "density": 1, "coverage": 1, "missing_classes": 0}
    assert {name: found[name] for name in best} == best
    assert (found["memorised"], found["fid"]) == (0.01, pytest.approx(0.0, abs=1e-4))


def test_floor_and_numbers_about_classes_are_of_as_many_images_as_a_generator_has() -> None:
    reals = Reals(draw_features(50, seed=1), draw_features(90, seed=2))
    expected = compare(reals.training.take_first(40), reals)
    assert quality.compute_floor(reals, 40) == {**expected, "memorised": 0.02}  # of 50: one below
    assert quality.compute_floor(reals, 90)["fid"] != expected["fid"]
    features = draw_features(40, seed=3).features
    one_class = FeatureSet(features, np.eye(10, dtype=np.float32)[[3] * 40])
    assert compare(one_class, reals)["missing_classes"] == 9
    found = compare(FeatureSet(features, None), reals)
    missing = {name for name, value in found.items() if value is None}
    assert missing == {"class_entropy", "missing_classes"}


FLOOR = Diversity(contrast=77.0, class_entropy=2.0, missing_share=0.0, recall=0.8)
NO_CLASSES = {"class_entropy": None, "missing_share": None}


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"contrast": 8.0}, Collapse.INTACT),
        ({"contrast": 7.99, "class_entropy": 0.0, "missing_share": 0.9}, Collapse.EMPTY),
        ({"class_entropy": 0.99}, Collapse.COLLAPSED),
        ({"class_entropy": 1.0}, Collapse.REDUCED),  # not below half
        ({"missing_share": 0.5, "recall": 0.0}, Collapse.COLLAPSED),
        ({"missing_share": 0.4}, Collapse.INTACT),  # entropy and recall say how much that is
        ({"class_entropy": 1.79}, Collapse.REDUCED),
        ({"class_entropy": 1.8}, Collapse.INTACT),
        ({"recall": 0.39}, Collapse.REDUCED),
        ({"recall": 0.4}, Collapse.INTACT),
        ({**NO_CLASSES, "contrast": 7.9}, Collapse.EMPTY),
        ({**NO_CLASSES}, Collapse.INTACT),
        ({**NO_CLASSES, "recall": 0.0}, Collapse.REDUCED),  # nobody is called collapsed
    ],
)
def test_verdict_on_diversity(changes: dict[str, float | None], verdict: Collapse) -> None:
    found = dataclasses.replace(FLOOR, **changes)
    floor = dataclasses.replace(FLOOR, **NO_CLASSES) if found.class_entropy is None else FLOOR
    assert judge_collapse(found, floor) is verdict


def test_rule_without_classes_speaks_of_none() -> None:
    assert "class entropy" in describe_rule()
    assert "class entropy" not in describe_rule(has_classes=False)
