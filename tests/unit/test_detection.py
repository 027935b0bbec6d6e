"""Scores of images, and what they say about a classifier and a generator."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from knowledge_gaps.data.images import to_float
from knowledge_gaps.evaluation.detection import (
    AUC,
    DETECTION_RATE,
    REAL_ACCURACY,
    Scores,
    measure_detection,
    score_images,
)
from knowledge_gaps.models.cnn import Cnn, CnnSettings, make_input_spec
from knowledge_gaps.models.frozen import freeze
from knowledge_gaps.models.input_spec import GanClassifier, InputSpec

SHAPE = (1, 12, 12)


def scores(*values: float) -> Scores:
    return np.array(values, dtype=np.float32)


def count_pairs(scores_generated: Scores, scores_real: Scores) -> float:
    """Share of pairs in which the real has the higher score; a tie is half a pair."""
    pairs = itertools.product(scores_generated.tolist(), scores_real.tolist())
    won = [1.0 if real > generated else 0.5 * (real == generated) for generated, real in pairs]
    return sum(won) / len(won)


def make_images(num_images: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (num_images, *SHAPE), dtype=np.uint8)


def make_classifier() -> GanClassifier:
    settings = CnnSettings(channels=[4, 6])
    torch.manual_seed(0)
    classifier = GanClassifier(Cnn(settings, SHAPE), make_input_spec(settings, SHAPE))
    classifier(to_float(torch.from_numpy(make_images(16))))  # moves the running statistics
    return freeze(classifier)


def test_rates_have_their_hand_values() -> None:
    measured = measure_detection(scores(-1, -2, 3, -0.5), scores(1, 2, -3, 4, 5))
    assert measured[DETECTION_RATE] == 0.75
    assert measured[REAL_ACCURACY] == 0.8
    assert set(measured) == {"detection_rate", "real_accuracy", "auc"}


def test_undecided_classifier_calls_everything_generated() -> None:
    measured = measure_detection(scores(0, 0), scores(0, 0, 0))
    assert measured == {DETECTION_RATE: 1.0, REAL_ACCURACY: 0.0, AUC: 0.5}


@pytest.mark.parametrize(
    ("generated", "real", "auc"),
    [
        ((-2, -1), (1, 2), 1.0),
        ((1, 2), (-2, -1), 0.0),
        ((5, 6), (7, 8), 1.0),
        ((1, 2), (1, 2), 0.5),
        ((1, 1, 3), (1, 2), (0.5 + 0.5 + 0 + 1 + 1 + 0) / 6),
    ],
)
def test_auc_has_its_hand_values(
    generated: tuple[float, ...], real: tuple[float, ...], auc: float
) -> None:
    measured = measure_detection(scores(*generated), scores(*real))
    assert measured[AUC] == pytest.approx(auc)


@pytest.mark.parametrize("seed", range(4))
def test_auc_equals_the_count_of_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    generated = rng.normal(-0.3, 1, 41).round(1).astype(np.float32)  # rounded: many ties
    real = rng.normal(0.3, 1, 29).round(1).astype(np.float32)
    assert np.intersect1d(generated, real).size > 0
    measured = measure_detection(generated, real)
    assert measured[AUC] == pytest.approx(count_pairs(generated, real))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_score_that_is_not_finite_is_refused(bad: float) -> None:
    for generated, real in ((scores(bad, 1), scores(1)), (scores(1), scores(bad, 1))):
        with pytest.raises(FloatingPointError, match="not finite"):
            measure_detection(generated, real)


@pytest.mark.parametrize("batch_size", [1, 7, 30, 1000])
def test_scores_do_not_depend_on_the_batch_size(batch_size: int) -> None:
    images, classifier = make_images(30), make_classifier()
    found = score_images(classifier, images, batch_size)
    assert found.shape == (30,)
    assert found.dtype == np.float32
    with torch.no_grad():
        expected = classifier(to_float(torch.from_numpy(images))).numpy()
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_images_are_scored_in_order_and_as_minus_one_to_one() -> None:
    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(1))

        def forward(self, images: Tensor) -> Tensor:
            return images.mean(dim=(1, 2, 3)) + self.bias

    spec = InputSpec(channels=1, image_px=(2, 2), input_px=(2, 2), mean=(0.5,), std=(0.5,))
    images = np.repeat(np.array([0, 255, 51], np.uint8), 4).reshape(3, 1, 2, 2)
    found = score_images(freeze(GanClassifier(Mean(), spec)), images, 2)
    np.testing.assert_allclose(found, [-1.0, 1.0, -0.6], atol=1e-6)
