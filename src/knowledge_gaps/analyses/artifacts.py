"""What generators leave in their images, and what classifiers look at, as the stages stored it.

Reads reports/spectra.csv and attributions.csv and the arrays below data/spectra and
data/attributions. The figures are in `knowledge_gaps.analyses.spectra.figure`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from knowledge_gaps.core.columns import (
    CLASSIFIER_COHORT,
    GENERATOR_COHORT,
    GENERATOR_INSTANCE,
    NUM_IMAGES,
    Cast,
    check_unique,
    read_columns,
)
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import read_json
from knowledge_gaps.core.layout import (
    ATTRIBUTION_INDEX_FILE,
    ATTRIBUTION_MEANS_FILE,
    ATTRIBUTIONS_FILE,
    EXAMPLE_ATTRIBUTIONS_FILE,
    EXAMPLE_IMAGES_FILE,
    EXAMPLE_LOGITS_FILE,
    FINGERPRINTS_FILE,
    RESIDUAL_SPECTRA_FILE,
    SPECTRA_FILE,
    get_attributions_directory,
    get_reports_directory,
    get_spectra_directory,
)
from knowledge_gaps.study import REALS, REALS_TRAIN

FloatArray = npt.NDArray[np.float64]

FREQUENCY = "frequency"
POWER = "power"
IMAGES = "images"
CLASSIFIER_A = "classifier_a"
CLASSIFIER_B = "classifier_b"
A_IN_LOSS = "a_in_loss"
B_IN_LOSS = "b_in_loss"
SPEARMAN_MEAN = "spearman_mean"
SPEARMAN_STD = "spearman_std"

_SPECTRA_COLUMNS = {
    GENERATOR_COHORT: Cast.NAME,
    GENERATOR_INSTANCE: Cast.COUNT,
    FREQUENCY: Cast.COUNT,
    POWER: Cast.NUMBER,
}
_AGREEMENT_COLUMNS = {
    IMAGES: Cast.NAME,
    CLASSIFIER_COHORT: Cast.NAME,
    CLASSIFIER_A: Cast.COUNT,
    CLASSIFIER_B: Cast.COUNT,
    A_IN_LOSS: Cast.FLAG,
    B_IN_LOSS: Cast.FLAG,
    NUM_IMAGES: Cast.COUNT,
    SPEARMAN_MEAN: Cast.NUMBER,
    SPEARMAN_STD: Cast.NUMBER,
}


@dataclass(frozen=True)
class SpectraReading:
    """Radial power spectra.

    Attributes:
        frequencies: float64 [F], cycles per image.
        reals: float64 [F], power of the reals' test split, in squared units of [-1, 1].
        floor: float64 [F], of the train split.
        cohorts: float64 [instances, F] by GAN cohort.
    """

    frequencies: FloatArray
    reals: FloatArray
    floor: FloatArray
    cohorts: Mapping[str, FloatArray]

    def measure_distances(self) -> dict[str, tuple[float, ...]]:
        """Average |dB to the reals| over the frequencies: one number per instance.

        Returns:
            By cohort, and for the train split under its own name; NaN where an instance has no
            power at some frequency.
        """
        sets = {REALS_TRAIN: self.floor[None], **self.cohorts}
        return {
            name: tuple(
                np.abs(convert_to_decibels(divide(power, self.reals))).mean(axis=1).tolist()
            )
            for name, power in sets.items()
        }


@dataclass(frozen=True)
class ResidualMap:
    """Residuals of a denoiser over a set of images.

    Attributes:
        spectrum: float64 [H, W], mean amplitude, frequency 0 in the middle.
        fingerprint: float64 [C, H, W], mean residual in units of [-1, 1].
    """

    spectrum: FloatArray
    fingerprint: FloatArray


@dataclass(frozen=True)
class ResidualReading:
    """Residuals of the reals' test split, of the train split, and the means of GAN cohorts."""

    reals: ResidualMap
    floor: ResidualMap
    cohorts: Mapping[str, ResidualMap]


@dataclass(frozen=True)
class ImageSetAttributions:
    """What K classifiers look at in one set of images.

    Attributes:
        images: uint8 [E, C, H, W], the set's first images.
        attributions: float64 [K, E, C, H, W], logits per pixel; positive speaks for "real".
        logits: float64 [K, E], positive = real.
        means: float64 [K, C, H, W], mean of |attribution| over num_images images.
        num_images: how many.
    """

    images: npt.NDArray[np.uint8]
    attributions: FloatArray
    logits: FloatArray
    means: FloatArray
    num_images: int


@dataclass(frozen=True)
class AttributionReading:
    """What classifiers look at, and how far they agree.

    Attributes:
        gans: the GAN cohort whose loss the first classifier is in.
        classifier_cohort: of all classifiers.
        classifiers: their instances; the one in the loss first.
        sets: by GAN cohort, and the reals under their name; generator instance 0 of each.
        agreement: the rows of attributions.csv.
    """

    gans: str
    classifier_cohort: str
    classifiers: tuple[int, ...]
    sets: Mapping[str, ImageSetAttributions]
    agreement: pd.DataFrame


def divide(values: FloatArray, reals: FloatArray) -> FloatArray:
    """Divide by what the reals have; NaN where either has nothing, as in images that are empty."""
    known = (values > 0) & (reals > 0)
    ratio: FloatArray = np.divide(values, reals, out=np.full(known.shape, np.nan), where=known)
    return ratio


def convert_to_decibels(ratio: FloatArray) -> FloatArray:
    """Convert a ratio of powers to decibels."""
    decibels: FloatArray = 10 * np.log10(ratio)
    return decibels


def read_spectra(root: Path, cohorts: Sequence[str]) -> SpectraReading:
    """Read the radial power spectra of the reals and of some GAN cohorts.

    Raises:
        UserError: when the table cannot be read, or lacks a cohort or one of its frequencies.
    """
    path = get_reports_directory(root) / SPECTRA_FILE
    table = read_columns(path, _SPECTRA_COLUMNS)
    check_unique(path, table, [GENERATOR_COHORT, GENERATOR_INSTANCE, FREQUENCY])
    powers = table.pivot(
        index=[GENERATOR_COHORT, GENERATOR_INSTANCE], columns=FREQUENCY, values=POWER
    )
    names = (REALS, REALS_TRAIN, *cohorts)
    for name in names:
        if name not in powers.index or not np.isfinite(powers.loc[name].to_numpy()).all():
            raise UserError(f"{path}: the spectrum of {name!r} is missing or not whole")
    arrays = {name: powers.loc[name].to_numpy(np.float64) for name in names}
    return SpectraReading(
        frequencies=powers.columns.to_numpy(np.float64),
        reals=arrays[REALS][0],
        floor=arrays[REALS_TRAIN][0],
        cohorts={name: arrays[name] for name in cohorts},
    )


def read_residuals(root: Path, cohorts: Sequence[str]) -> ResidualReading:
    """Read residual spectra and fingerprints of the reals and of some GAN cohorts.

    Raises:
        UserError: when a file cannot be read or holds something else.
    """
    maps = {}
    for name in (REALS, REALS_TRAIN, *cohorts):
        directory = get_spectra_directory(root) / name
        spectra = read_array(directory / RESIDUAL_SPECTRA_FILE, num_dims=3)
        fingerprints = read_array(directory / FINGERPRINTS_FILE, num_dims=4)
        maps[name] = ResidualMap(
            spectrum=spectra.mean(axis=0, dtype=np.float64),
            fingerprint=fingerprints.mean(axis=0, dtype=np.float64),
        )
    return ResidualReading(maps[REALS], maps[REALS_TRAIN], {name: maps[name] for name in cohorts})


def read_attributions(root: Path) -> AttributionReading | None:
    """Read attributions and agreement; None when no GAN cohort of the iterations fools.

    Raises:
        UserError: when a file cannot be read or holds something else.
    """
    directory = get_attributions_directory(root)
    path = directory / ATTRIBUTION_INDEX_FILE
    index = read_json(path)
    try:
        if index["gans"] is None:
            return None
        sets = {
            name: _read_image_set(directory / name, index["num_images"][name])
            for name in index["images"]
        }
        return AttributionReading(
            gans=index["gans"],
            classifier_cohort=index["classifier_cohort"],
            classifiers=tuple(index["classifiers"]),
            sets=sets,
            agreement=read_columns(
                get_reports_directory(root) / ATTRIBUTIONS_FILE, _AGREEMENT_COLUMNS
            ),
        )
    except KeyError as error:
        raise UserError(f"{path}: key {error} is missing") from error


def read_array(path: Path, num_dims: int) -> npt.NDArray[Any]:
    """Read a .npy file with so many axes.

    Raises:
        UserError: when it cannot be read or has another number of axes.
    """
    try:
        array: npt.NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: cannot be read as a NumPy array ({error})") from error
    if array.ndim != num_dims:
        raise UserError(f"{path}: found {array.ndim} axes, {num_dims} are needed")
    return array


def _read_image_set(directory: Path, num_images: int) -> ImageSetAttributions:
    return ImageSetAttributions(
        images=read_array(directory / EXAMPLE_IMAGES_FILE, num_dims=4),
        attributions=read_array(directory / EXAMPLE_ATTRIBUTIONS_FILE, num_dims=5).astype(
            np.float64
        ),
        logits=read_array(directory / EXAMPLE_LOGITS_FILE, num_dims=2).astype(np.float64),
        means=read_array(directory / ATTRIBUTION_MEANS_FILE, num_dims=4).astype(np.float64),
        num_images=num_images,
    )
