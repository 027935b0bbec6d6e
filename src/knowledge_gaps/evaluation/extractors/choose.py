"""The feature extractors that a study may name in `evaluation.extractor`.

A new one is an entry here, and one in `knowledge_gaps.study.schema`, which tells before anything is
trained whether the reals have its image shape; tests walk over all entries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import hash_file
from knowledge_gaps.evaluation.extractors.inception import Inception, find_weights
from knowledge_gaps.evaluation.extractors.lenet import WEIGHTS_PATH, LeNet, load_lenet
from knowledge_gaps.evaluation.extractors.random_vgg import RandomVgg, identify_random_vgg
from knowledge_gaps.study import EvaluationSettings

Network: TypeAlias = LeNet | Inception | RandomVgg


@dataclass(frozen=True)
class ExtractorEntry:
    """An extractor that can be loaded.

    Attributes:
        load: returns it in eval mode, its parameters frozen, from the user's weights file; those
            that need none take no notice of it.
        identify: returns what decides every feature, of the same file.
    """

    load: Callable[[Path], Network]
    identify: Callable[[Path], str]


@dataclass(frozen=True)
class Extractor:
    """The extractor of a study: its name, and where the user's weights file would be."""

    name: str
    weights: Path

    def load(self, device: torch.device) -> Network:
        """Load it onto a device; raises UserError when its weights are missing or wrong."""
        return EXTRACTORS[self.name].load(self.weights).to(device)

    def identify(self) -> str:
        """Return what decides every feature, for keys; raises UserError as `load`."""
        return EXTRACTORS[self.name].identify(self.weights)


EXTRACTORS = {
    "inception": ExtractorEntry(Inception, hash_file),
    "lenet": ExtractorEntry(lambda _: load_lenet(), lambda _: hash_file(WEIGHTS_PATH)),
    "random_vgg": ExtractorEntry(lambda _: RandomVgg(), lambda _: identify_random_vgg()),
}


def choose_extractor(settings: EvaluationSettings, root: Path) -> Extractor:
    """Return the extractor that a study names.

    Args:
        settings: the section `evaluation`.
        root: of the repository, which a weights file is relative to.

    Raises:
        UserError: when there is none of that name.
    """
    name = settings.extractor
    if name not in EXTRACTORS:
        known = ", ".join(sorted(EXTRACTORS))
        raise UserError(f"evaluation.extractor: {name!r} found, one of {known} is needed")
    return Extractor(name, find_weights(root, settings.inception_weights))
