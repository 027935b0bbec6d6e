"""Power spectra of arrays of images, and their averages over rings of one spatial frequency."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.fft import fft2, fftfreq

FloatArray = npt.NDArray[np.float64]

# of rounding to whole levels, in squared levels: added to a power, it keeps logarithms finite
ROUNDING_POWER = 1 / 12


def compute_amplitude(images: npt.NDArray[Any]) -> FloatArray:
    """Compute |FFT| / sqrt(H W) of every image [..., H, W], frequency 0 first."""
    amplitude: FloatArray = np.abs(fft2(images, axes=(-2, -1), norm="ortho"))
    return amplitude


def compute_power(images: npt.NDArray[Any]) -> FloatArray:
    """Compute |FFT|^2 / (H W) of every image [..., H, W] less its mean, frequency 0 first.

    By Parseval's theorem its mean over an image's frequencies is the image's variance.
    """
    centred = images - images.mean(axis=(-2, -1), keepdims=True)
    return compute_amplitude(centred) ** 2


def average_rings(power: FloatArray) -> FloatArray:
    """Average spectra [..., H, W], frequency 0 first, over rings one cycle per image wide.

    Returns means float64 [..., min(H, W) // 2] over the frequencies whose distance from 0 rounds
    to 1, 2, ... cycles per shorter side. The corners are in no ring.
    """
    height, width = power.shape[-2:]
    cycles = min(height, width) * np.hypot(fftfreq(height)[:, None], fftfreq(width)[None])
    radii, num_rings = np.rint(cycles).astype(np.int64).ravel(), min(height, width) // 2
    counts = np.bincount(radii)
    spectra = power.reshape(-1, height * width)
    bins = radii + len(counts) * np.arange(len(spectra))[:, None]  # those of every spectrum
    sums = np.bincount(bins.ravel(), spectra.ravel(), minlength=len(counts) * len(spectra))
    rings = sums.reshape(*power.shape[:-2], len(counts)) / counts
    return rings[..., 1 : num_rings + 1]
