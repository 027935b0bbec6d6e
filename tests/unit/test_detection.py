"""Scores of images, and what they tell of a classifier and a generator."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chi2_contingency, norm
from sklearn.metrics import average_precision_score
from torch import nn

from knowledge_gaps.data.images import save_array
from knowledge_gaps.data.store import open_images
from knowledge_gaps.evaluation import detection
from knowledge_gaps.evaluation.detection import Scores, measure_detection, score_images
from knowledge_gaps.models.frozen import freeze
from knowledge_gaps.models.input_spec import GanClassifier, InputSpec
from knowledge_gaps.statistics.measures import DETECTION_MEASURES


def scores(*values: float) -> Scores:
    return np.array(values, dtype=np.float32)


def draw_scores(seed: int, num_generated: int, num_real: int) -> tuple[Scores, Scores]:
    """Draw overlapping scores, rounded to tenths so that many are tied within and between kinds."""
    rng = np.random.default_rng(seed)
    generated = rng.normal(-0.5, 1.5, num_generated).round(1).astype(np.float32)
    real = rng.normal(0.5, 1.5, num_real).round(1).astype(np.float32)
    assert np.intersect1d(generated, real).size > 0
    return generated, real


def test_rates_have_their_hand_values() -> None:
    measured = measure_detection(scores(-1, -2, 3, -0.5), scores(1, 2, -3, 4, 5))
    assert tuple(measured) == DETECTION_MEASURES
    assert measured["detection_rate"] == 0.75
    assert measured["real_accuracy"] == 0.8
    assert measured["balanced_accuracy"] == 0.775


# the order is that of DETECTION_MEASURES; z of the perfect one is sqrt(2000), whose p is no float
@pytest.mark.parametrize(
    ("generated", "real", "expected"),
    [
        ((0,), (0,), (1, 0, 0.5, 0.5, 0.5, 0, 0, 0.5, 0, 0, 0, 0)),
        ((-40,), (40,), (1, 1, 1, 1, 1, 1, 1, 0, 0, norm.logsf(2000**0.5) / math.log(10), -40, 40)),
        # all are generated only when all images are taken, so the precision is a half
        ((40,), (-40,), (0, 0, 0, 0, 0.5, 0, 0, 1, 1, 0, 40, -40)),
        ((1,), (3,), (0, 1, 1, 0.5, 1, 1, 1, 0, None, 0, 1, 3)),  # all called real: no difference
    ],
    ids=["undecided", "perfect", "inverted", "calls all real"],
)
def test_extremes(
    generated: tuple[float], real: tuple[float], expected: tuple[float | None, ...]
) -> None:
    measured = measure_detection(scores(*generated * 1000), scores(*real * 1000))
    for (name, found), value in zip(measured.items(), expected, strict=True):
        assert value is None or found == pytest.approx(value, abs=1e-12), name


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_score_that_is_not_finite_is_refused(bad: float) -> None:
    for generated, real in ((scores(bad, 1), scores(1)), (scores(1), scores(bad, 1))):
        with pytest.raises(FloatingPointError, match="not finite"):
            measure_detection(generated, real)


def test_only_the_test_of_two_samples_depends_on_the_ratio_of_images() -> None:
    generated, real = draw_scores(2, 60, 50)
    once, more = (measure_detection(generated, np.tile(real, num)) for num in (1, 5))
    assert more.pop("c2st_log10_p") < once.pop("c2st_log10_p") < -1
    assert more == pytest.approx(once, abs=1e-14)


def test_measures_of_the_order_by_their_definitions() -> None:
    """All pairs, scikit-learn with both kinds weighing the same, and every threshold."""
    generated, real = draw_scores(0, 41, 129)
    measured = measure_detection(generated, real)
    won = (real[:, None] > generated) + 0.5 * (real[:, None] == generated)
    assert measured["auc"] == pytest.approx(won.mean(), abs=1e-14)
    labels, weights = (np.repeat(values, [41, 129]) for values in ([1, 0], [1 / 41, 1 / 129]))
    found = -np.concatenate([generated, real])
    precision = average_precision_score(labels, found, sample_weight=weights)
    assert measured["average_precision"] == pytest.approx(precision, abs=1e-14)
    for percent in (1, 5):
        thresholds = [-math.inf, *generated.tolist(), *real.tolist()]
        allowed = [t for t in thresholds if np.mean(real <= t) <= percent / 100]
        best = max(float(np.mean(generated <= t)) for t in allowed)
        assert measured[f"detection_at_{percent}pct_false_alarms"] == pytest.approx(best)


@pytest.mark.parametrize(
    ("generated", "real", "expected"),
    [
        ((-2, 1), (-1, 2), 0.5),  # after -1: one of two false alarms, one of two misses
        ((-2, -1, 0, 3), (-3, 1, 2, 4), 0.25),  # after 0: a quarter each
        # after -2: no false alarm, 1/2 missed; with the tie at 0: 1/3 and 0; they meet at
        # 1/2 - x/2 = x/3
        ((-2, 0), (0, 1, 2), 0.2),
    ],
)
def test_equal_error_rate_has_its_hand_values(
    generated: tuple[float, ...], real: tuple[float, ...], expected: float
) -> None:
    measured = measure_detection(scores(*generated), scores(*real))
    assert measured["equal_error_rate"] == pytest.approx(expected)


LOW, HIGH = -math.log(3), math.log(3)  # probabilities of "real" of 1/4 and 3/4


@pytest.mark.parametrize(
    ("generated", "real", "expected"),
    [
        # in the bin of 3/4 are half of the generated images and all reals: 2/3 of its weight
        ((LOW, HIGH), (HIGH, HIGH), 0.25 * 0.25 + 0.75 * (3 / 4 - 2 / 3)),
        # 7/15 and 8/15 bound the middle bin: errors of two bins do not cancel, those of one do
        ((0.2,), (-0.2,), 1 / (1 + math.exp(-0.2))),
        # a probability of one is in the last bin; the two errors have opposite signs
        ((90,), (2.8,), 0.5 - 0.5 * (1 - 1 / (1 + math.exp(-2.8)))),
    ],
)
def test_calibration_error_has_its_hand_values(
    generated: tuple[float, ...], real: tuple[float, ...], expected: float
) -> None:
    measured = measure_detection(scores(*generated), scores(*real))
    assert measured["calibration_error"] == pytest.approx(expected, abs=1e-7)


def test_statistic_is_the_root_of_the_chi_squared_one() -> None:
    generated, real = draw_scores(0, 141, 89)
    called = [[int(np.sum(values <= 0)), int(np.sum(values > 0))] for values in (generated, real)]
    two_sided = chi2_contingency(called, correction=False).pvalue
    found = measure_detection(generated, real)["c2st_log10_p"]
    assert found == pytest.approx(math.log10(two_sided / 2))


@pytest.mark.parametrize("num_together", [2, 64])
def test_images_are_scored_in_order_and_as_minus_one_to_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, num_together: int
) -> None:
    monkeypatch.setattr(detection, "count_scored", lambda _: num_together)
    spec = InputSpec(channels=1, image_px=(2, 2), input_px=(2, 2), mean=(0.5,), std=(0.5,))
    mean = nn.Linear(4, 1, bias=False)
    nn.init.constant_(mean.weight, 0.25)
    classifier = freeze(GanClassifier(nn.Sequential(nn.Flatten(), mean, nn.Flatten(0)), spec))
    images = np.repeat(np.array([0, 255, 51], np.uint8), 4).reshape(3, 1, 2, 2)
    save_array(tmp_path / "images.npy", images)
    for source in (images, open_images(tmp_path / "images.npy")):
        found = score_images(classifier, source)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, [-1.0, 1.0, -0.6], atol=1e-6)
        np.testing.assert_allclose(score_images(classifier, source, 2), [-1.0, 1.0], atol=1e-6)
