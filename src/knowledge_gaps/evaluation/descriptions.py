"""What the descriptions of images by judges share: counting in bins, and making images smaller."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

FloatArray = npt.NDArray[np.float64]


def count_shares(bins: npt.NDArray[Any], num_bins: int) -> FloatArray:
    """Count what share of every channel's values lies in each bin.

    Args:
        bins: index of the bin of every value, whole numbers [N, C, ...] in [0, num_bins).
        num_bins: of a channel.

    Returns:
        Shares float64 [N, C * num_bins], channel by channel; those of a channel sum to 1.
    """
    num_images, channels = bins.shape[:2]
    rows = bins.reshape(num_images * channels, -1)
    places = rows + num_bins * np.arange(len(rows))[:, None]
    counts = np.bincount(places.ravel(), minlength=num_bins * len(rows))
    return counts.reshape(num_images, channels * num_bins) / rows.shape[1]


def pool_means(images: npt.NDArray[Any], most_px: int) -> FloatArray:
    """Make images [N, C, H, W] smaller by means, until no side is longer than `most_px`.

    Smaller sides stay as they are. Where a side is no multiple of the new one, the windows of
    neighbours overlap by a pixel (as in `torch.nn.AdaptiveAvgPool2d`). Returns float64.
    """
    height, width = (min(side_px, most_px) for side_px in images.shape[2:])
    pooled: FloatArray = F.adaptive_avg_pool2d(
        torch.from_numpy(images.astype(np.float64)), (height, width)
    ).numpy()
    return pooled
