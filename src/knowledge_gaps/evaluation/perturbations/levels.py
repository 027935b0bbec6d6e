"""Fewer grey levels."""

from __future__ import annotations

from functools import partial

import numpy as np

from knowledge_gaps.data.store import Images

_HIGHEST = 255


def quantise(images: Images, start: int, num_levels: int) -> Images:
    """Round images, uint8 [N, C, H, W], to so many even levels, 0 and 255 included."""
    steps = np.arange(_HIGHEST + 1) * ((num_levels - 1) / _HIGHEST)  # of every level
    table = np.rint(np.rint(steps) * (_HIGHEST / (num_levels - 1))).astype(np.uint8)
    quantised: Images = table[images]
    return quantised


PERTURBATIONS = {"levels_32": partial(quantise, num_levels=32)}
