"""Power spectra of images, and what is left of them after denoising."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.fft import fftshift
from scipy.ndimage import median_filter

from knowledge_gaps.data.store import Images
from knowledge_gaps.evaluation.batches import count_together, split_images
from knowledge_gaps.statistics.spectra import (
    FloatArray,
    average_rings,
    compute_amplitude,
    compute_power,
)

_LEVELS_PER_UNIT = 127.5  # stored levels in one unit of [-1, 1]
_MEDIAN_PX = 3  # side of the denoiser's window
_BATCH_SIZE = 100  # small images whose complex spectra are in memory at once
_BATCH_VALUES = 1 << 20  # of larger images together: 16 MiB of complex numbers


class Spectra(NamedTuple):
    """Means over a set of images."""

    power: FloatArray  # [min(H, W) // 2], at 1, 2, ... cycles per image
    residual_spectrum: FloatArray  # [H, W], amplitude of the residuals, frequency 0 in the middle
    fingerprint: FloatArray  # [C, H, W], residual in units of [-1, 1]


def measure_spectra(images: Images, num_images: int | None = None) -> Spectra:
    """Measure the spectra and the fingerprint of the first images (None: of all), at least one.

    Source: the spectrum of high-pass filtered images is that of Wang et al. 2020, "CNN-generated
    images are surprisingly easy to spot... for now", section 4.6; the mean residual is the
    fingerprint of Marra et al. 2019, "Do GANs leave artificial fingerprints?", eq. 2.
    """
    shape = images.shape[1:]
    power, amplitude, residual_sum = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    size, num_measured = count_together(shape, _BATCH_SIZE, _BATCH_VALUES), 0
    for batch in split_images(images, size, num_images):
        num_measured += len(batch)
        power += compute_power(batch / _LEVELS_PER_UNIT).sum(axis=0)
        residuals = compute_residuals(batch)
        amplitude += compute_amplitude(residuals).sum(axis=0)
        residual_sum += residuals.sum(axis=0)
    return Spectra(
        power=average_rings((power / num_measured).mean(axis=0)),
        residual_spectrum=fftshift((amplitude / num_measured).mean(axis=0)),
        fingerprint=residual_sum / num_measured,
    )


def compute_residuals(images: npt.NDArray[np.uint8]) -> FloatArray:
    """Subtract the median of 3 x 3 pixels from each image [N, C, H, W], in units of [-1, 1]."""
    denoised = median_filter(images, size=(1, 1, _MEDIAN_PX, _MEDIAN_PX))
    residuals: FloatArray = (images.astype(np.float64) - denoised) / _LEVELS_PER_UNIT
    return residuals
