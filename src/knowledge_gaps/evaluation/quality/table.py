"""The metrics of the quality table, all of one set of images at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from knowledge_gaps.evaluation.batches import Images, split_images
from knowledge_gaps.evaluation.quality.distances import (
    compute_density_coverage,
    compute_frechet,
    compute_kid,
    compute_memorised,
    compute_precision_recall,
    find_nearest,
    measure_radii,
)
from knowledge_gaps.evaluation.registry import FeatureSet, FloatArray
from knowledge_gaps.statistics.measures import METRICS

_MISSING_FACTOR = 10  # a class that is so many times rarer than among the reals is missing
_BATCH_SIZE = 100

Metrics: TypeAlias = dict[str, float | None]


@dataclass(frozen=True, eq=False)
class Reals:
    """The reals that all generators are compared with; what depends on them alone is kept."""

    test: FeatureSet  # of the test split: what metrics compare generated images with
    training: FeatureSet  # of the whole train split: what a generator might have memorised

    @cached_property
    def radii(self) -> FloatArray:
        """Radii float32 [M] of the test reals' neighbourhoods, for density and coverage."""
        return measure_radii(self.test.features)

    @cached_property
    def distances(self) -> FloatArray:
        """Distances float32 [M] of the test reals to their nearest training reals."""
        return find_nearest(self.test.features, self.training.features).distances


def compute_quality(generated: FeatureSet, reals: Reals, distances: FloatArray) -> Metrics:
    """Compute METRICS of at least 4 generated images; None for what needs an extractor's classes.

    There are at least 6 reals of each split; distances are those to the nearest training reals,
    float32 [N].
    """
    class_entropy = missing_classes = None
    if generated.logits is not None and reals.test.logits is not None:
        class_entropy = compute_class_entropy(generated.logits)
        missing_classes = count_missing_classes(generated.logits, reals.test.logits)
    values = (
        compute_frechet(generated, reals.test),
        *compute_kid(generated, reals.test),
        *compute_precision_recall(generated, reals.test),
        *compute_density_coverage(generated, reals.test, reals.radii),
        class_entropy,
        missing_classes,
        compute_memorised(distances, reals.distances),
    )
    return dict(zip(METRICS, values, strict=True))


def compute_floor(reals: Reals, num_images: int) -> Metrics:
    """Compute what a perfect generator would reach: training reals in place of generated images.

    Memorised is the exception. Training reals have themselves for neighbours, so their own value
    would be 1 and say nothing; here stands that of the test reals, which is 0.01 by construction.
    """
    return compute_quality(reals.training.take_first(num_images), reals, reals.distances)


def measure_contrast(images: Images, num_images: int | None = None) -> float:
    """Measure the mean of the standard deviation of images' pixels, in levels of [0, 127.5].

    Channels are measured by themselves, for an image of one colour is as empty as a grey one.
    """
    batches = split_images(images, _BATCH_SIZE, num_images)
    return float(np.mean([image.std(axis=(1, 2)) for batch in batches for image in batch]))


def compute_class_entropy(logits: FloatArray) -> float:
    """Return the entropy in nats of the histogram of classes predicted by logits [N, K]."""
    counts = _count_classes(logits)
    shares = counts[counts > 0] / len(logits)
    return math.fsum(-shares * np.log(shares))


def count_missing_classes(logits: FloatArray, logits_real: FloatArray) -> int:
    """Count the classes that generated images hardly ever show, by logits [N, K] and [M, K].

    A class is missing when its share among the generated images is below a tenth of its share among
    the reals; both are predictions, so an extractor's habitual mistakes weigh on both sides.
    """
    counts, counts_real = _count_classes(logits), _count_classes(logits_real)
    # both shares times both sizes: whole numbers, so that a class of just a tenth is not missing
    is_missing = _MISSING_FACTOR * counts * len(logits_real) < counts_real * len(logits)
    return int(is_missing.sum())


def _count_classes(logits: FloatArray) -> npt.NDArray[np.int64]:
    """Count the images of each class: int64 [K]."""
    return np.bincount(logits.argmax(axis=1), minlength=logits.shape[1])
