"""The power of every spatial frequency and direction.

Source: Frank et al. 2020, "Leveraging frequency analysis for deep fake image recognition", who
train linear classifiers on logarithms of a spectrum.
DEVIATION: of the Fourier transform, not of the cosine transform, for the grid of an upsampling
shows in both.
"""

from __future__ import annotations

import numpy as np
from scipy.fft import fftshift

from knowledge_gaps.data.store import Images
from knowledge_gaps.evaluation.descriptions import FloatArray, pool_means
from knowledge_gaps.evaluation.judging import Judge
from knowledge_gaps.statistics.spectra import ROUNDING_POWER, compute_power

_MOST_BINS = 32  # a side; larger spectra are pooled


def describe(images: Images) -> FloatArray:
    """Return logarithms of the power spectrum, mean over the channels, pooled to 32 bins a side.

    uint8 [N, C, H, W] -> float64 [N, F], of squared levels.
    """
    power = compute_power(images).mean(axis=1, keepdims=True)  # [N, 1, H, W]
    # an image's spectrum is symmetric: one half says all; neighbours in frequency lie together
    half = fftshift(power, axes=-2)[..., : power.shape[-1] // 2 + 1]
    return np.log(pool_means(half, _MOST_BINS) + ROUNDING_POWER).reshape(len(images), -1)


JUDGE = Judge(describe)
