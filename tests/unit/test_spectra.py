"""Spectra and residuals: Parseval's theorem, known waves and noise, hand-made residuals."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from quality_tools import draw_images

from knowledge_gaps.analyses.spectra.measure import compute_residuals, measure_spectra


def list_rings(height: int, width: int) -> dict[int, list[tuple[int, int]]]:
    """List the indices of every ring's frequencies, one by one."""
    rings: dict[int, list[tuple[int, int]]] = {}
    for row, column in itertools.product(range(height), range(width)):
        # the frequencies that the indices stand for, without their sign
        down, across = min(row, height - row), min(column, width - column)
        cycles = math.hypot(down / height, across / width)
        rings.setdefault(round(min(height, width) * cycles), []).append((row, column))
    return rings


def test_power_of_stored_images_by_the_definition() -> None:
    """Against the sums of the discrete Fourier transform; more images than one batch, colour."""
    images, sides = draw_images(101, (3, 12, 8)), (12, 8)
    down, across = (np.exp(-2j * np.pi * np.outer(range(n), range(n)) / n) for n in sides)
    spectrum = np.einsum("hr,ncrs,ws->nchw", down, images / 127.5 - 1, across)
    mean = (np.abs(spectrum) ** 2 / 96).mean(axis=(0, 1))
    expected = [np.mean([mean[place] for place in list_rings(*sides)[r]]) for r in (1, 2, 3, 4)]
    np.testing.assert_allclose(measure_spectra(images).power, expected, rtol=1e-12)


def test_residuals_are_images_less_the_median_of_nine_pixels() -> None:
    images = draw_images(2, (3, 5, 6))
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="symmetric").astype(int)
    for place in np.ndindex(images.shape):
        image, channel, row, column = place
        window = padded[image, channel, row : row + 3, column : column + 3]
        residual = (int(images[place]) - sorted(window.ravel())[4]) / 127.5
        assert compute_residuals(images)[place] == pytest.approx(residual, abs=1e-12)


def test_dot_is_its_own_residual_and_has_every_frequency_alike() -> None:
    images = np.zeros((2, 1, 8, 8), np.uint8)
    images[0, 0, 2, 3] = images[1, 0, 5, 5] = 102  # 0.8 units above black
    spectra = measure_spectra(images)
    np.testing.assert_allclose(spectra.residual_spectrum, np.full((8, 8), 0.8 / 8), rtol=1e-12)
    expected = np.zeros((1, 8, 8))
    expected[0, 2, 3] = expected[0, 5, 5] = 0.4
    np.testing.assert_allclose(spectra.fingerprint, expected, rtol=1e-12)


def test_frequency_0_is_in_the_middle() -> None:
    stripes = np.zeros((1, 1, 8, 8), np.uint8)
    stripes[..., ::2] = 255  # the highest frequency across, none down
    spectrum = measure_spectra(stripes).residual_spectrum
    assert np.unravel_index(spectrum.argmax(), spectrum.shape) == (4, 0)
