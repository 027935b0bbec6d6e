"""From images to features."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from knowledge_gaps.evaluation.batches import Images, count_together, split_images
from knowledge_gaps.evaluation.registry import FeatureExtractor

FloatArray = npt.NDArray[np.float32]

_BATCH_SIZE = 100  # of small images


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """Features of one set of images; only sets of one extractor can be compared."""

    features: FloatArray  # [N, F]
    logits: FloatArray | None  # [N, K]; None when the extractor knows no classes

    def __len__(self) -> int:
        return len(self.features)

    @cached_property
    def statistics(self) -> dict[str, npt.NDArray[np.float64]]:
        """Mean [F] and covariance [F, F] of the features, for the Frechet distance."""
        from torch_fidelity.metric_fid import fid_features_to_statistics

        statistics: dict[str, npt.NDArray[np.float64]] = fid_features_to_statistics(
            torch.from_numpy(self.features).double()
        )
        return statistics

    def take_first(self, num_images: int) -> FeatureSet:
        """Return the features of the first images."""
        logits = None if self.logits is None else self.logits[:num_images]
        return FeatureSet(self.features[:num_images], logits)


def extract_features(
    images: Images, extractor: FeatureExtractor, num_images: int | None = None
) -> FeatureSet:
    """Extract the features of the first images, or all, uint8 [N, C, H, W], N at least 1."""
    batch_size = count_extracted(extractor, images.shape[1:])
    device = next(extractor.parameters()).device
    features: list[torch.Tensor] = []
    logits: list[torch.Tensor] = []
    for batch in split_images(images, batch_size, num_images):
        found, classes = extractor.extract(torch.tensor(batch).to(device))
        features.append(found.cpu())
        logits += [] if classes is None else [classes.cpu()]
    return FeatureSet(torch.cat(features).numpy(), torch.cat(logits).numpy() if logits else None)


def count_extracted(extractor: FeatureExtractor, image_shape: tuple[int, ...]) -> int:
    """Count the images [C, H, W] of an extractor's batch, by what it resizes them to."""
    channels, height, width = image_shape
    if extractor.input_px is not None:
        height, width = max(height, extractor.input_px), max(width, extractor.input_px)
    return count_together((channels, height, width), _BATCH_SIZE)
