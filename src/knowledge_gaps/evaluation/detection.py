"""Who detects whom: scores of images by classifiers, and what they say about a pair.

Pure functions; which pairs there are is known by `knowledge_gaps.stages.detections`. How a pair
that is not detected got away is told from two of these numbers by
`knowledge_gaps.statistics.signals`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import expit, log_ndtr
from sklearn.metrics import auc, roc_curve

from knowledge_gaps.core.files import hash_file
from knowledge_gaps.core.fingerprint import hash_code
from knowledge_gaps.core.layout import CLASSIFIER_FILE, META_FILE
from knowledge_gaps.data.images import to_float
from knowledge_gaps.evaluation.batches import Images, count_scored, split_images
from knowledge_gaps.losses import LABEL_GENERATED, LABEL_REAL
from knowledge_gaps.models.frozen import read_meta
from knowledge_gaps.models.input_spec import GanClassifier
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

NUM_CALIBRATION_BINS = 15

_CODE = ("evaluation", "losses.py", "data/images.py", "models")

Scores = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class RocCurve:
    """Shares of images called generated when everything up to a threshold is, over all thresholds.

    Both ascend from 0 to 1, with a point for each distinct score: images with the same score are
    called the same.

    Attributes:
        false_alarms: float64 [K], share of the reals.
        detections: float64 [K], share of the generated images.
    """

    false_alarms: npt.NDArray[np.float64]
    detections: npt.NDArray[np.float64]


@torch.no_grad()
def score_images(
    classifier: GanClassifier,
    images: Images,
    batch_size: int | None = None,
    num_images: int | None = None,
) -> Scores:
    """Score stored images by a frozen classifier, a batch of them in memory at a time.

    Args:
        classifier: in evaluation mode.
        images: uint8 [N, C, H, W].
        batch_size: images a forward pass; None for what their size allows.
        num_images: how many of the first images; None for all.

    Returns:
        Logits float32 [N], positive = real.
    """
    device = next(classifier.parameters()).device
    size = count_scored(classifier.spec) if batch_size is None else batch_size
    batches = split_images(images, size, num_images)
    logits = [classifier(to_float(torch.from_numpy(batch).to(device))).cpu() for batch in batches]
    scores: Scores = torch.cat(logits).numpy()
    return scores


def measure_detection(scores_generated: Scores, scores_real: Scores) -> dict[str, float]:
    """Say how well a classifier tells one generator's images from reals.

    detection_rate, real_accuracy, balanced_accuracy and c2st_log10_p hang on the classifier's own
    threshold, logit 0; calibration_error on the size of the logits; the others on their order
    alone. How many images there are of either kind shifts none but c2st_log10_p, where more images
    say the same with more certainty, and calibration_error, where the noise of few images adds up
    over the bins; below 100 reals, detection_at_1pct_false_alarms allows no false alarm at all.

    Args:
        scores_generated: logits float32 [N] of generated images, N at least 1.
        scores_real: logits float32 [M] of reals, M at least 1.

    Returns:
        detection_rate: share of generated images called generated (logit at most 0, so a
            probability of "real" of at most 0.5), the paper's "accuracy on generated images".
        real_accuracy: share of reals called real (logit above 0).
        auc: area under the ROC curve; 1 tells them apart, 0.5 is chance, below 0.5 is inverted.
        balanced_accuracy: mean of detection_rate and real_accuracy.
        average_precision: `compute_average_precision`.
        detection_at_1pct_false_alarms, detection_at_5pct_false_alarms:
            `find_detection_at_false_alarms`.
        equal_error_rate: `compute_equal_error_rate`.
        calibration_error: `compute_calibration_error`.
        c2st_log10_p: `compute_c2st_log10_p`.

    Raises:
        FloatingPointError: when a score is not finite.
    """
    if not (np.isfinite(scores_generated).all() and np.isfinite(scores_real).all()):
        raise FloatingPointError("a classifier returned a logit that is not finite")
    detection_rate = float(np.mean(scores_generated <= 0))
    real_accuracy = float(np.mean(scores_real > 0))
    curve = trace_roc(scores_generated, scores_real)
    return {
        DETECTION_RATE: detection_rate,
        REAL_ACCURACY: real_accuracy,
        AUC: compute_auc(scores_generated, scores_real),
        BALANCED_ACCURACY: (detection_rate + real_accuracy) / 2,
        AVERAGE_PRECISION: compute_average_precision(curve),
        DETECTION_AT_1PCT: find_detection_at_false_alarms(curve, 0.01),
        DETECTION_AT_5PCT: find_detection_at_false_alarms(curve, 0.05),
        EQUAL_ERROR_RATE: compute_equal_error_rate(curve),
        CALIBRATION_ERROR: compute_calibration_error(scores_generated, scores_real),
        C2ST_LOG10_P: compute_c2st_log10_p(scores_generated, scores_real),
    }


def compute_auc(scores_generated: Scores, scores_real: Scores) -> float:
    """Return the area under the ROC curve, bit for bit that of scikit-learn's `roc_auc_score`.

    That function spends as long again on finding out what kind of labels it has. `RocCurve` has
    the same area but for the last bits, which decide the last printed digit in one pair of 32.
    """
    false_reals, found_reals, _ = roc_curve(*_join_scores(scores_generated, scores_real))
    return float(auc(false_reals, found_reals))


def trace_roc(scores_generated: Scores, scores_real: Scores) -> RocCurve:
    """Sort the scores once and keep every point of the ROC curve; the generated are sought."""
    labels, scores = _join_scores(scores_generated, scores_real)
    false_alarms, detections, _ = roc_curve(
        labels,
        -scores,
        pos_label=LABEL_GENERATED,
        drop_intermediate=False,  # a point between two others may be the last one below a limit
    )
    return RocCurve(false_alarms, detections)


def compute_average_precision(curve: RocCurve) -> float:
    """Return the average precision of the search for generated images, as if half were generated.

    It is scikit-learn's `average_precision_score` with weights that give both kinds the same sum,
    from which the numbers of images drop out: the precision at a point of the curve is
    detections / (detections + false alarms). So it needs no second sort.

    Returns:
        In [0, 1]: 1 when every generated image comes before every real, 0.5 when all are tied.
    """
    false_alarms, detections = curve.false_alarms[1:], curve.detections[1:]  # both 0 before
    precision = detections / (detections + false_alarms)
    return float(np.sum(np.diff(curve.detections) * precision))


def find_detection_at_false_alarms(curve: RocCurve, limit: float) -> float:
    """Return the share of generated images detected while few reals are called generated.

    Args:
        curve: of these same images.
        limit: largest share of false alarms, in [0, 1]. It is never exceeded: where a tie would,
            its images are called real.
    """
    last = np.searchsorted(curve.false_alarms, limit, side="right") - 1
    return float(curve.detections[last])


def compute_equal_error_rate(curve: RocCurve) -> float:
    """Return the error rate at which as large a share of reals is called generated as is missed.

    Returns:
        In [0, 1], on a straight line between two points of the curve: 0 tells them apart, 0.5 is
        chance, 1 is inverted.
    """
    misses = 1 - curve.detections
    return float(np.interp(0.0, curve.false_alarms - misses, curve.false_alarms))


def compute_calibration_error(scores_generated: Scores, scores_real: Scores) -> float:
    """Return how far the probability of "real" is from the share of reals, in bins of it.

    Source: expected calibration error, Naeini et al. 2015, over the probability that an image is
    real, sigmoid(logit). The bins are equally wide and hold their left end; both kinds have the
    same total weight, as they had in training.

    Returns:
        In [0, 1]; 0.5 for a classifier that is always certain and right half of the time.
    """
    scores = np.concatenate([scores_generated, scores_real]).astype(np.float64)
    probabilities = expit(scores)
    num_images = [len(scores_generated), len(scores_real)]
    is_real = np.repeat([0.0, 1.0], num_images)
    weights = np.repeat([0.5 / num for num in num_images], num_images)
    bins = np.minimum(probabilities * NUM_CALIBRATION_BINS, NUM_CALIBRATION_BINS - 1)
    # a bin's weight times (share of reals - mean probability) is the sum of these over its images
    gaps = np.bincount(bins.astype(np.intp), weights=weights * (is_real - probabilities))
    return float(np.sum(np.abs(gaps)))


def compute_c2st_log10_p(scores_generated: Scores, scores_real: Scores) -> float:
    """Test the null that generated images and reals are called generated equally often.

    Source: the classifier two-sample test of Lopez-Paz & Oquab 2017, as a one-sided z-test of two
    proportions with pooled variance, which allows for unequal numbers of images. The classifier's
    threshold counts: one that calls everything real finds no difference.

    Returns:
        log10 of the p-value, at most 0; it does not underflow. 0 when all images are called the
        same, where nothing speaks against the null.
    """
    num_generated, num_real = len(scores_generated), len(scores_real)
    called_generated = int(np.sum(scores_generated <= 0))
    called_falsely = int(np.sum(scores_real <= 0))
    share = (called_generated + called_falsely) / (num_generated + num_real)
    if share in (0, 1):
        return 0.0
    difference = called_generated / num_generated - called_falsely / num_real
    deviation = math.sqrt(share * (1 - share) * (1 / num_generated + 1 / num_real))
    return float(log_ndtr(-difference / deviation)) / math.log(10)


def _join_scores(
    scores_generated: Scores, scores_real: Scores
) -> tuple[npt.NDArray[np.intp], Scores]:
    """Return the labels and the scores of all images."""
    num_images = [len(scores_generated), len(scores_real)]
    labels = np.repeat([LABEL_GENERATED, LABEL_REAL], num_images)
    return labels, np.concatenate([scores_generated, scores_real])


def hash_classifier(directory: Path) -> list[str]:
    """Hash all that decides how a classifier scores images.

    Args:
        directory: of the instance.

    Returns:
        Hashes of the weights, of meta.json, which says how to build and feed the network, and of
        the code that this runs.

    Raises:
        UserError: when a file is missing or damaged.
    """
    files = [hash_file(directory / name) for name in (CLASSIFIER_FILE, META_FILE)]
    return [*files, hash_code(_CODE, (read_meta(directory)["architecture"],))]
