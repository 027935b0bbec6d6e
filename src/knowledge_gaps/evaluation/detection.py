"""Who detects whom: scores of images by classifiers, and what they say about a pair.

Pure functions; which pairs there are is known by `knowledge_gaps.stages.detections`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import roc_auc_score

from knowledge_gaps.data.images import to_float
from knowledge_gaps.losses import LABEL_GENERATED, LABEL_REAL
from knowledge_gaps.models.input_spec import GanClassifier

DETECTION_RATE = "detection_rate"
REAL_ACCURACY = "real_accuracy"
AUC = "auc"

Scores = npt.NDArray[np.float32]


@torch.no_grad()
def score_images(
    classifier: GanClassifier, images: npt.NDArray[np.uint8], batch_size: int
) -> Scores:
    """Score stored images by a frozen classifier.

    Args:
        classifier: in evaluation mode.
        images: uint8 [N, C, H, W].
        batch_size: images a forward pass.

    Returns:
        Logits float32 [N], positive = real.
    """
    device = next(classifier.parameters()).device
    batches = torch.from_numpy(images).split(batch_size)
    logits = [classifier(to_float(batch.to(device))).cpu() for batch in batches]
    scores: Scores = torch.cat(logits).numpy()
    return scores


def measure_detection(scores_generated: Scores, scores_real: Scores) -> dict[str, float]:
    """Say how well a classifier tells one generator's images from reals.

    Args:
        scores_generated: logits float32 [N] of generated images.
        scores_real: logits float32 [M] of reals.

    Returns:
        detection_rate: share of generated images called generated (logit at most 0, so a
            probability of "real" of at most 0.5), the paper's "accuracy on generated images".
        real_accuracy: share of reals called real (logit above 0).
        auc: area under the ROC curve; 1 tells them apart, 0.5 is chance, below 0.5 is inverted.
            It does not depend on a threshold.

    Raises:
        FloatingPointError: when a score is not finite.
    """
    if not (np.isfinite(scores_generated).all() and np.isfinite(scores_real).all()):
        raise FloatingPointError("a classifier returned a logit that is not finite")
    labels = np.concatenate(
        [np.full(len(scores_generated), LABEL_GENERATED), np.full(len(scores_real), LABEL_REAL)]
    )
    scores = np.concatenate([scores_generated, scores_real])
    return {
        DETECTION_RATE: float(np.mean(scores_generated <= 0)),
        REAL_ACCURACY: float(np.mean(scores_real > 0)),
        AUC: float(roc_auc_score(labels, scores)),
    }
