"""Feature extractors by name: a new one is a file in `extractors` that registers a class.

The file is named as the extractor; the class carries the report's words about it too.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self, TypeVar

from torch import Tensor, nn

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.evaluation import extractors
from knowledge_gaps.study import EvaluationSettings


@dataclass(frozen=True)
class Classes:
    """The classes that an extractor tells apart: in words for the report, and how many."""

    words: str
    num: int


class FeatureExtractor(nn.Module, ABC):
    """A network whose features measure the quality of images.

    Attributes:
        name: the value of `evaluation.extractor`; part of the names of the metrics.
        title: short name for the report.
        protocol: what the features are and what their distance is comparable with, likewise.
        image_shape: channels, height and width of the images that it takes; None: any.
        input_px: height and width that it resizes images to; None: it takes them as they are.
        classes: None for an extractor without, which has no class entropy either.
        is_fid: whether the Frechet distance of its features is called FID.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    protocol: ClassVar[str]
    image_shape: ClassVar[tuple[int | None, int | None, int | None]]
    input_px: ClassVar[int | None] = None
    classes: ClassVar[Classes | None] = None
    is_fid: ClassVar[bool] = False

    @abstractmethod
    def extract(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return features float32 [N, F] and class logits float32 [N, K] of stored images.

        Args:
            images: uint8 [N, C, H, W].
        """

    @classmethod
    @abstractmethod
    def load(cls, weights: Path | None) -> Self:
        """Load it in eval mode, its parameters frozen.

        Args:
            weights: the user's file (`evaluation.inception_weights`), which most do not need.

        Raises:
            UserError: when its weights are missing or altered.
        """

    @classmethod
    @abstractmethod
    def identify(cls, weights: Path | None) -> str:
        """Hash what decides every feature; arguments and errors as `load`."""


_Extractor = TypeVar("_Extractor", bound=type[FeatureExtractor])
_known: dict[str, type[FeatureExtractor]] = {}


def register_extractor(extractor: _Extractor) -> _Extractor:
    """Register a class by its name, as its decorator; raises ValueError when the name is taken."""
    if extractor.name in _known:
        raise ValueError(f"extractor {extractor.name!r} is registered twice")
    _known[extractor.name] = extractor
    return extractor


def list_extractors() -> list[str]:
    """List the names of all extractors, without importing them."""
    return sorted(module.name for module in pkgutil.iter_modules(extractors.__path__))


def get_extractor(name: str) -> type[FeatureExtractor]:
    """Return the class of an extractor; raises UserError when there is none of that name."""
    known = list_extractors()
    if name not in known:
        raise UserError(
            f"evaluation.extractor: {name!r} found, one of {', '.join(known)} is needed"
        )
    importlib.import_module(f"{extractors.__name__}.{name}")
    return _known[name]


def find_weights(settings: EvaluationSettings, root: Path) -> Path | None:
    """Return the user's weights file, relative to the repository's root; None where none is set."""
    return None if settings.inception_weights is None else root / settings.inception_weights
