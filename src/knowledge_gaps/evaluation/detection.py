"""How well classifiers detect generated images: scores, and measures of a pair's scores."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import expit, log_ndtr
from sklearn.metrics import roc_auc_score, roc_curve

from knowledge_gaps.core.files import hash_file
from knowledge_gaps.core.fingerprint import hash_code
from knowledge_gaps.core.layout import CLASSIFIER_FILE, META_FILE
from knowledge_gaps.data.images import to_float
from knowledge_gaps.data.store import Images
from knowledge_gaps.evaluation.batches import count_scored, split_images
from knowledge_gaps.losses import LABEL_GENERATED, LABEL_REAL
from knowledge_gaps.models.frozen import read_meta
from knowledge_gaps.models.input_spec import GanClassifier
from knowledge_gaps.statistics import measures

NUM_CALIBRATION_BINS = 15

_CODE = (
    "data/images.py",
    "evaluation/batches.py",
    "evaluation/detection.py",
    "losses.py",
    "models",
)

Scores = npt.NDArray[np.float32]


@torch.no_grad()
def score_images(
    classifier: GanClassifier, images: Images, num_images: int | None = None
) -> Scores:
    """Return a frozen classifier's logits float32 [N] of the first images, or all; positive = real.

    Only a batch of the images, uint8 [N, C, H, W], is in memory at a time.
    """
    device = next(classifier.parameters()).device
    batches = split_images(images, count_scored(classifier.spec), num_images)
    logits = [classifier(to_float(torch.from_numpy(batch).to(device))).cpu() for batch in batches]
    return torch.cat(logits).numpy()


def measure_detection(scores_generated: Scores, scores_real: Scores) -> dict[str, float]:
    """Measure how well a classifier tells one generator's images from reals.

    detection_rate, real_accuracy, balanced_accuracy and c2st_log10_p depend on the classifier's own
    threshold, logit 0; calibration_error on the size of the logits; the others on their order.

    Returns, of logits float32 [N] of generated images and [M] of reals, both at least 1:
        detection_rate: share of generated images called generated (logit at most 0), the paper's
            "accuracy on generated images".
        real_accuracy: share of reals called real (logit above 0).
        auc: area under the ROC curve; 1 tells them apart, 0.5 is chance, below 0.5 is inverted.
        balanced_accuracy: mean of detection_rate and real_accuracy.
        average_precision: of the search for generated images, as if half were generated.
        detection_at_1pct_false_alarms, detection_at_5pct_false_alarms: largest detection rate of a
            threshold that calls at most that share of the reals generated.
        equal_error_rate: where as large a share of reals is called generated as is missed.
        calibration_error: expected calibration error (Naeini et al. 2015) of the probability that
            an image is real, both kinds with the same total weight.
        c2st_log10_p: log10 of the p-value of the classifier two-sample test (Lopez-Paz & Oquab
            2017) that generated images are called generated more often than reals.
        median_score, median_score_real: medians of the logits.

    Raises FloatingPointError when a score is not finite.
    """
    if not (np.isfinite(scores_generated).all() and np.isfinite(scores_real).all()):
        raise FloatingPointError("a classifier returned a logit that is not finite")
    detection_rate = float(np.mean(scores_generated <= 0))
    real_accuracy = float(np.mean(scores_real > 0))
    labels = np.repeat([LABEL_GENERATED, LABEL_REAL], [len(scores_generated), len(scores_real)])
    scores = np.concatenate([scores_generated, scores_real])
    false_alarms, detections, _ = roc_curve(
        labels,
        -scores,
        pos_label=LABEL_GENERATED,
        drop_intermediate=False,  # a point between two others may be the last one below a limit
    )
    # at the last points within these limits
    at_1pct, at_5pct = detections[np.searchsorted(false_alarms, [0.01, 0.05], side="right") - 1]
    # as `average_precision_score` with weights that give both kinds one sum; first both are 0
    precision = detections[1:] / (detections[1:] + false_alarms[1:])
    return {
        measures.DETECTION_RATE: detection_rate,
        measures.REAL_ACCURACY: real_accuracy,
        measures.AUC: float(roc_auc_score(labels, scores)),
        measures.BALANCED_ACCURACY: (detection_rate + real_accuracy) / 2,
        measures.AVERAGE_PRECISION: float(np.sum(np.diff(detections) * precision)),
        measures.DETECTION_AT_1PCT: float(at_1pct),
        measures.DETECTION_AT_5PCT: float(at_5pct),
        # where false alarms meet misses, on a straight line between two points
        measures.EQUAL_ERROR_RATE: float(
            np.interp(0.0, false_alarms - (1 - detections), false_alarms)
        ),
        measures.CALIBRATION_ERROR: _compute_calibration_error(scores_generated, scores_real),
        measures.C2ST_LOG10_P: _compute_c2st_log10_p(scores_generated, scores_real),
        measures.MEDIAN_SCORE: float(np.median(scores_generated)),
        measures.MEDIAN_SCORE_REAL: float(np.median(scores_real)),
    }


def _compute_calibration_error(scores_generated: Scores, scores_real: Scores) -> float:
    """Sum the gaps between probability and share of reals, in bins that hold their left end."""
    probabilities = expit(np.concatenate([scores_generated, scores_real]).astype(np.float64))
    num_images = [len(scores_generated), len(scores_real)]
    is_real = np.repeat([0.0, 1.0], num_images)
    weights = np.repeat([0.5 / num for num in num_images], num_images)
    bins = np.minimum(probabilities * NUM_CALIBRATION_BINS, NUM_CALIBRATION_BINS - 1)
    # a bin's weight times (share of reals - mean probability) is the sum of these over its images
    gaps = np.bincount(bins.astype(np.intp), weights=weights * (is_real - probabilities))
    return float(np.sum(np.abs(gaps)))


def _compute_c2st_log10_p(scores_generated: Scores, scores_real: Scores) -> float:
    """Return log10 of a one-sided z-test's p-value: two proportions with pooled variance."""
    num_generated, num_real = len(scores_generated), len(scores_real)
    called_generated, called_falsely = np.sum(scores_generated <= 0), np.sum(scores_real <= 0)
    share = int(called_generated + called_falsely) / (num_generated + num_real)
    if share in (0, 1):  # all images are called the same: nothing speaks against the null
        return 0.0
    difference = float(called_generated / num_generated - called_falsely / num_real)
    deviation = math.sqrt(share * (1 - share) * (1 / num_generated + 1 / num_real))
    return float(log_ndtr(-difference / deviation)) / math.log(10)  # it does not underflow


def hash_classifier(directory: Path) -> list[str]:
    """Hash all that decides how the classifier of an instance's directory scores images.

    That is the weights, meta.json, which says how to build and feed the network, and code.

    Raises UserError when a file is missing or damaged.
    """
    files = [hash_file(directory / name) for name in (CLASSIFIER_FILE, META_FILE)]
    return [*files, hash_code(_CODE, (read_meta(directory)["architecture"],))]
