"""The levels of reals: post-processing that makes each level as frequent as among reals.

A level is mapped to that of the reals of the same rank, channel by channel, over all images
together. Pixels of one level are a range of ranks, and each gets a rank of it at random, so that
the levels come out right where reals spread over several what a generator puts into one.

Source: Rueschendorf 2009, "On the distributional transform, Sklar's theorem, and the empirical
copula process", Journal of Statistical Planning and Inference 139, proposition 2.1.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from knowledge_gaps.core.seeding import make_generator
from knowledge_gaps.data.store import Images
from knowledge_gaps.evaluation.batches import split_images
from knowledge_gaps.evaluation.controlling import Control, Given

_NUM_LEVELS = 256
_BATCH_SIZE = 100


def match_levels(images: Images, given: Given, distortion: int) -> Images:
    """Give images, uint8 [N, C, H, W], the levels of the reals; those of both are counted."""
    highest, highest_real = _find_ranks(images), _find_ranks(given.reals)  # [C, 256]
    lowest = np.pad(highest[:, :-1], ((0, 0), (1, 0)))
    matched = np.empty_like(images)
    for position, image in enumerate(images):
        shares = _draw(position, image.shape)
        for channel, levels in enumerate(image):
            start, end = lowest[channel][levels], highest[channel][levels]
            ranks = start + shares[channel] * (end - start)
            # the real level whose ranks reach beyond; what is left at the end is the highest
            found = np.searchsorted(highest_real[channel][:-1], ranks, side="right")
            matched[position, channel] = found
    return matched


def _find_ranks(images: Images) -> npt.NDArray[np.float64]:
    """Find up to which share of all values of a channel each level reaches: [C, 256], to 1."""
    counts = np.zeros((images.shape[1], _NUM_LEVELS), np.int64)
    for batch in split_images(images, _BATCH_SIZE):
        for channel, values in enumerate(batch.swapaxes(0, 1)):
            counts[channel] += np.bincount(values.ravel(), minlength=_NUM_LEVELS)
    ranks: npt.NDArray[np.float64] = counts.cumsum(axis=1) / counts.sum(axis=1, keepdims=True)
    return ranks


def _draw(position: int, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Draw numbers in [0, 1), [C, H, W], independent for every value."""
    generator = make_generator(0, "control", "histogram", position)
    return torch.rand(shape, generator=generator, dtype=torch.float64).numpy()


CONTROL = Control(match_levels)
