"""From images to features: what an extractor is, and a set of images as one sees it.

Which extractors there are is in `knowledge_gaps.evaluation.extractors.choose`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.evaluation.batches import Images, count_together, split_images

FloatArray = npt.NDArray[np.float32]

_BATCH_SIZE = 100  # small images at a time


class FeatureExtractor(Protocol):
    """What turns stored images into features and class logits, such as `lenet.LeNet`."""

    @property
    def name(self) -> str:
        """As in the names of the metrics."""

    @property
    def image_shape(self) -> tuple[int | None, int | None, int | None]:
        """Channels, height and width of the images that it takes; None: any."""

    @property
    def input_px(self) -> int | None:
        """Height and width that it resizes images to; None: it takes them as they are."""

    def extract(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return features [N, F] and logits [N, K] of uint8 images [N, C, H, W].

        Without classes there are no logits.
        """

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Return the parameters, which say on which device images are looked at."""


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """One set of images as an extractor sees it.

    Attributes:
        features: float32 [N, F].
        logits: float32 [N, K] of the classes; None when the extractor knows no classes.
        extractor: name of the extractor; only sets of one extractor can be compared.
    """

    features: FloatArray
    logits: FloatArray | None
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
        logits = None if self.logits is None else self.logits[:num_images]
        return FeatureSet(self.features[:num_images], logits, self.extractor)


def extract_features(
    images: Images,
    extractor: FeatureExtractor,
    batch_size: int | None = None,
    num_images: int | None = None,
) -> FeatureSet:
    """Pass a set of images through the extractor, once.

    Args:
        images: uint8 [N, C, H, W], N at least 1, in the shape that the extractor needs.
        extractor: in eval mode, its parameters frozen.
        batch_size: images at a time; changes speed, memory and the last bits of the features. None
            for what their size allows.
        num_images: how many of the first images; None for all.

    Raises:
        UserError: when there is no image, or the images have another shape or dtype.
    """
    _check_images(images, extractor)
    if batch_size is None:
        batch_size = count_extracted(extractor, images.shape[1:])
    device = next(extractor.parameters()).device
    features: list[torch.Tensor] = []
    logits: list[torch.Tensor] = []
    for batch in split_images(images, batch_size, num_images):
        found, classes = extractor.extract(torch.tensor(batch).to(device))
        features.append(found.cpu())
        logits += [] if classes is None else [classes.cpu()]
    return FeatureSet(
        torch.cat(features).numpy(),
        torch.cat(logits).numpy() if logits else None,
        extractor.name,
    )


def count_extracted(extractor: FeatureExtractor, image_shape: tuple[int, ...]) -> int:
    """Count the images [C, H, W] that an extractor is given together, by what it makes of them."""
    channels, height, width = image_shape
    if extractor.input_px is not None:
        height, width = max(height, extractor.input_px), max(width, extractor.input_px)
    return count_together((channels, height, width), _BATCH_SIZE)


def require_images(generated: FeatureSet, real: FeatureSet, num_needed: int, metric: str) -> None:
    """Refuse sets that are too small for a metric.

    Raises:
        UserError: names the set, its size, the metric and the size that it needs.
    """
    for role, images in (("generated images", generated), ("reals", real)):
        if len(images) < num_needed:
            raise UserError(f"{role}: found {len(images)}, {metric} needs at least {num_needed}")


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


def _check_images(images: Images, extractor: FeatureExtractor) -> None:
    dtype = images.dtype if isinstance(images, np.ndarray) else np.dtype(np.uint8)
    sizes = zip(images.shape[1:], extractor.image_shape, strict=False)
    fits = len(images.shape) == 4 and all(needed in (size, None) for size, needed in sizes)
    if not fits or dtype != np.uint8 or len(images) == 0:
        needed = ", ".join("any" if size is None else str(size) for size in extractor.image_shape)
        raise UserError(
            f"images: found {dtype} {list(images.shape)}, "
            f"extractor {extractor.name} needs uint8 [N, {needed}] with N at least 1"
        )
