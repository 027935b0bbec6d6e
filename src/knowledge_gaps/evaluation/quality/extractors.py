"""The feature extractors that a study may name in `evaluation.extractor`.

A new one is an entry here, and one in `knowledge_gaps.study.schema`, which tells before anything is
trained whether the reals have its image shape; tests walk over all entries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from knowledge_gaps.evaluation.lenet import WEIGHTS_PATH, load_lenet
from knowledge_gaps.evaluation.quality.features import FeatureExtractor
from knowledge_gaps.runtime.errors import UserError


@dataclass(frozen=True)
class ExtractorEntry:
    """An extractor that can be loaded.

    Attributes:
        load: returns it in eval mode, its parameters frozen.
        weights: the file that it is loaded from; its content decides every feature.
    """

    load: Callable[[], FeatureExtractor]
    weights: Path


EXTRACTORS = {"lenet": ExtractorEntry(load_lenet, WEIGHTS_PATH)}


def get_extractor(name: str) -> ExtractorEntry:
    """Look an extractor up by name.

    Raises:
        UserError: when there is none of that name.
    """
    if name not in EXTRACTORS:
        known = ", ".join(sorted(EXTRACTORS))
        raise UserError(f"evaluation.extractor: {name!r} found, one of {known} is needed")
    return EXTRACTORS[name]
