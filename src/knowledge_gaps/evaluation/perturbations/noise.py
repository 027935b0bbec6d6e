"""Gaussian noise, the same for the images at one position of any set."""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from knowledge_gaps.core.seeding import make_generator
from knowledge_gaps.data.store import Images


def add_noise(images: Images, start: int, std: float) -> Images:
    """Add noise to images, uint8 [N, C, H, W], of this standard deviation in levels of 255.

    The noise is rounded to whole levels, so that it is the same on any image; values are clipped.
    """
    noise = np.stack([_draw(start + index, images.shape[1:]) for index in range(len(images))])
    noisy: Images = (images + np.rint(std * noise)).clip(0, 255).astype(np.uint8)
    return noisy


def _draw(position: int, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Draw standard normal noise [C, H, W], independent for every value."""
    generator = make_generator(0, "perturbation", "noise", position)
    return torch.randn(shape, generator=generator).numpy()


PERTURBATIONS = {f"noise_{std}": partial(add_noise, std=std) for std in (4, 16)}
