"""Judges: their descriptions against numbers worked out by hand, and how detectors are trained."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from pydantic import ValidationError
from quality_tools import draw_images
from sklearn.metrics import roc_auc_score

from fabrication import make_study
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.evaluation.judges import probe
from knowledge_gaps.evaluation.judging import (
    Judge,
    count_trained,
    fit_logistic,
    get_judge,
    list_judges,
)

HISTOGRAMS = {"grey_levels": 17, "steps": 7, "patches": 256}
NOTHING = np.log(1 / 12)  # logarithm of the power of a frequency that is not there


def describe(name: str, *images: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Describe grey images [H, W]."""
    return get_judge(name).describe(np.array(images, np.uint8)[:, None])


def make_wave() -> npt.NDArray[np.uint8]:
    """Make an image of 8 px with two cycles across and an amplitude of 40 levels."""
    return np.tile(128 + 40 * np.array([1, 0, -1, 0]), (8, 2)).astype(np.uint8)


def measure_auc(judge: Judge, images: tuple[npt.NDArray[np.uint8], ...], seed: int = 0) -> float:
    """Train a judge on two sets of images, and measure it on two others."""
    reals, generated, *tested = map(judge.describe_all, images)
    scores = [judge.fit(reals, generated, seed)(one) for one in tested]
    labels = np.repeat([1, 0], [len(one) for one in scores])
    return float(roc_auc_score(labels, np.concatenate(scores)))


@pytest.mark.parametrize("name", list_judges())
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 40, 33), (1, 4, 4)])
def test_judge_describes_and_scores_image_by_image(
    monkeypatch: pytest.MonkeyPatch, name: str, shape: tuple[int, ...]
) -> None:
    monkeypatch.setattr(probe, "_NUM_STEPS", 2)
    judge, images = get_judge(name), draw_images(8, shape)
    described = judge.describe_all(images)
    one_by_one = np.concatenate([judge.describe(images[i : i + 1]) for i in range(8)])
    np.testing.assert_allclose(described, one_by_one, rtol=1e-12)
    assert described.dtype == (np.uint8 if name == "probe" else np.float64)
    assert name == "probe" or described.ndim == 2
    assert np.isfinite(described).all()
    np.testing.assert_array_equal(judge.describe_all(images, 3), described[:3])
    scores = judge.fit(described[:5], described[3:], 0)(described)
    assert (scores.shape, scores.dtype) == ((8,), np.float32)
    assert np.isfinite(scores).all()


def test_unknown_judge_is_refused_and_none_is_named_twice() -> None:
    known = "grey_levels, log_spectrum, patches, pixels, probe, radial_spectrum, steps"
    message = rf"^params\.yaml: evaluation\.judges: 'nobody' found, one of {known} is needed$"
    with pytest.raises(UserError, match=message):
        get_judge("nobody")
    with pytest.raises(ValidationError, match="names one twice"):
        make_study({"evaluation.judges": ["steps", "pixels", "steps"]})


@pytest.mark.parametrize(("num", "expected"), [(1, 500), (2, 500), (3, 333), (2000, 1)])
def test_half_of_a_generators_images_at_least_is_left(num: int, expected: int) -> None:
    assert count_trained(1000, num) == expected


def test_ends_of_the_levels_have_bins_of_their_own() -> None:
    [shares] = describe("grey_levels", [[0, 0, 0, 1], [17, 254, 255, 255]])
    expected = np.zeros(17)
    expected[[0, 1, 15, 16]] = 3 / 8, 2 / 8, 1 / 8, 2 / 8
    np.testing.assert_array_equal(shares, expected)


def test_steps_are_downwards() -> None:
    column = [0, 0, 1, 17, 255, 254, 100]  # steps 0, 1, 16, 238, -1, -154
    shares = describe("steps", np.transpose([column]), np.transpose([column[::-1]]))
    np.testing.assert_allclose(shares[0], np.array([1, 0, 1, 1, 1, 1, 1]) / 6)
    np.testing.assert_allclose(shares[1], np.array([1, 1, 1, 1, 1, 0, 1]) / 6)
    row = describe("steps", np.tile(column, (2, 1)))
    np.testing.assert_array_equal(row, [[0, 0, 0, 1, 0, 0, 0]])


def test_pattern_has_a_bit_for_each_neighbour_clockwise() -> None:
    # from the upper left corner on: 9, 1, 5, 0, 7, 2, 5, 4 around 5
    [shares] = describe("patches", [[9, 1, 5], [4, 5, 0], [5, 2, 7]])
    assert shares[0b01010101] == 1
    [shares] = describe("patches", np.full((4, 5), 7))
    assert shares[0b11111111] == 1  # six equal middles


def test_pixels_are_levels_and_means_of_large_images() -> None:
    small, large = draw_images(2, (3, 8, 8)), draw_images(2, (3, 64, 96))
    judge = get_judge("pixels")
    np.testing.assert_array_equal(judge.describe(small), small.reshape(2, -1))
    means = large.reshape(2, 3, 32, 2, 32, 3).mean(axis=(3, 5))
    np.testing.assert_allclose(judge.describe(large), means.reshape(2, -1), rtol=1e-12)


def test_wave_is_in_one_ring_of_the_radial_spectrum() -> None:
    [rings] = describe("radial_spectrum", make_wave())
    # half of the variance at 2 cycles to the right, and half at as many to the left
    cycles = np.hypot(*np.meshgrid(*2 * [[0, 1, 2, 3, -4, -3, -2, -1]]))
    power = 64 * 40**2 / 2 / np.sum(np.rint(cycles) == 2)
    expected = [NOTHING, np.log(power + 1 / 12), NOTHING, NOTHING]
    np.testing.assert_allclose(rings, expected, rtol=1e-9)


def test_wave_is_at_one_place_of_the_spectrum() -> None:
    [found] = describe("log_spectrum", make_wave())
    expected = np.full((8, 5), NOTHING)  # rows from -4 to 3 cycles, columns from 0 to 4
    expected[4, 2] = np.log(64 * 40**2 / 4 + 1 / 12)
    np.testing.assert_allclose(found.reshape(8, 5), expected, rtol=1e-9)
    [turned] = describe("log_spectrum", make_wave().T)
    places = np.argwhere(turned.reshape(8, 5) > 0)
    assert places.tolist() == [[2, 0], [6, 0]]  # -2 and 2 cycles down


@pytest.mark.parametrize(("name", "num_bins"), HISTOGRAMS.items())
def test_histograms_are_of_each_channel(name: str, num_bins: int) -> None:
    images, judge = draw_images(2, (3, 9, 7)), get_judge(name)
    shares = judge.describe(images)
    assert shares.shape == (2, 3 * num_bins)
    channels = [judge.describe(images[:, channel : channel + 1]) for channel in range(3)]
    np.testing.assert_array_equal(shares, np.concatenate(channels, axis=1))


def test_level_gap_is_in_the_levels_and_not_in_the_spectrum() -> None:
    """Generated images are as reals, but one level brighter: none has a pixel of exactly 0."""
    reals, others = (200 * (draw_images(80, (1, 12, 12), seed) > 127) for seed in (0, 1))
    reals, generated = reals.astype(np.uint8), (others + 1).astype(np.uint8)
    images = reals[:40], generated[:40], reals[40:], generated[40:]
    assert measure_auc(get_judge("grey_levels"), images) == 1.0
    spectrum = get_judge("radial_spectrum")
    described = [spectrum.describe(others.astype(np.uint8)), spectrum.describe(generated)]
    np.testing.assert_allclose(*described, rtol=1e-9)
    assert 0.25 < measure_auc(spectrum, images) < 0.75


def test_score_is_positive_for_reals_and_both_kinds_weigh_alike() -> None:
    rng = np.random.default_rng(0)
    reals, generated = rng.normal(0, 1, (9000, 1)), rng.normal(2, 1, (1000, 1))
    score = fit_logistic(reals, generated)
    # the threshold is in the middle; without weights it would be at 1 + ln(9) / 2 = 2.1
    low, high = score(np.array([[0.7], [1.3]]))
    assert low > 0 > high
    assert np.array_equal(fit_logistic(reals, generated, 5)(reals), score(reals))


@pytest.fixture
def textures() -> tuple[npt.NDArray[np.uint8], ...]:
    """Draw noise, and noise whose columns come in pairs of equal ones: two sets of either."""
    noise = draw_images(600, (1, 12, 12))
    noise[300:, :, :, 1::2] = noise[300:, :, :, ::2]
    return noise[:150], noise[300:450], noise[150:300], noise[450:]


def test_probe_learns_by_its_seed_alone(textures: tuple[npt.NDArray[np.uint8], ...]) -> None:
    judge = get_judge("probe")
    assert measure_auc(judge, textures) > 0.9
    reals, generated, tested, _ = textures
    torch.manual_seed(5)
    expected_draw = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = (judge.fit(reals, generated, seed)(tested) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(1), expected_draw)  # the global generator is left alone
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_probe_takes_the_middle_of_large_images() -> None:
    images = draw_images(2, (3, 100, 40))
    np.testing.assert_array_equal(get_judge("probe").describe(images), images[:, :, 18:82])
