"""The metrics of the quality table, all of one set of images at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from knowledge_gaps.evaluation.quality.distances import compute_frechet, compute_kid
from knowledge_gaps.evaluation.quality.diversity import compute_class_entropy, count_missing_classes
from knowledge_gaps.evaluation.quality.features import FeatureSet, FloatArray
from knowledge_gaps.evaluation.quality.neighbours import (
    compute_density_coverage,
    compute_memorised,
    compute_precision_recall,
    find_nearest,
    measure_radii,
)
from knowledge_gaps.statistics.measures import list_metrics

Metrics: TypeAlias = dict[str, float | None]


@dataclass(frozen=True, eq=False)
class Reals:
    """The reals that all generators are compared with; what depends on them alone is kept.

    Attributes:
        test: of the test split: what metrics compare generated images with.
        training: of the whole train split: what a generator might have memorised.
    """

    test: FeatureSet
    training: FeatureSet

    @cached_property
    def radii(self) -> FloatArray:
        """Radii float32 [M] of the test reals' neighbourhoods, for density and coverage."""
        return measure_radii(self.test.features)

    @cached_property
    def distances(self) -> FloatArray:
        """Distances float32 [M] of the test reals to their nearest training reals."""
        return find_nearest(self.test.features, self.training.features).distances


def compute_quality(generated: FeatureSet, reals: Reals, distances: FloatArray) -> Metrics:
    """Compute every metric of one set of generated images.

    Args:
        generated: features of at least 4 generated images.
        reals: at least 6 of each split, from the same extractor.
        distances: float32 [N] of the generated images to their nearest training reals.

    Returns:
        A value for each metric of the extractor, in the order of the columns; None for what an
        extractor without classes cannot tell. The same input gives the same numbers.
    """
    precision, recall = compute_precision_recall(generated, reals.test)
    density, coverage = compute_density_coverage(generated, reals.test, reals.radii)
    kid, kid_std = compute_kid(generated, reals.test)
    class_entropy = missing_classes = None
    if generated.logits is not None and reals.test.logits is not None:
        class_entropy = compute_class_entropy(generated.logits)
        missing_classes = count_missing_classes(generated.logits, reals.test.logits)
    values = (
        compute_frechet(generated, reals.test),
        kid,
        kid_std,
        precision,
        recall,
        density,
        coverage,
        class_entropy,
        missing_classes,
        compute_memorised(distances, reals.distances),
    )
    return dict(zip(list_metrics(generated.extractor), values, strict=True))


def compute_floor(reals: Reals, num_images: int) -> Metrics:
    """Compute what a perfect generator would reach: training reals in place of generated images.

    Memorised is the exception. Training reals have themselves for neighbours, so their own value
    would be 1 and say nothing; here stands that of the test reals, which is 0.01 by construction.

    Args:
        reals: at least `num_images` of them for training.
        num_images: as many as of every generator.
    """
    return compute_quality(reals.training.take_first(num_images), reals, reals.distances)
