"""Extractors, distances and the table: hand values, an independent formula, known limits.

Images are followed to metrics in parity with torch-fidelity.

The digits are drawn here (blurred strokes), so no data file is needed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import scipy.linalg
import torch
import torch_fidelity
from quality_tools import draw_features
from torch.utils.data import Dataset
from torch_fidelity.metric_kid import (
    KEY_METRIC_KID_MEAN,
    KEY_METRIC_KID_STD,
    kid_features_to_metric,
)

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.evaluation.extractors.lenet import (
    IMAGE_SHAPE,
    LeNet,
    load_lenet,
    register_extractor,
)
from knowledge_gaps.evaluation.quality import kid, table
from knowledge_gaps.evaluation.quality.features import FeatureSet, extract_features
from knowledge_gaps.evaluation.quality.frechet import compute_frechet
from knowledge_gaps.evaluation.quality.kid import compute_kid
from knowledge_gaps.evaluation.quality.neighbours import Nearest, find_nearest
from knowledge_gaps.evaluation.quality.table import (
    Reals,
    compute_floor,
    compute_quality,
)
from knowledge_gaps.statistics.measures import (
    METRICS,
)

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


def draw_like(images: FeatureSet, num_images: int) -> FeatureSet:
    """Draw other features that lie about half way between random pairs of some images."""
    rng = np.random.default_rng(5)
    pairs = rng.integers(0, len(images), (2, num_images))
    features, logits = (
        (kind[pairs[0]] + kind[pairs[1]]) / 2 for kind in (images.features, images.logits)
    )
    return FeatureSet(features, logits, images.extractor)


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
    return extract_features(images_generated, lenet)


@pytest.fixture(scope="module")
def real(lenet: LeNet, images_real: npt.NDArray[np.uint8]) -> FeatureSet:
    return extract_features(images_real, lenet)


def compare(generated: FeatureSet, reals: Reals) -> dict[str, float]:
    """Compute every metric, as a stage does."""
    nearest = find_nearest(generated.features, reals.training.features)
    return compute_quality(generated, reals, nearest.distances)


# -------------------------------------------------------------------------------- features


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
    again = extract_features(images_real, lenet, batch_size)
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
        extract_features(images, lenet)


def test_read_only_images_are_taken(lenet: LeNet, images_real: npt.NDArray[np.uint8]) -> None:
    images = images_real[:4].copy()
    images.flags.writeable = False
    assert len(extract_features(images, lenet)) == 4


def test_fid_of_a_set_with_itself_is_zero(real: FeatureSet) -> None:
    assert compute_frechet(real, real) == pytest.approx(0.0, abs=1e-4)


def test_fid_equals_the_formula_with_a_matrix_root() -> None:
    """|mu1 - mu2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), Heusel et al. 2017, equation 6."""
    first, second = draw_features(400, seed=3), draw_features(500, seed=4, shift=0.2)
    x, y = first.features.astype(np.float64), second.features.astype(np.float64)
    cov_x, cov_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(cov_x @ cov_y).real
    expected = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(cov_x + cov_y - 2 * root)
    assert compute_frechet(first, second) == pytest.approx(expected, rel=1e-6)


def test_fid_of_shifted_features_is_the_squared_shift() -> None:
    first = draw_features(400, seed=3)
    second = FeatureSet(first.features + np.float32(0.5), first.logits, "lenet")
    assert compute_frechet(first, second) == pytest.approx(84 * 0.25, rel=1e-4)


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
        compute_frechet(draw_features(40, seed=seed), real)
    assert calls.count(50) == 1
    assert calls.count(40) == 3


def test_kid_is_near_zero_for_one_distribution_and_not_for_two() -> None:
    real = draw_features(400, seed=3)
    same, _ = compute_kid(draw_features(400, seed=4), real)
    other, _ = compute_kid(draw_features(400, seed=4, shift=0.5), real)
    assert abs(same) < 0.01
    assert other > 0.1


def estimate_mmd(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> float:
    """Estimate MMD^2 without bias, with the cubic kernel (Binkowski et al. 2018, equation 4)."""
    k_xx, k_yy, k_xy = ((a @ b.T / x.shape[1] + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    off_diagonal = (k.sum() - np.trace(k) for k in (k_xx, k_yy))
    return float(sum(off_diagonal) / (len(x) * (len(x) - 1)) - 2 * k_xy.mean())


def test_kid_equals_the_unbiased_estimate() -> None:
    """Fewer images than a subset: every subset is the whole set, so no randomness is left."""
    first, second = draw_features(60, seed=3), draw_features(60, seed=4, shift=0.3)
    expected = estimate_mmd(first.features.astype(np.float64), second.features.astype(np.float64))
    mean, std = compute_kid(first, second)
    assert mean == pytest.approx(expected, abs=1e-5)
    assert std == pytest.approx(0.0, abs=1e-5)


def test_kid_std_is_that_of_random_subsets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kid, "KID_SUBSETS", 400)
    monkeypatch.setattr(kid, "KID_SUBSET_SIZE", 20)
    first, second = draw_features(200, seed=3), draw_features(200, seed=4, shift=0.3)
    rng = np.random.default_rng(0)
    estimates = [
        estimate_mmd(*(rng.choice(s.features, 20, replace=False).astype(np.float64) for s in sets))
        for sets in [(first, second)] * 400
    ]
    mean, std = compute_kid(first, second)
    # two times 400 other subsets: a mean's standard error is a 20th of std, that of std a 28th
    assert mean == pytest.approx(np.mean(estimates), abs=0.2 * std)
    assert std == pytest.approx(np.std(estimates), rel=0.2)


def ask_torch_fidelity(first: FeatureSet, second: FeatureSet) -> tuple[float, float]:
    metric = kid_features_to_metric(
        torch.from_numpy(first.features),
        torch.from_numpy(second.features),
        kid_subsets=kid.KID_SUBSETS,
        kid_subset_size=kid.KID_SUBSET_SIZE,
        rng_seed=kid.KID_SEED,
        verbose=False,
    )
    return metric[KEY_METRIC_KID_MEAN], metric[KEY_METRIC_KID_STD]


@pytest.mark.parametrize("num_images", [60, 128, 130, 450])
def test_kid_is_torch_fidelitys_on_the_same_subsets(
    monkeypatch: pytest.MonkeyPatch, num_images: int
) -> None:
    monkeypatch.setattr(kid, "KID_SUBSET_SIZE", 50)
    monkeypatch.setattr(kid, "_ROWS", 64)  # less than a block, some blocks, a last one in part
    first, second = draw_features(num_images, seed=3), draw_features(200, seed=4, shift=0.3)
    monkeypatch.delattr(kid, "_ask_library")
    asked = ask_torch_fidelity(first, second)
    assert compute_kid(first, second) == pytest.approx(asked, rel=2e-5)  # it sums in float32


def test_kid_of_sets_of_two_sizes_against_the_same_reals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which reals are in a subset depends on how many images were drawn before them."""
    monkeypatch.setattr(kid, "KID_SUBSET_SIZE", 50)
    real = draw_features(200, seed=4, shift=0.3)
    for num_images in (60, 130, 60):
        images = draw_features(num_images, seed=num_images)
        assert compute_kid(images, real) == pytest.approx(
            ask_torch_fidelity(images, real), rel=2e-5
        )


def test_kid_of_many_images_is_left_to_torch_fidelity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kid, "KID_SUBSET_SIZE", 50)
    monkeypatch.setattr(kid, "KID_SUBSETS", 10)  # 25,000 pairs
    first, second = draw_features(130, seed=3), draw_features(200, seed=4, shift=0.3)
    assert compute_kid(first, second) == ask_torch_fidelity(first, second)


# ----------------------------------------------------------------------------------- table


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
        rng_seed=kid.KID_SEED,
        cuda=False,
        cache=False,
        save_cpu_ram=True,
        verbose=False,
    )
    ours = compare(generated, Reals(real, real))
    assert tuple(ours) == METRICS
    assert ours["fid"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-4)
    assert ours["fid"] > 0.1
    theirs_kid = theirs["kernel_inception_distance_mean"]
    assert ours["kid"] == pytest.approx(theirs_kid, rel=1e-3, abs=1e-5)
    assert ours["kid_std"] == pytest.approx(theirs["kernel_inception_distance_std"], abs=1e-5)
    assert ours["precision"] == pytest.approx(theirs["precision"], abs=0.01)
    assert ours["recall"] == pytest.approx(theirs["recall"], abs=0.01)
    assert 0.0 < ours["precision"] < 1.0


def test_generator_that_repeats_the_training_set_is_found_out(real: FeatureSet) -> None:
    test, training = real.take_first(100), draw_like(real, 100)
    found = compare(training, Reals(test, training))
    assert found["memorised"] == 1.0
    assert compare(test, Reals(test, training))["memorised"] == 0.01
    assert compute_floor(Reals(test, training), 100) == {**found, "memorised": 0.01}


def test_generator_that_repeats_the_test_set_has_the_best_of_everything(real: FeatureSet) -> None:
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
    first = FeatureSet(reals.training.features[:40], reals.training.logits[:40], "lenet")
    expected = compare(first, reals)
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


def test_same_input_gives_the_same_numbers(generated: FeatureSet, real: FeatureSet) -> None:
    def copy(images: FeatureSet) -> FeatureSet:
        return FeatureSet(images.features.copy(), images.logits.copy(), images.extractor)

    reals = Reals(real, draw_like(real, 200))
    again = compare(copy(generated), Reals(copy(reals.test), copy(reals.training)))
    assert again == compare(generated, reals)


@pytest.mark.parametrize(("num_generated", "num_real"), [(3, 10), (10, 3), (1, 1)])
def test_too_few_images_are_refused(num_generated: int, num_real: int) -> None:
    generated, real = draw_features(num_generated, seed=0), draw_features(num_real, seed=1)
    role = "generated images" if num_generated < 4 else "reals"
    with pytest.raises(UserError, match=f"{role}: found .* needs at least 4"):
        compare(generated, Reals(real, real))


@pytest.mark.parametrize("compute", [compute_frechet, compute_kid])
def test_one_image_has_no_spread(compute: Callable[[FeatureSet, FeatureSet], float]) -> None:
    with pytest.raises(UserError, match=r"found 1, .* needs at least 2"):
        compute(draw_features(1, seed=0), draw_features(10, seed=1))


def test_five_reals_have_no_neighbourhoods() -> None:
    reals = Reals(draw_features(5, seed=1), draw_features(10, seed=2))
    with pytest.raises(UserError, match="found 5, 5 neighbours of each need at least 6"):
        compare(draw_features(10, seed=0), reals)


@pytest.mark.parametrize("changed", ["test", "training"])
def test_sets_of_two_extractors_are_refused(changed: str) -> None:
    real = draw_features(10, seed=1)
    other = FeatureSet(real.features, real.logits, "inception")
    reals = Reals(**{"test": real, "training": real, changed: other})
    with pytest.raises(UserError, match="by extractor lenet, reals by inception"):
        compare(real, reals)
