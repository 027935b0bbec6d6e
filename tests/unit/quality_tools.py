"""What tests of quality share: images and sets of features that are drawn here."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from knowledge_gaps.evaluation.registry import FeatureSet

COLOUR = (3, 32, 32)

Images = npt.NDArray[np.uint8]


def draw_images(num_images: int, shape: tuple[int, ...] = COLOUR, seed: int = 0) -> Images:
    """Draw images of noise."""
    return np.random.default_rng(seed).integers(0, 256, (num_images, *shape), dtype=np.uint8)


def draw_features(num_images: int, seed: int, shift: float = 0.0) -> FeatureSet:
    """Draw correlated Gaussian features [N, 84] and logits [N, 10]."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(7).normal(size=(84, 84)) / math.sqrt(84)
    features = rng.normal(shift, 1.0, (num_images, 84)) @ mixing
    logits = rng.normal(size=(num_images, 10))
    return FeatureSet(features.astype(np.float32), logits.astype(np.float32))
