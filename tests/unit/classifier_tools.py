"""A small frozen CNN as a GAN-classifier, and images for it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from knowledge_gaps.data.images import to_float
from knowledge_gaps.models.frozen import freeze
from knowledge_gaps.models.input_spec import GanClassifier
from knowledge_gaps.models.networks import build_classifier as build

SHAPE = (1, 12, 12)


def draw_images(num_images: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Draw images of noise of which a third is black, as the background of digits is."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (num_images, *SHAPE), dtype=np.uint8)
    images[rng.random(images.shape) < 1 / 3] = 0
    return images


def prepare(images: npt.NDArray[np.uint8]) -> Tensor:
    return to_float(torch.from_numpy(images))


def build_classifier(name: str, seed: int = 0) -> GanClassifier:
    """Build a frozen classifier whose running statistics have seen images."""
    torch.manual_seed(seed)
    classifier = build(name, {"channels": [8, 8]}, SHAPE)
    for layer in classifier.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0  # a deep network whose statistics lag behind has no signal left
    classifier(prepare(draw_images(64)))
    return freeze(classifier)
