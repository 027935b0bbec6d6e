"""The pixels themselves: which of them are brighter or darker than in reals, on average."""

from __future__ import annotations

from knowledge_gaps.data.store import Images
from knowledge_gaps.evaluation.descriptions import FloatArray, pool_means
from knowledge_gaps.evaluation.judging import Judge

_MOST_PX = 32  # a side; larger images are pooled


def describe(images: Images) -> FloatArray:
    """Return levels of images of at most 32 px: uint8 [N, C, H, W] -> float64 [N, F]."""
    return pool_means(images, _MOST_PX).reshape(len(images), -1)


JUDGE = Judge(describe)
