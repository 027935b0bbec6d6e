"""Local binary patterns: which of the eight neighbours of a pixel are at least as bright as it.

Source: Ojala, Pietikäinen and Harwood 1996, "A comparative study of texture measures with
classification based on featured distributions".
"""

from __future__ import annotations

import numpy as np

from knowledge_gaps.data.store import Images
from knowledge_gaps.evaluation.descriptions import FloatArray, count_shares
from knowledge_gaps.evaluation.judging import Judge

_NUM_PATTERNS = 256
# rows and columns in a window of 3 x 3 px, around its middle
_NEIGHBOURS = ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0))


def describe(images: Images) -> FloatArray:
    """Return the shares of the 256 patterns: uint8 [N, C, H, W] -> float64 [N, 256 C]."""
    height, width = (side_px - 2 for side_px in images.shape[2:])
    middle = images[:, :, 1:-1, 1:-1]
    patterns = np.zeros(middle.shape, np.uint8)
    for bit, (row, column) in enumerate(_NEIGHBOURS):
        neighbour = images[:, :, row : row + height, column : column + width]
        patterns |= (neighbour >= middle).astype(np.uint8) << np.uint8(bit)
    return count_shares(patterns, _NUM_PATTERNS)


JUDGE = Judge(describe)
