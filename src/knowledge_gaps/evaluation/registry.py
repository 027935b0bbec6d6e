"""Feature extractors by name: a new one is a file in `extractors`, with its class as EXTRACTOR."""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Self

from torch import Tensor, nn

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.evaluation import extractors
from knowledge_gaps.study.schema import EvaluationSettings


class FeatureExtractor(nn.Module, ABC):
    """A network whose features measure the quality of images.

    Attributes:
        image_shape: channels, height and width of the images that it takes; None: any.
        input_px: height and width that it resizes images to; None: it takes them as they are.
        num_classes: that it tells apart; None without, and there is no class entropy either.
        is_fid: whether the Frechet distance of its features is called FID.
    """

    image_shape: ClassVar[tuple[int | None, int | None, int | None]]
    input_px: ClassVar[int | None] = None
    num_classes: ClassVar[int | None] = None
    is_fid: ClassVar[bool] = False

    @abstractmethod
    def extract(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return features float32 [N, F] and class logits float32 [N, K] of uint8 [N, C, H, W]."""

    @classmethod
    @abstractmethod
    def load(cls, weights: Path | None) -> Self:
        """Load it in eval mode, its parameters frozen; most need no file of the user's.

        Raises:
            UserError: when its weights are missing or altered.
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


def load_extractor(settings: EvaluationSettings, root: Path) -> FeatureExtractor:
    """Load the extractor of a study; its weights file is relative to the repository's root."""
    file = settings.inception_weights
    return get_extractor(settings.extractor).load(None if file is None else root / file)
