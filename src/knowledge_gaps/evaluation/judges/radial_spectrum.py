"""The power of every spatial frequency, whatever its direction.

Source: Durall et al. 2020, "Watch your up-convolution: CNN based generative deep neural networks
are failing to reproduce spectral distributions", which calls it azimuthal integration.
DEVIATION: logarithms, since power spans orders of magnitude.
"""

from __future__ import annotations

import numpy as np

from knowledge_gaps.data.store import Images
from knowledge_gaps.evaluation.descriptions import FloatArray
from knowledge_gaps.evaluation.judging import Judge
from knowledge_gaps.statistics.spectra import ROUNDING_POWER, average_rings, compute_power


def describe(images: Images) -> FloatArray:
    """Return logarithms of the power at 1, 2, ... cycles per image, mean over the channels.

    uint8 [N, C, H, W] -> float64 [N, min(H, W) // 2], of squared levels.
    """
    power = compute_power(images).mean(axis=1)  # [N, H, W]
    return np.log(average_rings(power) + ROUNDING_POWER)


JUDGE = Judge(describe)
