"""Which classes an extractor finds among generated images: how evenly, and which ones it misses."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.evaluation.quality.features import FloatArray

MISSING_FACTOR = 10  # a class that is so many times rarer than among the reals is missing


def compute_class_entropy(logits: FloatArray) -> float:
    """Return the entropy of the histogram of predicted classes, in nats.

    Args:
        logits: float32 [N, K]; an image counts for its largest logit.

    Returns:
        0 when all images are of one class, ln K when all classes are equally frequent.

    Raises:
        UserError: when there is no image.
    """
    counts = _count_classes(logits, "class entropy")
    shares = counts[counts > 0] / len(logits)
    return math.fsum(-shares * np.log(shares))


def count_missing_classes(logits: FloatArray, logits_real: FloatArray) -> int:
    """Count the classes that generated images hardly ever show.

    A class is missing when its share among the generated images is below a tenth of its share among
    the reals; both are predictions, so an extractor's habitual mistakes weigh on both sides.

    Args:
        logits: float32 [N, K] of generated images.
        logits_real: float32 [M, K] of reals.

    Returns:
        0 to K; a class that the reals do not show either is not missing.

    Raises:
        UserError: when there is no image.
    """
    counts = _count_classes(logits, "missing classes")
    counts_real = _count_classes(logits_real, "missing classes")
    # both shares times both sizes: whole numbers, so that a class of just a tenth is not missing
    is_missing = MISSING_FACTOR * counts * len(logits_real) < counts_real * len(logits)
    return int(is_missing.sum())


def _count_classes(logits: FloatArray, metric: str) -> npt.NDArray[np.int64]:
    """Count the images of each class: int64 [K]."""
    if len(logits) == 0:
        raise UserError(f"{metric}: found 0 images, at least 1 is needed")
    return np.bincount(logits.argmax(axis=1), minlength=logits.shape[1])
