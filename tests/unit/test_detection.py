"""Scores of images, and what they say about a classifier and a generator."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.stats import chi2_contingency, norm
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor, nn

from knowledge_gaps.data.images import to_float
from knowledge_gaps.evaluation.detection import (
    Scores,
    find_detection_at_false_alarms,
    measure_detection,
    score_images,
    trace_roc,
)
from knowledge_gaps.models.architectures.cnn import Cnn, CnnSettings, make_input_spec
from knowledge_gaps.models.frozen import freeze
from knowledge_gaps.models.input_spec import GanClassifier, InputSpec
from knowledge_gaps.statistics.measures import (
    AUC,
    AVERAGE_PRECISION,
    BALANCED_ACCURACY,
    C2ST_LOG10_P,
    CALIBRATION_ERROR,
    DETECTION_AT_1PCT,
    DETECTION_AT_5PCT,
    DETECTION_RATE,
    EQUAL_ERROR_RATE,
    REAL_ACCURACY,
)

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


def draw_scores(seed: int, num_generated: int, num_real: int) -> tuple[Scores, Scores]:
    """Draw overlapping scores, rounded to tenths so that many are tied within and between kinds."""
    rng = np.random.default_rng(seed)
    generated = rng.normal(-0.5, 1.5, num_generated).round(1).astype(np.float32)
    real = rng.normal(0.5, 1.5, num_real).round(1).astype(np.float32)
    assert np.intersect1d(generated, real).size > 0
    return generated, real


def test_rates_have_their_hand_values() -> None:
    measured = measure_detection(scores(-1, -2, 3, -0.5), scores(1, 2, -3, 4, 5))
    assert measured[DETECTION_RATE] == 0.75
    assert measured[REAL_ACCURACY] == 0.8
    assert measured[BALANCED_ACCURACY] == 0.775
    assert list(measured) == [
        "detection_rate",
        "real_accuracy",
        "auc",
        "balanced_accuracy",
        "average_precision",
        "detection_at_1pct_false_alarms",
        "detection_at_5pct_false_alarms",
        "equal_error_rate",
        "calibration_error",
        "c2st_log10_p",
    ]


# ------------------------------------------------------------------------------------- extremes


def test_undecided_classifier_calls_everything_generated() -> None:
    measured = measure_detection(scores(0, 0), scores(0, 0, 0))
    # as uncertain as it should be
    assert measured.pop(CALIBRATION_ERROR) == pytest.approx(0.0, abs=1e-15)
    assert measured == {
        DETECTION_RATE: 1.0,
        REAL_ACCURACY: 0.0,
        AUC: 0.5,
        BALANCED_ACCURACY: 0.5,
        AVERAGE_PRECISION: 0.5,
        DETECTION_AT_1PCT: 0.0,
        DETECTION_AT_5PCT: 0.0,
        EQUAL_ERROR_RATE: 0.5,
        C2ST_LOG10_P: 0.0,
    }


def test_perfect_classifier() -> None:
    measured = measure_detection(np.full(400, -40, np.float32), np.full(1000, 40, np.float32))
    assert measured.pop(CALIBRATION_ERROR) == pytest.approx(0.0, abs=1e-15)
    # z = 1 / sqrt(2/7 * 5/7 * (1/400 + 1/1000)) = sqrt(1400)
    assert measured.pop(C2ST_LOG10_P) == pytest.approx(norm.logsf(1400**0.5) / math.log(10))
    assert measured == {
        DETECTION_RATE: 1.0,
        REAL_ACCURACY: 1.0,
        AUC: 1.0,
        BALANCED_ACCURACY: 1.0,
        AVERAGE_PRECISION: 1.0,
        DETECTION_AT_1PCT: 1.0,
        DETECTION_AT_5PCT: 1.0,
        EQUAL_ERROR_RATE: 0.0,
    }


def test_inverted_classifier() -> None:
    measured = measure_detection(np.full(400, 40, np.float32), np.full(1000, -40, np.float32))
    assert measured.pop(CALIBRATION_ERROR) == pytest.approx(1.0)
    assert measured == {
        DETECTION_RATE: 0.0,
        REAL_ACCURACY: 0.0,
        AUC: 0.0,
        BALANCED_ACCURACY: 0.0,
        AVERAGE_PRECISION: 0.5,  # all are generated only when all images are taken
        DETECTION_AT_1PCT: 0.0,
        DETECTION_AT_5PCT: 0.0,
        EQUAL_ERROR_RATE: 1.0,
        C2ST_LOG10_P: pytest.approx(0.0, abs=1e-15),
    }


def test_classifier_that_calls_everything_real_finds_no_difference() -> None:
    measured = measure_detection(scores(1, 2), scores(3, 4))
    assert measured[AUC] == 1.0
    assert measured[C2ST_LOG10_P] == 0.0


# ---------------------------------------------------------------------------------- the ROC curve


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
    generated, real = draw_scores(seed, 41, 29)
    measured = measure_detection(generated, real)
    assert measured[AUC] == pytest.approx(count_pairs(generated, real), abs=1e-14)


@pytest.mark.parametrize("seed", range(8))
def test_auc_is_that_of_scikit_learn_to_the_last_bit(seed: int) -> None:
    # of 4,000 x 4,000 pairs one area in 32 ends in a 5, which the last bit rounds up or down
    generated, real = draw_scores(seed, 400, 300)
    labels = np.repeat([0, 1], [400, 300])
    expected = roc_auc_score(labels, np.concatenate([generated, real]))
    assert measure_detection(generated, real)[AUC] == expected


def test_statistics_of_the_order_survive_a_monotone_transform() -> None:
    generated, real = draw_scores(1, 300, 200)
    measured = measure_detection(generated, real)
    transformed = measure_detection(np.arctan(generated) - 7, np.arctan(real) - 7)
    for name in (AUC, AVERAGE_PRECISION, DETECTION_AT_1PCT, DETECTION_AT_5PCT, EQUAL_ERROR_RATE):
        assert transformed[name] == measured[name], name
    assert transformed[DETECTION_RATE] == 1.0  # it does hang on the threshold
    assert measured[DETECTION_RATE] < 0.8


@pytest.mark.parametrize("copies", [2, 5])
def test_only_the_test_of_two_samples_depends_on_the_ratio_of_images(copies: int) -> None:
    generated, real = draw_scores(2, 60, 50)
    once, more = (measure_detection(generated, np.tile(real, num)) for num in (1, copies))
    assert more.pop(C2ST_LOG10_P) < once.pop(C2ST_LOG10_P) < -1
    assert more == pytest.approx(once, abs=1e-14)


# ------------------------------------------------------------------------------ average precision


def test_average_precision_has_its_hand_value() -> None:
    # found in this order: generated, real, generated (tied with a real), real
    measured = measure_detection(scores(-3, -1), scores(-2, -1, 0, 0))
    # half of the generated at precision 1; the other half after 2 of 4 reals
    assert measured[AVERAGE_PRECISION] == pytest.approx(0.5 * 1 + 0.5 * 1 / (1 + 2 / 4))


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_that_of_weighted_scikit_learn(seed: int) -> None:
    generated, real = draw_scores(seed, 41, 129)
    labels = np.repeat([1, 0], [41, 129])
    weights = np.repeat([1 / 41, 1 / 129], [41, 129])
    found = -np.concatenate([generated, real])
    expected = average_precision_score(labels, found, sample_weight=weights)
    unweighted = average_precision_score(labels, found)
    measured = measure_detection(generated, real)[AVERAGE_PRECISION]
    assert measured == pytest.approx(expected, abs=1e-14)
    assert abs(measured - unweighted) > 0.1


# ------------------------------------------------------------------- detection at few false alarms


def search_detection(generated: Scores, real: Scores, limit: float) -> float:
    """Try every threshold that calls different images generated; keep the best allowed one."""
    thresholds = [-math.inf, *generated.tolist(), *real.tolist()]
    allowed = [t for t in thresholds if np.mean(real <= t) <= limit]
    return max(float(np.mean(generated <= t)) for t in allowed)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("limit", [0.0, 0.01, 0.05, 0.2, 1.0])
def test_detection_at_false_alarms_is_that_of_the_best_threshold(seed: int, limit: float) -> None:
    generated, real = draw_scores(seed, 150, 200)
    found = find_detection_at_false_alarms(trace_roc(generated, real), limit)
    assert found == pytest.approx(search_detection(generated, real, limit), abs=1e-14)


@pytest.mark.parametrize(("num_real", "expected"), [(99, 0.25), (100, 0.75), (101, 0.75)])
def test_one_percent_of_reals_may_be_called_generated_and_no_more(
    num_real: int, expected: float
) -> None:
    # one real lies among the generated images, and it is more than 1 % of 99
    real = np.full(num_real, 5, np.float32)
    real[0] = -2
    measured = measure_detection(scores(-3, -1, 4, 6), real)
    assert measured[DETECTION_AT_1PCT] == expected
    assert measured[DETECTION_AT_5PCT] == 0.75


def test_tie_that_would_exceed_the_limit_is_called_real() -> None:
    real = np.full(100, 5, np.float32)
    real[:6] = -1  # 6 % at once, tied with one generated image
    measured = measure_detection(scores(-2, -1, 4), real)
    assert measured[DETECTION_AT_5PCT] == pytest.approx(1 / 3)
    real[5] = 5  # 5 %
    measured = measure_detection(scores(-2, -1, 4), real)
    assert measured[DETECTION_AT_5PCT] == 1.0
    assert measured[DETECTION_AT_1PCT] == pytest.approx(1 / 3)


# -------------------------------------------------------------------------------- equal error rate


def cross_error_rates(generated: Scores, real: Scores) -> float:
    """Walk over the thresholds; where misses fall below false alarms, meet on a straight line."""
    before = (0.0, 1.0)  # false alarms, misses
    for threshold in sorted({*generated.tolist(), *real.tolist()}):
        after = (float(np.mean(real <= threshold)), float(np.mean(generated > threshold)))
        if after[0] >= after[1]:
            (alarms_0, misses_0), (alarms_1, misses_1) = before, after
            part = (misses_0 - alarms_0) / (misses_0 - alarms_0 + alarms_1 - misses_1)
            return alarms_0 + part * (alarms_1 - alarms_0)
        before = after
    raise AssertionError("nothing is missed when everything is called generated")


@pytest.mark.parametrize("seed", range(6))
def test_equal_error_rate_is_where_the_error_rates_meet(seed: int) -> None:
    generated, real = draw_scores(seed, 41, 29)
    measured = measure_detection(generated, real)[EQUAL_ERROR_RATE]
    assert measured == pytest.approx(cross_error_rates(generated, real), abs=1e-14)


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
    assert measured[EQUAL_ERROR_RATE] == pytest.approx(expected)


# ------------------------------------------------------------------------------- calibration error


def sum_calibration_gaps(generated: Scores, real: Scores) -> float:
    """Fill 15 bins one image at a time, each image with half of its kind's share."""
    bins = [{"weight": 0.0, "real": 0.0, "probability": 0.0} for _ in range(15)]
    for values, is_real in ((generated, 0), (real, 1)):
        for value in values.tolist():
            probability = 1 / (1 + math.exp(-value))
            entry = bins[min(int(probability * 15), 14)]
            weight = 0.5 / len(values)
            entry["weight"] += weight
            entry["real"] += weight * is_real
            entry["probability"] += weight * probability
    return sum(
        entry["weight"] * abs((entry["real"] - entry["probability"]) / entry["weight"])
        for entry in bins
        if entry["weight"] > 0
    )


@pytest.mark.parametrize("seed", range(4))
def test_calibration_error_is_the_sum_over_bins(seed: int) -> None:
    generated, real = draw_scores(seed, 141, 89)
    measured = measure_detection(generated, real)[CALIBRATION_ERROR]
    assert measured == pytest.approx(sum_calibration_gaps(generated, real), abs=1e-14)
    assert measured > 0.01


def test_calibration_error_has_its_hand_values() -> None:
    # probabilities of "real": 1/4 for three generated images and a real, 3/4 the other way round
    low, high = -math.log(3), math.log(3)
    calibrated = measure_detection(scores(low, low, low, high), scores(low, high, high, high))
    assert calibrated[CALIBRATION_ERROR] == pytest.approx(0, abs=1e-7)
    # in the bin of 3/4 are half of the generated images and all reals: 2/3 of its weight is real
    overconfident = measure_detection(scores(low, high), scores(high, high))
    expected = 0.25 * 0.25 + 0.75 * (3 / 4 - 2 / 3)
    assert overconfident[CALIBRATION_ERROR] == pytest.approx(expected, abs=1e-7)


def test_calibration_error_of_a_sure_classifier_is_its_error_rate() -> None:
    measured = measure_detection(scores(-90, -90, -90, 90), scores(90, 90))
    assert measured[CALIBRATION_ERROR] == pytest.approx(0.25 / 2)


def test_errors_of_two_bins_do_not_cancel() -> None:
    # 7/15 and 8/15 bound the middle bin; both images lie outside of it, on the wrong side
    measured = measure_detection(scores(0.2), scores(-0.2))
    assert measured[CALIBRATION_ERROR] == pytest.approx(1 / (1 + math.exp(-0.2)), abs=1e-7)
    in_one_bin = measure_detection(scores(0.1), scores(-0.1))
    assert in_one_bin[CALIBRATION_ERROR] == pytest.approx(0, abs=1e-7)


def test_probability_of_one_is_in_the_last_bin() -> None:
    # with a real image of probability above 14/15; their errors have opposite signs
    measured = measure_detection(scores(90), scores(2.8))
    expected = 0.5 - 0.5 * (1 - 1 / (1 + math.exp(-2.8)))
    assert measured[CALIBRATION_ERROR] == pytest.approx(expected, abs=1e-7)


# ---------------------------------------------------------------------------- test of two samples


def test_two_samples_have_their_hand_value() -> None:
    # 3 of 4 and 1 of 4: half of all, so z = (1/2) / sqrt(1/4 * (1/4 + 1/4)) = sqrt(2)
    measured = measure_detection(scores(-1, -1, -1, 1), scores(-1, 1, 1, 1))
    p_value = math.erfc(1) / 2  # the normal's tail above sqrt(2)
    assert measured[C2ST_LOG10_P] == pytest.approx(math.log10(p_value))


def test_as_many_calls_on_both_sides_are_one_half() -> None:
    measured = measure_detection(scores(-1, 1), scores(-2, -2, 2, 2))
    assert measured[C2ST_LOG10_P] == pytest.approx(math.log10(0.5))


def test_two_samples_are_compared_on_one_side() -> None:
    more = measure_detection(scores(-1, -1, -1, 1), scores(-1, 1, 1, 1))[C2ST_LOG10_P]
    fewer = measure_detection(scores(-1, 1, 1, 1), scores(-1, -1, -1, 1))[C2ST_LOG10_P]
    assert 10**more + 10**fewer == pytest.approx(1)
    assert more < fewer


def test_p_value_below_the_smallest_number_has_its_logarithm() -> None:
    generated, real = np.full(4000, -1, np.float32), np.full(10000, 1, np.float32)
    found = measure_detection(generated, real)[C2ST_LOG10_P]
    z_squared = 14000  # all shares 0 or 1: the sum of the numbers
    # the tail of the normal is its density over z, within a part in z^2
    expected = -(z_squared / 2 + math.log(2 * math.pi * z_squared) / 2) / math.log(10)
    assert expected < -323.4  # log10 of the smallest number
    assert found == pytest.approx(expected, abs=1 / z_squared)


@pytest.mark.parametrize("seed", range(4))
def test_statistic_is_the_root_of_the_chi_squared_one(seed: int) -> None:
    generated, real = draw_scores(seed, 141, 89)
    called = [[int(np.sum(values <= 0)), int(np.sum(values > 0))] for values in (generated, real)]
    two_sided = chi2_contingency(called, correction=False).pvalue
    measured = measure_detection(generated, real)
    assert measured[DETECTION_RATE] > 1 - measured[REAL_ACCURACY]
    assert measured[C2ST_LOG10_P] == pytest.approx(math.log10(two_sided / 2))


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
