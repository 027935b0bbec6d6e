"""How often the level of a pixel rises or falls by how much to the pixel below it."""

from __future__ import annotations

import numpy as np

from knowledge_gaps.data.store import Images
from knowledge_gaps.evaluation.descriptions import FloatArray, count_shares
from knowledge_gaps.evaluation.judging import Judge

_NUM_BINS = 7
_LARGEST = 255
# a fall by 128 or more, 16 or more, 1 or more, no step at all, and the same for a rise
_BINS = np.digitize(np.arange(-_LARGEST, _LARGEST + 1), [-127, -15, 0, 1, 16, 128])


def describe(images: Images) -> FloatArray:
    """Return the shares of steps in 7 bins: uint8 [N, C, H, W] -> float64 [N, 7 C]."""
    steps = np.diff(images.astype(np.int16), axis=2)  # [N, C, H - 1, W], downwards
    return count_shares(_BINS[steps + _LARGEST], _NUM_BINS)


JUDGE = Judge(describe)
