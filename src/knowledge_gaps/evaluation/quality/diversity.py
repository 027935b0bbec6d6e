"""How diverse images are by themselves: contrast within them, predicted classes among them."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from knowledge_gaps.evaluation.batches import Images, split_images
from knowledge_gaps.evaluation.quality.features import FloatArray

MISSING_FACTOR = 10  # a class that is so many times rarer than among the reals is missing

_BATCH_SIZE = 100


def measure_contrast(images: Images, num_images: int | None = None) -> float:
    """Measure the mean over images of the standard deviation of their pixels.

    Args:
        images: uint8 [N, C, H, W]; channels are measured by themselves, for an image of one colour
            is as empty as a grey one.
        num_images: how many of the first images; None for all.

    Returns:
        Levels, in [0, 127.5].
    """
    batches = split_images(images, _BATCH_SIZE, num_images)
    return float(np.mean([image.std(axis=(1, 2)) for batch in batches for image in batch]))


def compute_class_entropy(logits: FloatArray) -> float:
    """Return the entropy of the histogram of predicted classes, in nats.

    Args:
        logits: float32 [N, K], N at least 1; an image counts for its largest logit.

    Returns:
        0 when all images are of one class, ln K when all classes are equally frequent.
    """
    counts = _count_classes(logits)
    shares = counts[counts > 0] / len(logits)
    return math.fsum(-shares * np.log(shares))


def count_missing_classes(logits: FloatArray, logits_real: FloatArray) -> int:
    """Count the classes that generated images hardly ever show.

    A class is missing when its share among the generated images is below a tenth of its share among
    the reals; both are predictions, so an extractor's habitual mistakes weigh on both sides.

    Args:
        logits: float32 [N, K] of generated images, N at least 1.
        logits_real: float32 [M, K] of reals, M at least 1.

    Returns:
        0 to K; a class that the reals do not show either is not missing.
    """
    counts, counts_real = _count_classes(logits), _count_classes(logits_real)
    # both shares times both sizes: whole numbers, so that a class of just a tenth is not missing
    is_missing = MISSING_FACTOR * counts * len(logits_real) < counts_real * len(logits)
    return int(is_missing.sum())


def _count_classes(logits: FloatArray) -> npt.NDArray[np.int64]:
    """Count the images of each class: int64 [K]."""
    return np.bincount(logits.argmax(axis=1), minlength=logits.shape[1])
