"""The spectra that the stage `spectra` stored, of the reals and of some GAN cohorts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure

from knowledge_gaps.analyses import maps
from knowledge_gaps.core import layout, tables
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.data.store import load_array
from knowledge_gaps.readings import figures
from knowledge_gaps.study import REALS, REALS_TRAIN

FloatArray = npt.NDArray[np.float64]

COLUMNS = {
    tables.GENERATOR_COHORT: tables.Cast.NAME,
    tables.GENERATOR_CHAIN: tables.Cast.COUNT,
    tables.GENERATOR_INSTANCE: tables.Cast.COUNT,
    "frequency": tables.Cast.COUNT,
    "power": tables.Cast.NUMBER,
}
_KEYS = list(COLUMNS)[:4]

_LINEAR_DB = 3  # a ratio's axis is linear up to here: cohorts near the reals lie within it
_LETTER_WIDTH = 0.74  # of a font's size, with the gaps between panels
_LINEAR_SHARE = 30  # of a map's scale: linear up to this part of its end, logarithmic beyond
_MIDDLE_SHARE = 8  # of the same: where its other marks are
_LEGEND_COLUMNS = 5  # at most
_FLOOR = {"color": figures.GREY, "linewidth": 1.3, "linestyle": (0, (4, 2)), "label": "train split"}
_MAX_MARKERS = 40  # on a line; more would hide it
_FRAME_WIDTH_IN = 0.95  # names of the rows, and colour bars
_FRAME_HEIGHT_IN = 0.45


class ResidualMap(NamedTuple):
    """Mean residual spectrum, float64 [H, W], and mean residual, float64 [C, H, W]."""

    spectrum: FloatArray
    fingerprint: FloatArray


class SpectraReading(NamedTuple):
    """Spectra of the reals' test split, of their train split, then of GAN cohorts, by name."""

    # [instances, F], power at 1, 2, ... F cycles per image in squared units of [-1, 1]
    spectra: dict[str, FloatArray]
    residuals: dict[str, ResidualMap]  # means over the instances

    @property
    def has_colours(self) -> bool:
        """Whether the images have several channels."""
        return len(self.residuals[REALS].fingerprint) > 1


def read(root: Path, reports: Path, cohorts: Sequence[str]) -> SpectraReading:
    """Read spectra of the reals and of GAN cohorts; raises UserError when one is not whole."""
    path = reports / layout.SPECTRA_FILE
    table = tables.read_columns(path, COLUMNS)
    tables.check_unique(path, table, _KEYS)
    powers = table.pivot(index=_KEYS[:3], columns="frequency", values="power")
    reading = SpectraReading({}, {})
    for name in (REALS, REALS_TRAIN, *cohorts):
        if name not in powers.index or not np.isfinite(powers.loc[name].to_numpy()).all():
            raise UserError(f"{path}: the spectrum of {name!r} is missing or not whole")
        reading.spectra[name] = powers.loc[name].to_numpy(np.float64)
        files = (layout.RESIDUAL_SPECTRA_FILE, layout.FINGERPRINTS_FILE)
        arrays = [load_array(root / layout.SPECTRA / name / file) for file in files]
        means = (array.astype(np.float64).mean(axis=0) for array in arrays)
        reading.residuals[name] = ResidualMap(*means)
    return reading


def draw(reading: SpectraReading) -> Iterator[figures.PageFigure]:
    """Draw the figures `spectra` and `residuals` of the page."""
    yield figures.PageFigure("spectra", draw_spectra(reading.spectra))
    yield figures.PageFigure("residuals", draw_residuals(reading.residuals), is_picture=True)


@figures.paper_style()
def draw_spectra(spectra: Mapping[str, FloatArray]) -> Figure:
    """Draw power against frequency, and below it the ratio to the reals in decibels."""
    figure = Figure(figsize=(figures.WIDTH_IN, 4.9))
    axes_power, axes_ratio = figure.subplots(2, 1, sharex=True, height_ratios=[1, 1.2])
    axes_power.set_yscale("log")
    axes_ratio.set_yscale("symlog", linthresh=_LINEAR_DB, linscale=2)
    [reals] = spectra[REALS]
    frequencies = np.arange(1, len(reals) + 1)
    axes_power.plot(frequencies, reals, color="black", linewidth=1.1, label="reals")
    axes_ratio.axhline(0, color="black", linewidth=1.1)
    marker = "o" if len(frequencies) <= _MAX_MARKERS else ""
    cohorts = [name for name in spectra if name not in (REALS, REALS_TRAIN)]
    colours = dict(zip(cohorts, figures.choose_colours(len(cohorts)), strict=True))
    for name in (REALS_TRAIN, *cohorts):
        line = {"color": colours[name], "label": name} if name in colours else dict(_FLOOR)
        axes_power.plot(frequencies, spectra[name].mean(axis=0), **line)
        # a data frame skips instances without power
        ratios = pd.DataFrame(10 * np.log10(divide(spectra[name], reals)))
        if name in colours:
            low, high, colour = ratios.min(), ratios.max(), colours[name]
            axes_ratio.fill_between(frequencies, low, high, color=colour, alpha=0.2, linewidth=0)
            line |= {"marker": marker, "markersize": 2.5}
        axes_ratio.plot(frequencies, ratios.mean(), **line)
    _label_spectra(axes_power, axes_ratio)
    axes_ratio.set_xlim(frequencies[0], frequencies[-1])
    handles, labels = axes_power.get_legend_handles_labels()
    num_columns = math.ceil(len(labels) / math.ceil(len(labels) / _LEGEND_COLUMNS))
    figure.legend(handles, labels, loc="outside upper center", ncols=num_columns)
    return figure


def _label_spectra(axes_power: Axes, axes_ratio: Axes) -> None:
    axes_power.set_ylabel("power (squared\nunits of [\N{MINUS SIGN}1, 1])")
    axes_power.set_title("Radially averaged power spectrum (means over instances)")
    (low, high), sizes = axes_ratio.get_ylim(), (1, 2, _LINEAR_DB, 10, 30, 100)
    ticks = [sign * size for size in sizes for sign in (-1, 1) if low <= sign * size <= high]
    axes_ratio.set_yticks([0, *ticks])
    axes_ratio.yaxis.set_major_formatter("{x:g}")
    axes_ratio.set_ylabel("ratio to the reals (dB)")
    axes_ratio.set_title(
        f"Ratio to the reals (bands: range over instances; logarithmic beyond ±{_LINEAR_DB} dB)"
    )
    axes_ratio.set_xlabel("frequency (cycles per image)")


def divide(values: FloatArray, reals: FloatArray) -> FloatArray:
    """Divide by what the reals have; NaN where either is 0, as in empty images."""
    known = (values > 0) & (reals > 0)
    ratio: FloatArray = np.divide(values, reals, out=np.full(known.shape, np.nan), where=known)
    return ratio


@figures.paper_style()
def draw_residuals(residuals: Mapping[str, ResidualMap]) -> Figure:
    """Draw residual spectra over that of the reals, and mean residuals less that of the reals."""
    reals, others = residuals[REALS], [one for name, one in residuals.items() if name != REALS]
    panel_in = (figures.WIDTH_IN - _FRAME_WIDTH_IN) / len(others)
    figure = Figure(figsize=(figures.WIDTH_IN, 2 * panel_in + _FRAME_HEIGHT_IN))
    above, below = figure.subplots(2, len(others), squeeze=False)
    ratios = [np.log2(divide(one.spectrum, reals.spectrum)) for one in others]
    _draw_maps(figure, above, ratios, "log\N{SUBSCRIPT TWO} ratio")
    above[0].set_ylabel("residual\nspectrum", fontsize=8)
    differences = [(one.fingerprint - reals.fingerprint).mean(axis=0) for one in others]
    unit = "grey value" if len(reals.fingerprint) == 1 else "mean of colours"
    _draw_maps(figure, below, differences, unit)
    below[0].set_ylabel("mean\nresidual", fontsize=8)
    names = ["train split" if name == REALS_TRAIN else name for name in residuals if name != REALS]
    # the longest title must not overlap the next one
    title_pt = min(8.0, 72 * panel_in / (_LETTER_WIDTH * max(map(len, names))))
    for axes, name in zip(above, names, strict=True):
        axes.set_title(name, fontsize=title_pt, fontweight="normal")
    return figure


def _draw_maps(
    figure: Figure, panels: Sequence[Axes], shown: Sequence[FloatArray], unit: str
) -> None:
    limit = float(np.nanquantile(np.abs(shown), maps.LARGEST_QUANTILE))
    # collapsed generators differ from reals many times as much as others
    norm = SymLogNorm(limit / _LINEAR_SHARE, vmin=-limit, vmax=limit)
    for axes, one in zip(panels, shown, strict=True):
        maps.hide_frame(axes)
        image = axes.imshow(one, cmap=maps.DIVERGING_MAP, norm=norm)
    options = {"ax": list(panels), "aspect": 12, "pad": 0.015, "extend": "both"}
    bar = maps.add_colour_bar(figure, image, unit, **options)
    end, middle = _round_down(limit), _round_down(limit / _MIDDLE_SHARE)
    bar.set_ticks([-end, -middle, 0, middle, end])
    bar.ax.yaxis.set_major_formatter("{x:g}")
    bar.ax.minorticks_off()


def _round_down(value: float) -> float:
    """Round a positive number down to 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return max(step * power for step in (1, 2, 5) if step * power <= value)
