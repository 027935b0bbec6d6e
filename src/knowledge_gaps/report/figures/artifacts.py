"""Figures of what generators leave in their images: power spectra, and residuals of a denoiser.

The numbers are in `knowledge_gaps.report.readings.artifacts`; nothing is computed here but ratios
to the reals and limits of scales. What classifiers look at is drawn by
`knowledge_gaps.report.figures.attributions`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from knowledge_gaps.report.figures.style import GREY, WIDTH_IN, choose_colours, paper_style
from knowledge_gaps.report.readings.artifacts import (
    ResidualReading,
    SpectraReading,
    convert_to_decibels,
    divide,
)

FloatArray = npt.NDArray[np.float64]

DIVERGING_MAP = "RdBu_r"
_LARGEST_QUANTILE = 0.995  # of the maps' absolute values; what is beyond it has the last colour
_LEGEND_COLUMNS = 5  # at most
_MAX_MARKERS = 40  # on a line; more would hide it
_FRAME_WIDTH_IN = 0.95  # names of the rows, and colour bars
_FRAME_HEIGHT_IN = 0.45


@paper_style()
def draw_spectra(reading: SpectraReading) -> Figure:
    """Draw power against frequency, and below it the ratio to the reals.

    Args:
        reading: with at least one cohort, in the order of the legend.
    """
    figure = Figure(figsize=(WIDTH_IN, 4.9))
    axes_power, axes_ratio = figure.subplots(2, 1, sharex=True, height_ratios=[1, 1.2])
    colours = choose_colours(len(reading.cohorts))
    _draw_power(axes_power, reading, colours)
    _draw_ratios(axes_ratio, reading, colours)
    axes_ratio.set_xlabel("frequency (cycles per image)")
    axes_ratio.set_xlim(reading.frequencies[0], reading.frequencies[-1])
    handles, labels = axes_power.get_legend_handles_labels()
    num_columns = math.ceil(len(labels) / math.ceil(len(labels) / _LEGEND_COLUMNS))
    figure.legend(handles, labels, loc="outside upper center", ncols=num_columns)
    return figure


def _draw_power(axes: Axes, reading: SpectraReading, colours: Sequence[str]) -> None:
    frequencies = reading.frequencies
    axes.plot(frequencies, reading.reals, color="black", linewidth=1.1, label="reals")
    _draw_floor(axes, frequencies, reading.floor)
    for (name, power), colour in zip(reading.cohorts.items(), colours, strict=True):
        axes.plot(frequencies, power.mean(axis=0), color=colour, label=name)
    axes.set_yscale("log")
    axes.set_ylabel("power (squared\nunits of [\N{MINUS SIGN}1, 1])")
    axes.set_title("Radially averaged power spectrum (means over instances)")


def _draw_ratios(axes: Axes, reading: SpectraReading, colours: Sequence[str]) -> None:
    frequencies = reading.frequencies
    axes.axhline(0, color="black", linewidth=1.1)
    _draw_floor(axes, frequencies, convert_to_decibels(divide(reading.floor, reading.reals)))
    for power, colour in zip(reading.cohorts.values(), colours, strict=True):
        # a data frame skips instances without power
        ratios = pd.DataFrame(convert_to_decibels(divide(power, reading.reals)))
        axes.fill_between(
            frequencies, ratios.min(), ratios.max(), color=colour, alpha=0.2, linewidth=0
        )
        marker = "o" if len(frequencies) <= _MAX_MARKERS else ""
        axes.plot(frequencies, ratios.mean(), color=colour, marker=marker, markersize=2.5)
    axes.set_ylabel("ratio to the reals (dB)")
    axes.set_title("Ratio to the reals (bands: range over instances)")


def _draw_floor(axes: Axes, frequencies: FloatArray, values: FloatArray) -> None:
    dashes = (0, (4, 2))
    axes.plot(frequencies, values, color=GREY, linewidth=1.3, linestyle=dashes, label="train split")


@paper_style()
def draw_residuals(reading: ResidualReading) -> Figure:
    """Draw residual spectra over that of the reals, and mean residuals less that of the reals.

    Args:
        reading: with at least one cohort; the train split of the reals stands before them.
    """
    maps = {"train split": reading.floor, **reading.cohorts}
    panel_in = (WIDTH_IN - _FRAME_WIDTH_IN) / len(maps)
    figure = Figure(figsize=(WIDTH_IN, 2 * panel_in + _FRAME_HEIGHT_IN))
    rows = figure.subplots(2, len(maps), squeeze=False)
    ratios = [np.log2(divide(one.spectrum, reading.reals.spectrum)) for one in maps.values()]
    _draw_maps(figure, rows[0], ratios, "log\N{SUBSCRIPT TWO} ratio")
    rows[0, 0].set_ylabel("residual\nspectrum", fontsize=8)
    differences = [one.fingerprint - reading.reals.fingerprint for one in maps.values()]
    _draw_maps(
        figure, rows[1], [one.mean(axis=0) for one in differences], _name_pixels(differences)
    )
    rows[1, 0].set_ylabel("mean\nresidual", fontsize=8)
    for axes, name in zip(rows[0], maps, strict=True):
        axes.set_title(name, fontsize=8, fontweight="normal")
    return figure


def _name_pixels(fingerprints: Sequence[FloatArray]) -> str:
    return "grey value" if len(fingerprints[0]) == 1 else "mean of colours"


def _draw_maps(
    figure: Figure, panels: Sequence[Axes], maps: Sequence[FloatArray], unit: str
) -> None:
    limit = float(np.nanquantile(np.abs(maps), _LARGEST_QUANTILE))
    images = [_draw_map(axes, one, limit) for axes, one in zip(panels, maps, strict=True)]
    bar = figure.colorbar(images[-1], ax=list(panels), aspect=12, pad=0.015, extend="both")
    bar.set_label(unit, fontsize=8)
    bar.ax.tick_params(labelsize=7.5)
    bar.outline.set_visible(False)


def _draw_map(axes: Axes, values: FloatArray, limit: float) -> AxesImage:
    hide_frame(axes)
    return axes.imshow(values, cmap=DIVERGING_MAP, vmin=-limit, vmax=limit)


def hide_frame(axes: Axes) -> None:
    """Take ticks, grid and border away from axes that show an image."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
