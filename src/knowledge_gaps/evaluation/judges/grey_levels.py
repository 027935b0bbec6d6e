"""How often each level occurs, with the two ends by themselves.

An output by tanh hardly ever reaches the ends, so generated images may have fewer pixels of exactly
0 or 255 than reals.
"""

from __future__ import annotations

import numpy as np

from knowledge_gaps.data.store import Images
from knowledge_gaps.evaluation.descriptions import FloatArray, count_shares
from knowledge_gaps.evaluation.judging import Judge

_NUM_BINS = 17
# of every level: 0 alone, 15 bins of 16 or 17 levels, 255 alone
_BINS = np.concatenate([[0], 1 + np.arange(254) * 15 // 254, [_NUM_BINS - 1]])


def describe(images: Images) -> FloatArray:
    """Return the shares of levels in 17 bins: uint8 [N, C, H, W] -> float64 [N, 17 C]."""
    return count_shares(_BINS[images], _NUM_BINS)


JUDGE = Judge(describe)
