"""Figures of power spectra and residuals, each beside those of the reals."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure

from knowledge_gaps.analyses.maps import (
    DIVERGING_MAP,
    LARGEST_QUANTILE,
    add_colour_bar,
    hide_frame,
)
from knowledge_gaps.analyses.spectra.reading import ResidualMap, SpectraReading
from knowledge_gaps.readings.figures.style import (
    GREY,
    WIDTH_IN,
    PageFigure,
    choose_colours,
    paper_style,
)
from knowledge_gaps.study import REALS, REALS_TRAIN

FloatArray = npt.NDArray[np.float64]

_LINEAR_DB = 3  # a ratio's axis is linear up to here: cohorts near the reals lie within it
_LETTER_WIDTH = 0.74  # of a font's size, with the gaps between panels
_LINEAR_SHARE = 30  # of a map's scale: linear up to this part of its end, logarithmic beyond
_MIDDLE_SHARE = 8  # of the same: where its other marks are
_LEGEND_COLUMNS = 5  # at most
_MAX_MARKERS = 40  # on a line; more would hide it
_FRAME_WIDTH_IN = 0.95  # names of the rows, and colour bars
_FRAME_HEIGHT_IN = 0.45


def draw(reading: SpectraReading) -> Iterator[PageFigure]:
    """Draw the figures `spectra` and `residuals` of the page."""
    yield PageFigure("spectra", draw_spectra(reading.spectra))
    yield PageFigure("residuals", draw_residuals(reading.residuals), is_picture=True)


@paper_style()
def draw_spectra(spectra: Mapping[str, FloatArray]) -> Figure:
    """Draw power against frequency, and below it the ratio to the reals in decibels.

    Args:
        spectra: of a `SpectraReading`.
    """
    figure = Figure(figsize=(WIDTH_IN, 4.9))
    axes_power, axes_ratio = figure.subplots(2, 1, sharex=True, height_ratios=[1, 1.2])
    axes_power.set_yscale("log")
    axes_ratio.set_yscale("symlog", linthresh=_LINEAR_DB, linscale=2)
    [reals] = spectra[REALS]
    frequencies = np.arange(1, len(reals) + 1)
    axes_power.plot(frequencies, reals, color="black", linewidth=1.1, label="reals")
    axes_ratio.axhline(0, color="black", linewidth=1.1)
    marker = "o" if len(frequencies) <= _MAX_MARKERS else ""
    for name, style in _choose_styles(spectra).items():
        axes_power.plot(frequencies, spectra[name].mean(axis=0), **style)
        # a data frame skips instances without power
        ratios = pd.DataFrame(10 * np.log10(divide(spectra[name], reals)))
        if name != REALS_TRAIN:
            low, high, colour = ratios.min(), ratios.max(), style["color"]
            axes_ratio.fill_between(frequencies, low, high, color=colour, alpha=0.2, linewidth=0)
            style |= {"marker": marker, "markersize": 2.5}
        axes_ratio.plot(frequencies, ratios.mean(), **style)
    _label_spectra(axes_power, axes_ratio)
    axes_ratio.set_xlim(frequencies[0], frequencies[-1])
    handles, labels = axes_power.get_legend_handles_labels()
    num_columns = math.ceil(len(labels) / math.ceil(len(labels) / _LEGEND_COLUMNS))
    figure.legend(handles, labels, loc="outside upper center", ncols=num_columns)
    return figure


def _choose_styles(names: Collection[str]) -> dict[str, dict[str, Any]]:
    """Choose the look of every line but that of the reals."""
    floor = {"color": GREY, "linewidth": 1.3, "linestyle": (0, (4, 2)), "label": "train split"}
    cohorts = [name for name in names if name not in (REALS, REALS_TRAIN)]
    pairs = zip(cohorts, choose_colours(len(cohorts)), strict=True)
    return {REALS_TRAIN: floor, **{name: {"color": one, "label": name} for name, one in pairs}}


def _label_spectra(axes_power: Axes, axes_ratio: Axes) -> None:
    axes_power.set_ylabel("power (squared\nunits of [\N{MINUS SIGN}1, 1])")
    axes_power.set_title("Radially averaged power spectrum (means over instances)")
    axes_ratio.set_yticks(list_decibels(*axes_ratio.get_ylim()))
    axes_ratio.yaxis.set_major_formatter("{x:g}")
    axes_ratio.set_ylabel("ratio to the reals (dB)")
    axes_ratio.set_title(
        f"Ratio to the reals (bands: range over instances; logarithmic beyond ±{_LINEAR_DB} dB)"
    )
    axes_ratio.set_xlabel("frequency (cycles per image)")


def list_decibels(low: float, high: float) -> list[float]:
    """List values for an axis that is linear near 0 and logarithmic beyond."""
    sizes = [1, 2, _LINEAR_DB, 10, 30, 100]
    return [0, *(sign * size for size in sizes for sign in (-1, 1) if low <= sign * size <= high)]


def divide(values: FloatArray, reals: FloatArray) -> FloatArray:
    """Divide by what the reals have; NaN where either is 0, as in empty images."""
    known = (values > 0) & (reals > 0)
    ratio: FloatArray = np.divide(values, reals, out=np.full(known.shape, np.nan), where=known)
    return ratio


@paper_style()
def draw_residuals(residuals: Mapping[str, ResidualMap]) -> Figure:
    """Draw residual spectra over that of the reals, and mean residuals less that of the reals.

    Args:
        residuals: of a `SpectraReading`.
    """
    reals, others = residuals[REALS], [one for name, one in residuals.items() if name != REALS]
    panel_in = (WIDTH_IN - _FRAME_WIDTH_IN) / len(others)
    figure = Figure(figsize=(WIDTH_IN, 2 * panel_in + _FRAME_HEIGHT_IN))
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
    figure: Figure, panels: Sequence[Axes], maps: Sequence[FloatArray], unit: str
) -> None:
    limit = float(np.nanquantile(np.abs(maps), LARGEST_QUANTILE))
    # collapsed generators differ from reals many times as much as others
    norm = SymLogNorm(limit / _LINEAR_SHARE, vmin=-limit, vmax=limit)
    for axes, one in zip(panels, maps, strict=True):
        hide_frame(axes)
        image = axes.imshow(one, cmap=DIVERGING_MAP, norm=norm)
    options = {"ax": list(panels), "aspect": 12, "pad": 0.015, "extend": "both"}
    bar = add_colour_bar(figure, image, unit, **options)
    end, middle = _round_down(limit), _round_down(limit / _MIDDLE_SHARE)
    bar.set_ticks([-end, -middle, 0, middle, end])
    bar.ax.yaxis.set_major_formatter("{x:g}")
    bar.ax.minorticks_off()


def _round_down(value: float) -> float:
    """Round a positive number down to 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return max(step * power for step in (1, 2, 5) if step * power <= value)
