"""Perturbations against values by hand and other implementations, the registry, and scores."""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from classifier_tools import build_classifier, draw_images, prepare

from fabrication import FOOLING, make_study, write
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.instance import Instance
from knowledge_gaps.evaluation import perturbations, perturbing
from knowledge_gaps.evaluation.perturbing import (
    choose_perturbations,
    list_perturbations,
    measure_perturbed,
    score_perturbed,
)
from knowledge_gaps.readings.cohorts import list_perturbed_pairs, list_references
from knowledge_gaps.study import EvaluationSettings

Images = npt.NDArray[np.uint8]

NAMES = ("none", "blur_0.4", "blur_0.8", "jpeg_95", "jpeg_75", "levels_32", "noise_4", "noise_16")
SHAPES = ((1, 28, 28), (3, 17, 12), (1, 2, 5))


def perturb(name: str, images: Images, start: int = 0) -> Images:
    return list_perturbations()[name].apply(images, start)


def draw_smooth(num: int, shape: tuple[int, int, int]) -> Images:
    """Draw waves of random phase, which every perturbation changes and none destroys."""
    rng = np.random.default_rng(0)
    phases, rates = rng.uniform(0, 6, (num, 1, 1, 1)), rng.uniform(0.3, 0.9, (2, num, 1, 1, 1))
    channels, rows, columns = np.indices(shape)
    waves = np.sin(rates[0] * rows + rates[1] * columns + channels + phases)
    return np.rint(127.5 + 120 * waves).astype(np.uint8)


def test_names_are_known_and_no_change_comes_first() -> None:
    assert tuple(list_perturbations()) == (*NAMES, "resize")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", [*NAMES, "resize"])
def test_images_keep_their_form_and_batches_change_nothing(
    name: str, shape: tuple[int, int, int]
) -> None:
    images = draw_smooth(9, shape)
    before = images.copy()
    whole = perturb(name, images)
    assert (whole.shape, whole.dtype) == (images.shape, np.uint8)
    assert np.array_equal(whole, images) == (name == "none")
    assert np.array_equal(images, before)
    parts = [perturb(name, images[:4]), perturb(name, images[4:], 4)]
    assert np.array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("name", ["jpeg_95", "jpeg_75", "blur_0.8", "resize"])
@pytest.mark.parametrize("channels", [1, 3])
def test_constant_grey_image_stays(name: str, channels: int) -> None:
    values = np.array([0, 3, 100, 201, 255], np.uint8)[:, None, None, None]
    images = np.ascontiguousarray(np.broadcast_to(values, (5, channels, 21, 14)))
    assert np.array_equal(perturb(name, images), images)


def test_channels_stay_apart_and_in_their_order() -> None:
    values = np.array([200, 120, 40], np.uint8)[None, :, None, None]
    images = np.ascontiguousarray(np.broadcast_to(values, (2, 3, 20, 20)))
    for name in list_perturbations():
        found = perturb(name, images)[:, :, 4:-4, 4:-4].astype(float)
        bias = np.abs(found.mean(axis=(0, 2, 3)) - [200, 120, 40])
        assert bias.max() < 5, name  # half a level of 32 is 4.1


@pytest.mark.parametrize(("name", "std"), [("noise_4", 4), ("noise_16", 16)])
def test_noise_has_its_deviation_and_is_new_at_every_position(name: str, std: float) -> None:
    grey = np.full((6, 3, 60, 60), 128, np.uint8)
    noise = perturb(name, grey).astype(float) - 128
    # rounding adds a variance of 1/12; 64,800 values
    assert noise.std() == pytest.approx((std**2 + 1 / 12) ** 0.5, rel=0.01)
    assert abs(noise.mean()) < 0.1 * std**0.5
    correlations = np.corrcoef(noise.reshape(18, -1)) - np.eye(18)
    assert np.abs(correlations).max() < 0.08  # 1/60 is its standard error
    brighter = perturb(name, grey + np.uint8(10)).astype(float) - 138
    assert np.array_equal(brighter, noise)  # whatever the images are
    dark = perturb(name, np.zeros_like(grey))
    assert np.array_equal(dark, noise.clip(0, None))


def test_levels_by_hand() -> None:
    levels = np.array([0, 4, 5, 12, 13, 128, 250, 251, 255], np.uint8).reshape(1, 1, 3, 3)
    expected = [0, 0, 8, 8, 16, 132, 247, 255, 255]  # 255/31 times 0, 0, 1, 1, 2, 16, 30, 31, 31
    assert perturb("levels_32", levels).ravel().tolist() == expected
    everything = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    assert len(np.unique(perturb("levels_32", everything))) == 32


@pytest.mark.parametrize(("name", "sigma", "radius"), [("blur_0.4", 0.4, 2), ("blur_0.8", 0.8, 3)])
def test_blurred_point_is_the_kernel(name: str, sigma: float, radius: int) -> None:
    images = np.zeros((2, 3, 15, 13), np.uint8)
    images[1, 2, 7, 6] = 250
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-(offsets**2) / (2 * sigma**2))
    weights /= weights.sum()
    expected = np.zeros(images.shape)
    place = (slice(7 - radius, 8 + radius), slice(6 - radius, 7 + radius))
    expected[1, 2][place] = np.rint(250 * np.outer(weights, weights))
    assert np.array_equal(perturb(name, images), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_lower_quality_changes_more_and_neither_much(channels: int) -> None:
    images = draw_smooth(8, (1, 32, 32)).repeat(channels, axis=1)  # colours lose resolution
    changes = [
        np.abs(perturb(name, images).astype(float) - images).mean()
        for name in ("jpeg_95", "jpeg_75")
    ]
    assert 0.2 < changes[0] < changes[1] < 4


@pytest.mark.parametrize(("shape", "smaller"), [((1, 28, 28), (24, 24)), ((3, 21, 14), (18, 12))])
def test_resize_is_antialiased_bilinear(
    shape: tuple[int, int, int], smaller: tuple[int, int]
) -> None:
    images = draw_smooth(6, shape)
    resized = torch.from_numpy(images).float()
    for size in (smaller, shape[1:]):
        resized = F.interpolate(resized, size, mode="bilinear", antialias=True)
    change = np.abs(perturb("resize", images) - resized.numpy())
    assert change.max() < 2  # Pillow rounds after each of four passes
    assert np.abs(perturb("resize", images).astype(float) - images).max() > 2


def choose(names: list[str] | None) -> list[str]:
    return list(choose_perturbations(EvaluationSettings(num_images=16, perturbations=names)))


def test_chosen_are_those_asked_for_and_no_change() -> None:
    assert choose(None) == [*NAMES, "resize"]
    assert choose([]) == []
    assert choose(["resize", "jpeg_75"]) == ["none", "jpeg_75", "resize"]
    assert choose(["none"]) == ["none"]
    message = r"params\.yaml: evaluation\.perturbations: 'jpeg' found, one of none, blur_0\.4, "
    with pytest.raises(UserError, match=message):
        choose(["resize", "jpeg"])


@pytest.mark.parametrize(("num_images", "asked", "num"), [(4000, 1000, 1000), (64, 1000, 64)])
def test_no_more_images_are_perturbed_than_there_are(num_images: int, asked: int, num: int) -> None:
    settings = EvaluationSettings(num_images=num_images, perturbed_images=asked)
    assert settings.num_perturbed == num


@pytest.mark.parametrize("name", ["mirror", "resize"])
def test_new_perturbation_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    code = f'PERTURBATIONS = {{"{name}": lambda images, start: images[:, :, :, ::-1]}}'
    path = write(tmp_path / "mirror.py", code)
    monkeypatch.setattr(perturbations, "__path__", [*perturbations.__path__, str(tmp_path)])
    list_perturbations.cache_clear()
    try:
        if name == "resize":
            with pytest.raises(ValueError, match=r"'resize' is in .* and another file"):
                list_perturbations()
        else:
            assert list_perturbations()[name].file == path
            images = draw_images(2)
            assert np.array_equal(perturb(name, images), images[..., ::-1])
    finally:
        list_perturbations.cache_clear()
        sys.modules.pop("knowledge_gaps.evaluation.perturbations.mirror", None)


def test_scores_are_those_of_the_perturbed_images(monkeypatch: pytest.MonkeyPatch) -> None:
    images = draw_images(20)
    classifiers = [build_classifier("cnn", seed) for seed in range(2)]
    noise = list_perturbations()["noise_16"].apply
    with torch.no_grad():
        expected = [network(prepare(noise(images, 0))).numpy() for network in classifiers]
    assert np.abs(expected[0] - expected[1]).max() > 1e-3
    for size in (64, 7):
        monkeypatch.setattr(perturbing, "count_scored", lambda spec, size=size: size)
        found = score_perturbed(classifiers, images, noise)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert [len(none) for none in score_perturbed(classifiers, images[:0], noise)] == [0, 0]


def test_measures_by_hand() -> None:
    generated, real = np.array([-3.0, -1.0, 0.5, 2.0, 5.0]), np.array([-2.0, 1.0, 3.0, 4.0])
    dev = np.linspace(-1.5, 38.5, 41)  # 5 % are two of them; the third one is 0.5
    row = measure_perturbed(*(scores.astype(np.float32) for scores in (generated, real, dev)))
    assert row == {
        "num_images": 5,
        "detection_rate": 0.4,
        "real_accuracy": 0.75,
        "auc": pytest.approx((4 + 3 + 3 + 2 + 0) / 20),
        "detection_at_5pct": 0.4,  # -3 and -1; the one at the threshold would be the third
    }


def test_threshold_needs_reals() -> None:
    scores = np.arange(20, dtype=np.float32)
    assert measure_perturbed(scores, scores, scores[:19])["detection_at_5pct"] is None
    assert measure_perturbed(scores, scores, scores)["detection_at_5pct"] == 0.05  # the first
    tied = np.zeros(20, np.float32)
    assert measure_perturbed(tied, tied, tied)["detection_at_5pct"] == 0.0  # never above 5 %


def test_pairs_are_of_classifiers_that_are_fooled_and_of_their_references() -> None:
    study = make_study(FOOLING)  # idle_0 has a classifier in its loss, with weight 0
    references = [("base", Instance(chain, i)) for chain in range(3) for i in (1, 3)]
    assert list_references(study, "c") == references
    numbers = {"fool_0": 3, "fool_2": 2}
    fooling = [
        (name, Instance(chain, i))
        for name, num in numbers.items()
        for chain, i in product(range(3), range(num))
    ]
    expected = [
        (generator, ("c", Instance(generator[1].chain, i)))  # of its own chain
        for generator in (*references, *fooling)
        for i in range(3)
    ]
    assert list_perturbed_pairs(study) == expected


def test_reference_of_several_iterations() -> None:
    pairs = list_perturbed_pairs(make_study())
    # the reference, which fools classifiers of iteration 0 itself, and two generators
    known = ("fool_all_1", 2), ("memoryless_2", 0), ("memoryless_2", 1)
    expected = {(name, Instance(chain, i)) for chain in range(3) for name, i in known}
    assert {pair[0] for pair in pairs if pair[1][0] == "iteration_1"} == expected
    assert {pair[1][0] for pair in pairs} == {"iteration_0", "iteration_1"}
    assert len(set(pairs)) == len(pairs)
