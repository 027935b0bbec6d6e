"""From images to features: what an extractor is, and a set of images as one sees it.

Which extractors there are is in `knowledge_gaps.evaluation.quality.extractors`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from knowledge_gaps.runtime.errors import UserError

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
        extractor: name of the extractor; only sets of one extractor can be compared.
    """

    features: FloatArray
    logits: FloatArray
    extractor: str

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

    def take_first(self, num_images: int) -> FeatureSet:
        """Return the set of the first images."""
        return FeatureSet(self.features[:num_images], self.logits[:num_images], self.extractor)


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


def require_images(generated: FeatureSet, real: FeatureSet, num_needed: int, metric: str) -> None:
    """Refuse sets that are too small for a metric.

    Raises:
        UserError: names the set, its size, the metric and the size that it needs.
    """
    for role, images in (("generated images", generated), ("reals", real)):
        if len(images) < num_needed:
            raise UserError(f"{role}: found {len(images)}, {metric} needs at least {num_needed}")


def measure_contrast(images: npt.NDArray[np.uint8]) -> float:
    """Measure the mean over images of the standard deviation of their pixels.

    Args:
        images: uint8 [N, C, H, W]; channels are measured by themselves, for an image of one colour
            is as empty as a grey one.

    Returns:
        Levels, in [0, 127.5].
    """
    return float(np.mean([image.std(axis=(1, 2)) for image in images]))
