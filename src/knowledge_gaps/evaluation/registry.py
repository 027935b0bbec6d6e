"""Feature extractors by name, and the features of images.

A new extractor is a file in `extractors`, with its class as EXTRACTOR.
"""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.layout import PREPARED
from knowledge_gaps.data.reals import Reals
from knowledge_gaps.data.store import Images
from knowledge_gaps.evaluation import extractors
from knowledge_gaps.evaluation.batches import count_together, split_images
from knowledge_gaps.study import EvaluationSettings

FloatArray = npt.NDArray[np.float32]

_BATCH_SIZE = 100  # of small images


class FeatureExtractor(nn.Module, ABC):
    """A network whose features measure the quality of images."""

    # channels, height and width of the images that it takes; None: any
    image_shape: ClassVar[tuple[int | None, int | None, int | None]]
    input_px: ClassVar[int] = 0  # side that it enlarges smaller images to; 0: it does not
    num_classes: int | None = None  # None without, and no class entropy either
    is_fid: ClassVar[bool] = False  # whether the Frechet distance of its features is called FID
    takes_weights: ClassVar[bool] = False  # whether `load` takes evaluation.extractor_weights
    trained_file: ClassVar[str | None] = None  # weights in data/prepared, which `train_on` writes

    @classmethod
    def find_misfit(cls, reals: Reals) -> str | None:
        """Say in words why it does not fit the reals of a study; None where it does."""
        sizes = zip(cls.image_shape, reals.image_shape, strict=True)
        if all(size in (None, found) for size, found in sizes):
            return None
        wanted = " x ".join("any" if size is None else str(size) for size in cls.image_shape)
        found = " x ".join(map(str, reals.image_shape))
        return f"needs images of {wanted} (channels, height, width), these reals have {found}"

    @classmethod
    def train_on(cls, prepared: Path) -> str:
        """Train it on the splits in data/prepared and write its file there; return a line on it."""
        raise NotImplementedError

    @abstractmethod
    def extract(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return features float32 [N, F] and class logits float32 [N, K] of uint8 [N, C, H, W]."""

    @classmethod
    @abstractmethod
    def load(cls, weights: Path | None) -> Self:
        """Load it in eval mode, frozen; raises UserError for bad weights.

        Its file is that of evaluation.extractor_weights, or the one that `train_on` wrote; None
        without both.
        """

    def hash_weights(self) -> str:
        """Return the sha256 of all parameters and buffers."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()


def list_extractors() -> list[str]:
    """List the names of all extractors, without importing them."""
    return sorted(module.name for module in pkgutil.iter_modules(extractors.__path__))


def get_extractor(name: str) -> type[FeatureExtractor]:
    """Return the class of an extractor; raises UserError when there is none of that name."""
    if name not in list_extractors():
        known = ", ".join(list_extractors())
        raise UserError(
            f"params.yaml: evaluation.extractor: {name!r} found, one of {known} is needed"
        )
    module = importlib.import_module(f"{extractors.__name__}.{name}")
    extractor: type[FeatureExtractor] = module.EXTRACTOR
    return extractor


def find_extractor(settings: EvaluationSettings) -> type[FeatureExtractor]:
    """Return the class of a study's extractor; raises UserError for a file that it does not take,
    and as `get_extractor`.
    """
    extractor = get_extractor(settings.extractor)
    if settings.extractor_weights is not None and not extractor.takes_weights:
        raise UserError(
            f"params.yaml: evaluation.extractor_weights: {settings.extractor_weights!r} found, "
            f"extractor {settings.extractor!r} takes no file: null is needed"
        )
    return extractor


def load_extractor(settings: EvaluationSettings, root: Path) -> FeatureExtractor:
    """Load the extractor of a study; its weights file is relative to the repository's root."""
    extractor, file = find_extractor(settings), settings.extractor_weights
    if extractor.trained_file is not None:
        return extractor.load(root / PREPARED / extractor.trained_file)
    return extractor.load(None if file is None else root / file)


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

        return dict(fid_features_to_statistics(torch.from_numpy(self.features).double()))

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
    channels, *sides = image_shape
    enlarged = (max(side_px, extractor.input_px) for side_px in sides)
    return count_together((channels, *enlarged), _BATCH_SIZE)
