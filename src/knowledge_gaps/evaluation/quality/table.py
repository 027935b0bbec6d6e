"""The metrics of the quality table, all of one set of images at once.

Their names and their order are in `knowledge_gaps.statistics.measures`. Each metric is explained
where it is computed, in the modules beside this one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.evaluation.quality.classes import compute_class_entropy, count_missing_classes
from knowledge_gaps.evaluation.quality.features import FeatureSet, FloatArray
from knowledge_gaps.evaluation.quality.frechet import compute_frechet
from knowledge_gaps.evaluation.quality.kid import compute_kid
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
        generated: features of the generated images.
        reals: from the same extractor.
        distances: float32 [N] of the generated images to their nearest training reals.

    Returns:
        A value for each metric of the extractor, in the order of the columns; None for what an
        extractor without classes cannot tell. The same input gives the same numbers.

    Raises:
        UserError: when there are fewer than 4 generated images or 6 reals, or the sets come from
            two extractors.
    """
    for real in (reals.test, reals.training):
        if generated.extractor != real.extractor:
            raise UserError(
                f"features: generated images by extractor {generated.extractor}, "
                f"reals by {real.extractor}; both must be the same"
            )
    precision, recall = compute_precision_recall(generated, reals.test)
    density, coverage = compute_density_coverage(generated, reals.test, reals.radii)
    kid, kid_std = compute_kid(generated, reals.test)
    values = (
        compute_frechet(generated, reals.test),
        kid,
        kid_std,
        precision,
        recall,
        density,
        coverage,
        None if generated.logits is None else compute_class_entropy(generated.logits),
        _count_missing(generated, reals.test),
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

    Raises:
        UserError: as `compute_quality`.
    """
    return compute_quality(reals.training.take_first(num_images), reals, reals.distances)


def _count_missing(generated: FeatureSet, real: FeatureSet) -> int | None:
    if generated.logits is None or real.logits is None:
        return None
    return count_missing_classes(generated.logits, real.logits)
