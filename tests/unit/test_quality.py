"""Quality metrics: hand values, an independent formula, and parity with torch-fidelity end to end.

The digits are drawn here (blurred strokes), so no data file is needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import scipy.linalg
import torch
import torch_fidelity
from torch.utils.data import Dataset

from knowledge_gaps.evaluation import quality
from knowledge_gaps.evaluation.lenet import IMAGE_SHAPE, LeNet, load_lenet, register_extractor
from knowledge_gaps.evaluation.quality import FeatureSet
from knowledge_gaps.runtime.errors import UserError

NUM_IMAGES = 300


class ImageDataset(Dataset[torch.Tensor]):
    """Images as torch-fidelity takes them: one uint8 CHW tensor for an index."""

    def __init__(self, images: npt.NDArray[np.uint8]) -> None:
        self.images = torch.from_numpy(images)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.images[index]


def draw_strokes(num_images: int, seed: int, tilt: float = 0.0) -> npt.NDArray[np.uint8]:
    """Draw one soft stroke an image, of random place and slope; `tilt` shifts the slopes."""
    rng = np.random.default_rng(seed)
    offset, slope = (
        rng.normal(0.0, 3.0, (num_images, 1, 1)),
        rng.normal(tilt, 0.7, (num_images, 1, 1)),
    )
    rows, columns = np.mgrid[-13.5:14, -13.5:14]
    distance = np.abs(columns - offset - slope * rows) / np.sqrt(1 + slope**2)
    inside = np.abs(rows) < 10
    brightness = 255 * np.exp(-((distance / 1.7) ** 2)) * inside
    images: npt.NDArray[np.uint8] = brightness.astype(np.uint8)[:, None]
    return images


def draw_features(num_images: int, seed: int, shift: float = 0.0) -> FeatureSet:
    """Draw correlated Gaussian features [N, 84] and logits [N, 10]."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(7).normal(size=(84, 84)) / math.sqrt(84)
    features = rng.normal(shift, 1.0, (num_images, 84)) @ mixing
    logits = rng.normal(size=(num_images, 10))
    return FeatureSet(features.astype(np.float32), logits.astype(np.float32))


@pytest.fixture(scope="module")
def lenet() -> LeNet:
    return load_lenet()


@pytest.fixture(scope="module")
def images_generated() -> npt.NDArray[np.uint8]:
    return draw_strokes(NUM_IMAGES, seed=1, tilt=0.3)


@pytest.fixture(scope="module")
def images_real() -> npt.NDArray[np.uint8]:
    return draw_strokes(NUM_IMAGES, seed=2)


@pytest.fixture(scope="module")
def generated(lenet: LeNet, images_generated: npt.NDArray[np.uint8]) -> FeatureSet:
    return quality.extract_features(images_generated, lenet)


@pytest.fixture(scope="module")
def real(lenet: LeNet, images_real: npt.NDArray[np.uint8]) -> FeatureSet:
    return quality.extract_features(images_real, lenet)


@pytest.mark.parametrize(
    ("num_images", "count"), [(4000, "4k"), (10000, "10k"), (300, "300"), (1500, "1500")]
)
def test_metric_names_state_the_number_of_images(num_images: int, count: str) -> None:
    metrics = ("fid", "kid", "precision", "recall", "class_entropy")
    expected = tuple(f"{metric}_lenet_{count}" for metric in metrics)
    assert quality.metric_names(num_images) == expected


def test_features_are_those_of_the_extractor(
    lenet: LeNet, images_real: npt.NDArray[np.uint8], real: FeatureSet
) -> None:
    assert real.features.shape == (NUM_IMAGES, 84)
    assert real.logits.shape == (NUM_IMAGES, 10)
    assert real.features.dtype == real.logits.dtype == np.float32
    features, logits = lenet(torch.from_numpy(images_real[-1:]).float() / 127.5 - 1.0)
    np.testing.assert_allclose(real.features[-1:], features.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(real.logits[-1:], logits.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 7, NUM_IMAGES, 1000])
def test_batch_size_does_not_change_the_features(
    lenet: LeNet, images_real: npt.NDArray[np.uint8], real: FeatureSet, batch_size: int
) -> None:
    again = quality.extract_features(images_real, lenet, batch_size)
    np.testing.assert_allclose(again.features, real.features, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(again.logits, real.logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((4, 3, 32, 32), np.uint8),
        np.zeros((4, 28, 28), np.uint8),
        np.zeros((4, *IMAGE_SHAPE), np.float32),
        np.zeros((0, *IMAGE_SHAPE), np.uint8),
    ],
)
def test_images_that_the_extractor_cannot_take_are_refused(
    lenet: LeNet, images: npt.NDArray[np.uint8]
) -> None:
    with pytest.raises(UserError, match=r"extractor lenet needs uint8 \[N, 1, 28, 28\]"):
        quality.extract_features(images, lenet)


def test_read_only_images_are_taken(lenet: LeNet, images_real: npt.NDArray[np.uint8]) -> None:
    images = images_real[:4].copy()
    images.flags.writeable = False
    assert len(quality.extract_features(images, lenet)) == 4


def test_fid_of_a_set_with_itself_is_zero(real: FeatureSet) -> None:
    assert quality.compute_fid(real, real) == pytest.approx(0.0, abs=1e-4)


def test_fid_equals_the_formula_with_a_matrix_root() -> None:
    """|mu1 - mu2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), Heusel et al. 2017, equation 6."""
    first, second = draw_features(400, seed=3), draw_features(500, seed=4, shift=0.2)
    x, y = first.features.astype(np.float64), second.features.astype(np.float64)
    cov_x, cov_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(cov_x @ cov_y).real
    expected = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(cov_x + cov_y - 2 * root)
    assert quality.compute_fid(first, second) == pytest.approx(expected, rel=1e-6)


def test_fid_of_shifted_features_is_the_squared_shift() -> None:
    first = draw_features(400, seed=3)
    second = FeatureSet(first.features + np.float32(0.5), first.logits)
    assert quality.compute_fid(first, second) == pytest.approx(84 * 0.25, rel=1e-4)


def test_fid_statistics_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch_fidelity import metric_fid

    calls: list[int] = []
    compute = metric_fid.fid_features_to_statistics

    def count_calls(features: torch.Tensor) -> dict[str, npt.NDArray[np.float64]]:
        calls.append(len(features))
        return dict(compute(features))

    monkeypatch.setattr(metric_fid, "fid_features_to_statistics", count_calls)
    real = draw_features(50, seed=0)
    for seed in (1, 2, 3):
        quality.compute_fid(draw_features(40, seed=seed), real)
    assert calls.count(50) == 1
    assert calls.count(40) == 3


def test_kid_is_near_zero_for_one_distribution_and_not_for_two() -> None:
    real = draw_features(400, seed=3)
    same = quality.compute_kid(draw_features(400, seed=4), real)
    other = quality.compute_kid(draw_features(400, seed=4, shift=0.5), real)
    assert abs(same) < 0.01
    assert other > 0.1


def test_kid_equals_the_unbiased_estimate() -> None:
    """Fewer images than a subset: every subset is the whole set, so no randomness is left."""
    first, second = draw_features(60, seed=3), draw_features(60, seed=4, shift=0.3)
    x, y = first.features.astype(np.float64), second.features.astype(np.float64)
    k_xx, k_yy, k_xy = ((a @ b.T / 84 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    off_diagonal = (k.sum() - np.trace(k) for k in (k_xx, k_yy))
    expected = sum(off_diagonal) / (60 * 59) - 2 * k_xy.mean()
    assert quality.compute_kid(first, second) == pytest.approx(expected, abs=1e-5)


def test_precision_and_recall_are_told_apart() -> None:
    """Generated images on one half of the reals: all realistic, half of the reals covered."""
    steps = np.arange(40, dtype=np.float32)
    line = np.stack([steps, np.zeros(40, np.float32)], axis=1)
    logits = np.zeros((40, 10), np.float32)
    real = FeatureSet(np.concatenate([line, line + 1000]), np.concatenate([logits, logits]))
    precision, recall = quality.compute_precision_recall(FeatureSet(line, logits), real)
    assert (precision, recall) == (1.0, 0.5)


def test_precision_and_recall_do_not_depend_on_batching(
    monkeypatch: pytest.MonkeyPatch, generated: FeatureSet, real: FeatureSet
) -> None:
    whole = quality.compute_precision_recall(generated, real)
    monkeypatch.setattr(quality, "PRC_BATCH_SIZE", 37)
    assert quality.compute_precision_recall(generated, real) == pytest.approx(whole, abs=0.005)


def test_class_entropy_of_uniform_classes_is_ln_10_and_of_one_class_0() -> None:
    logits = np.eye(10, dtype=np.float32).repeat(7, axis=0)
    assert quality.compute_class_entropy(logits) == pytest.approx(math.log(10), abs=1e-12)
    assert quality.compute_class_entropy(logits[:7]) == 0.0
    assert quality.compute_class_entropy(logits[:14]) == pytest.approx(math.log(2), abs=1e-12)


def test_quality_agrees_with_torch_fidelity_end_to_end(
    images_generated: npt.NDArray[np.uint8],
    images_real: npt.NDArray[np.uint8],
    generated: FeatureSet,
    real: FeatureSet,
) -> None:
    """Images to metrics by `calculate_metrics`: it uses float32 means, hence the tolerances."""
    theirs = torch_fidelity.calculate_metrics(
        input1=ImageDataset(images_generated),
        input2=ImageDataset(images_real),
        feature_extractor=register_extractor(),
        fid=True,
        kid=True,
        prc=True,
        kid_subset_size=NUM_IMAGES,
        rng_seed=quality.KID_SEED,
        cuda=False,
        cache=False,
        save_cpu_ram=True,
        verbose=False,
    )
    ours = quality.compute_quality(generated, real)
    assert tuple(ours) == quality.metric_names(NUM_IMAGES)
    fid, kid = theirs["frechet_inception_distance"], theirs["kernel_inception_distance_mean"]
    assert ours["fid_lenet_300"] == pytest.approx(fid, rel=1e-4)
    assert ours["fid_lenet_300"] > 0.1
    assert ours["kid_lenet_300"] == pytest.approx(kid, rel=1e-3, abs=1e-5)
    assert ours["precision_lenet_300"] == pytest.approx(theirs["precision"], abs=0.01)
    assert ours["recall_lenet_300"] == pytest.approx(theirs["recall"], abs=0.01)
    assert 0.0 < ours["precision_lenet_300"] < 1.0


def test_same_input_gives_the_same_numbers(generated: FeatureSet, real: FeatureSet) -> None:
    again = FeatureSet(generated.features.copy(), generated.logits.copy())
    assert quality.compute_quality(again, real) == quality.compute_quality(generated, real)


@pytest.mark.parametrize(("num_generated", "num_real"), [(3, 10), (10, 3), (1, 1)])
def test_too_few_images_are_refused(num_generated: int, num_real: int) -> None:
    generated, real = draw_features(num_generated, seed=0), draw_features(num_real, seed=1)
    role = "generated images" if num_generated < 4 else "reals"
    with pytest.raises(UserError, match=f"{role}: found .* needs at least 4"):
        quality.compute_quality(generated, real)


@pytest.mark.parametrize("compute", [quality.compute_fid, quality.compute_kid])
def test_one_image_has_no_spread(compute: Callable[[FeatureSet, FeatureSet], float]) -> None:
    with pytest.raises(UserError, match=r"found 1, .* needs at least 2"):
        compute(draw_features(1, seed=0), draw_features(10, seed=1))


def test_class_entropy_of_no_image_is_refused() -> None:
    with pytest.raises(UserError, match="found 0 images"):
        quality.compute_class_entropy(np.zeros((0, 10), np.float32))


def test_sets_of_two_extractors_are_refused() -> None:
    real = draw_features(10, seed=1)
    other = FeatureSet(real.features, real.logits, extractor="inception")
    with pytest.raises(UserError, match="extractor inception, reals by lenet"):
        quality.compute_quality(other, real)
