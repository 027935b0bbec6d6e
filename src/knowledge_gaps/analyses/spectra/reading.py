"""The spectra that the stage `spectra` stored, of the reals and of some GAN cohorts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from knowledge_gaps.analyses.arrays import read_array
from knowledge_gaps.core import layout
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.tables import (
    GENERATOR_COHORT,
    GENERATOR_INSTANCE,
    Cast,
    check_unique,
    read_columns,
)
from knowledge_gaps.study import REALS, REALS_TRAIN

FloatArray = npt.NDArray[np.float64]

_KEYS = {GENERATOR_COHORT: Cast.NAME, GENERATOR_INSTANCE: Cast.COUNT, "frequency": Cast.COUNT}


@dataclass(frozen=True)
class ResidualMap:
    """Mean residual spectrum, float64 [H, W], and mean residual, float64 [C, H, W]."""

    spectrum: FloatArray
    fingerprint: FloatArray


@dataclass(frozen=True)
class SpectraReading:
    """Spectra of the reals' test split, of their train split, then of GAN cohorts, by name.

    Attributes:
        spectra: float64 [instances, F], power at 1, 2, ... F cycles per image in squared units of
            [-1, 1].
        residuals: means over the instances.
    """

    spectra: Mapping[str, FloatArray]
    residuals: Mapping[str, ResidualMap]

    @property
    def has_colours(self) -> bool:
        """Whether the images have several channels."""
        return len(self.residuals[REALS].fingerprint) > 1


def read(root: Path, cohorts: Sequence[str]) -> SpectraReading:
    """Read the spectra of the reals and of GAN cohorts.

    Raises:
        UserError: when a file cannot be read, or lacks a cohort or one of its frequencies.
    """
    names = (REALS, REALS_TRAIN, *cohorts)
    residuals = {name: _read_residuals(root, name) for name in names}
    return SpectraReading(_read_spectra(root, names), residuals)


def _read_spectra(root: Path, names: Sequence[str]) -> dict[str, FloatArray]:
    path = layout.get_reports_directory(root) / layout.SPECTRA_FILE
    table = read_columns(path, {**_KEYS, "power": Cast.NUMBER})
    check_unique(path, table, list(_KEYS))
    powers = table.pivot(
        index=[GENERATOR_COHORT, GENERATOR_INSTANCE], columns="frequency", values="power"
    )
    for name in names:
        if name not in powers.index or not np.isfinite(powers.loc[name].to_numpy()).all():
            raise UserError(f"{path}: the spectrum of {name!r} is missing or not whole")
    return {name: powers.loc[name].to_numpy(np.float64) for name in names}


def _read_residuals(root: Path, name: str) -> ResidualMap:
    directory = layout.get_spectra_directory(root) / name
    spectra = read_array(directory / layout.RESIDUAL_SPECTRA_FILE, num_dims=3)
    fingerprints = read_array(directory / layout.FINGERPRINTS_FILE, num_dims=4)
    return ResidualMap(spectra.mean(axis=0), fingerprints.mean(axis=0))
