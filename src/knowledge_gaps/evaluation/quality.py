"""How good a set of generated images is, against a set of reals: FID, KID, precision, recall.

Every set passes the feature extractor once (`extract_features`); all metrics are functions of the
two `FeatureSet`s, computed by torch-fidelity on the features. A metric's name is its protocol:
`fid_lenet_4k` is the FID of 4,000 generated images in features of the packaged LeNet. Nothing here
reads or writes files; the extractor is in `knowledge_gaps.evaluation.lenet`, the table in
`knowledge_gaps.stages.quality`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from knowledge_gaps.runtime.errors import UserError

DEFAULT_EXTRACTOR = "lenet"
NUM_NEIGHBOURS = 3  # k of precision and recall (Kynkaanniemi et al. 2019)
MIN_IMAGES = NUM_NEIGHBOURS + 1  # an image and its k neighbours
MIN_IMAGES_MOMENTS = 2  # for a covariance (FID) or an unbiased estimate (KID)
KID_SUBSETS = 100
KID_SUBSET_SIZE = 1000  # or the size of the smaller set
KID_SEED = 2020
PRC_BATCH_SIZE = 250  # rows of the distance matrix at a time

FloatArray = npt.NDArray[np.float32]


class FeatureExtractor(Protocol):
    """What turns stored images into features and class logits, such as `lenet.LeNet`."""

    name: str
    image_shape: tuple[int, int, int]

    def extract(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return features [N, F] and logits [N, K] of uint8 images [N, C, H, W]."""


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """One set of images as an extractor sees it.

    Attributes:
        features: float32 [N, F].
        logits: float32 [N, K] of the classes.
        extractor: name of the extractor, part of the metrics' names.
    """

    features: FloatArray
    logits: FloatArray
    extractor: str = DEFAULT_EXTRACTOR

    def __len__(self) -> int:
        return len(self.features)

    @cached_property
    def fid_statistics(self) -> dict[str, npt.NDArray[np.float64]]:
        """Mean [F] and covariance [F, F] of the features, computed on first use and kept."""
        from torch_fidelity.metric_fid import fid_features_to_statistics

        statistics: dict[str, npt.NDArray[np.float64]] = fid_features_to_statistics(
            torch.from_numpy(self.features).double()
        )
        return statistics


def metric_names(num_images: int, extractor: str = DEFAULT_EXTRACTOR) -> tuple[str, ...]:
    """Name the columns of the quality table, in order: FID, KID, precision, recall, class entropy.

    Args:
        num_images: number of generated images; whole thousands are written as "4k".
        extractor: name of the feature extractor.
    """
    whole_thousands = num_images >= 1000 and num_images % 1000 == 0
    count = f"{num_images // 1000}k" if whole_thousands else str(num_images)
    metrics = ("fid", "kid", "precision", "recall", "class_entropy")
    return tuple(f"{metric}_{extractor}_{count}" for metric in metrics)


def extract_features(
    images: npt.NDArray[np.uint8], extractor: FeatureExtractor, batch_size: int = 100
) -> FeatureSet:
    """Pass a set of images through the extractor, once.

    Args:
        images: uint8 [N, C, H, W], N at least 1, in the shape that the extractor needs.
        extractor: in eval mode, its parameters frozen.
        batch_size: images at a time; changes speed, memory and the last bits of the features.

    Raises:
        UserError: when there is no image, or the images have another shape or dtype.
    """
    needed = ", ".join(str(size) for size in extractor.image_shape)
    if images.shape[1:] != extractor.image_shape or images.dtype != np.uint8 or len(images) == 0:
        raise UserError(
            f"images: found {images.dtype} {list(images.shape)}, "
            f"extractor {extractor.name} needs uint8 [N, {needed}] with N at least 1"
        )
    starts = range(0, len(images), batch_size)
    batches = (torch.tensor(images[start : start + batch_size]) for start in starts)
    outputs = [extractor.extract(batch) for batch in batches]
    features, logits = (torch.cat(parts).numpy() for parts in zip(*outputs, strict=True))
    return FeatureSet(features, logits, extractor.name)


def compute_quality(generated: FeatureSet, real: FeatureSet) -> dict[str, float]:
    """Compute every metric of one set of generated images.

    Args:
        generated: features of the generated images; their number is in the names.
        real: features of the reals, from the same extractor; its statistics are computed once.

    Returns:
        One value for each name in `metric_names`, in that order; the same input gives the same
        numbers.

    Raises:
        UserError: when a set has fewer than 4 images, or the sets come from two extractors.
    """
    if generated.extractor != real.extractor:
        raise UserError(
            f"features: generated images by extractor {generated.extractor}, "
            f"reals by {real.extractor}; both must be the same"
        )
    precision, recall = compute_precision_recall(generated, real)
    values = (
        compute_fid(generated, real),
        compute_kid(generated, real),
        precision,
        recall,
        compute_class_entropy(generated.logits),
    )
    return dict(zip(metric_names(len(generated), generated.extractor), values, strict=True))


def compute_fid(generated: FeatureSet, real: FeatureSet) -> float:
    """Return the Frechet distance of two Gaussians fitted to the features (Heusel et al. 2017).

    Raises:
        UserError: when a set has fewer than 2 images.
    """
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    _require_images(generated, real, MIN_IMAGES_MOMENTS, "FID")
    metric = fid_statistics_to_metric(generated.fid_statistics, real.fid_statistics, verbose=False)
    return float(metric[KEY_METRIC_FID])


def compute_kid(generated: FeatureSet, real: FeatureSet) -> float:
    """Return the mean unbiased MMD^2, cubic kernel, over random subsets (Binkowski et al. 2018).

    Raises:
        UserError: when a set has fewer than 2 images.
    """
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

    _require_images(generated, real, MIN_IMAGES_MOMENTS, "KID")
    options: dict[str, Any] = {
        "kid_subsets": KID_SUBSETS,
        "kid_subset_size": min(KID_SUBSET_SIZE, len(generated), len(real)),
        "rng_seed": KID_SEED,
        "verbose": False,
    }
    features = (torch.from_numpy(images.features) for images in (generated, real))
    return float(kid_features_to_metric(*features, **options)[KEY_METRIC_KID_MEAN])


def compute_precision_recall(generated: FeatureSet, real: FeatureSet) -> tuple[float, float]:
    """Return improved precision and recall (Kynkaanniemi et al. 2019), both in [0, 1].

    Precision is the share of generated images among the reals' neighbourhoods (realism), recall
    the share of reals among those of the generated images (coverage).

    Raises:
        UserError: when a set has fewer than 4 images.
    """
    from torch_fidelity.metric_prc import (
        KEY_METRIC_PRECISION,
        KEY_METRIC_RECALL,
        prc_features_to_metric,
    )

    _require_images(generated, real, MIN_IMAGES, "precision and recall")
    options: dict[str, Any] = {
        "prc_neighborhood": NUM_NEIGHBOURS,
        "prc_batch_size": PRC_BATCH_SIZE,
        "save_cpu_ram": True,  # batches of rows instead of whole matrices
        "verbose": False,
    }
    # generated first: the library's precision is about its first argument
    features = (torch.from_numpy(images.features) for images in (generated, real))
    metric = prc_features_to_metric(*features, **options)
    return float(metric[KEY_METRIC_PRECISION]), float(metric[KEY_METRIC_RECALL])


def compute_class_entropy(logits: FloatArray) -> float:
    """Return the entropy of the histogram of predicted classes, in nats.

    Args:
        logits: float32 [N, K]; an image counts for its largest logit.

    Returns:
        0 when all images are of one class, ln K when all classes are equally frequent.

    Raises:
        UserError: when there is no image.
    """
    if len(logits) == 0:
        raise UserError("class entropy: found 0 images, at least 1 is needed")
    counts = np.bincount(logits.argmax(axis=1))
    shares = counts[counts > 0] / len(logits)
    return math.fsum(-shares * np.log(shares))


def _require_images(generated: FeatureSet, real: FeatureSet, num_needed: int, metric: str) -> None:
    for role, images in (("generated images", generated), ("reals", real)):
        if len(images) < num_needed:
            raise UserError(f"{role}: found {len(images)}, {metric} needs at least {num_needed}")
