"""Figures of what generators leave in their images: power spectra, and residuals of a denoiser.

The numbers are in `knowledge_gaps.analyses.artifacts`; nothing is computed here but ratios
to the reals and limits of scales. What classifiers look at is drawn by
`knowledge_gaps.analyses.attributions.figure`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from knowledge_gaps.analyses.artifacts import (
    ResidualReading,
    SpectraReading,
    convert_to_decibels,
    divide,
)
from knowledge_gaps.readings.figures.style import GREY, WIDTH_IN, choose_colours, paper_style

FloatArray = npt.NDArray[np.float64]

DIVERGING_MAP = "RdBu_r"
_LINEAR_DB = 3  # a ratio's axis is linear up to here: cohorts near the reals lie within it
_LETTER_WIDTH = 0.74  # of a font's size, with the gaps between panels
_LINEAR_SHARE = 30  # of a map's scale: linear up to this part of its end, logarithmic beyond
_MIDDLE_SHARE = 8  # of the same: where its other marks are
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
    axes.set_yscale("symlog", linthresh=_LINEAR_DB, linscale=2)
    axes.set_yticks(list_decibels(*axes.get_ylim()))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_ylabel("ratio to the reals (dB)")
    axes.set_title(
        f"Ratio to the reals (bands: range over instances; logarithmic beyond ±{_LINEAR_DB} dB)"
    )


def list_decibels(low: float, high: float) -> list[float]:
    """List values for an axis that is linear near 0 and logarithmic beyond."""
    sizes = [1, 2, _LINEAR_DB, 10, 30, 100]
    return [0, *(sign * size for size in sizes for sign in (-1, 1) if low <= sign * size <= high)]


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
    # side by side, the longest title must not run into the next one
    title_pt = min(8.0, 72 * panel_in / (_LETTER_WIDTH * max(len(name) for name in maps)))
    for axes, name in zip(rows[0], maps, strict=True):
        axes.set_title(name, fontsize=title_pt, fontweight="normal")
    return figure


def _name_pixels(fingerprints: Sequence[FloatArray]) -> str:
    return "grey value" if len(fingerprints[0]) == 1 else "mean of colours"


def _draw_maps(
    figure: Figure, panels: Sequence[Axes], maps: Sequence[FloatArray], unit: str
) -> None:
    limit = float(np.nanquantile(np.abs(maps), _LARGEST_QUANTILE))
    # collapsed generators differ from reals many times as much as others
    norm = SymLogNorm(limit / _LINEAR_SHARE, vmin=-limit, vmax=limit)
    images = [_draw_map(axes, one, norm) for axes, one in zip(panels, maps, strict=True)]
    bar = figure.colorbar(images[-1], ax=list(panels), aspect=12, pad=0.015, extend="both")
    places = [_round_down(limit), _round_down(limit / _MIDDLE_SHARE)]
    bar.set_ticks([-places[0], -places[1], 0, places[1], places[0]])
    bar.ax.yaxis.set_major_formatter("{x:g}")
    bar.ax.minorticks_off()
    bar.set_label(unit, fontsize=8)
    bar.ax.tick_params(labelsize=7.5)
    bar.outline.set_visible(False)


def _round_down(value: float) -> float:
    """Round a positive number down to 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return max(step * power for step in (1, 2, 5) if step * power <= value)


def _draw_map(axes: Axes, values: FloatArray, norm: SymLogNorm) -> AxesImage:
    hide_frame(axes)
    return axes.imshow(values, cmap=DIVERGING_MAP, norm=norm)


def hide_frame(axes: Axes) -> None:
    """Take ticks, grid and border away from axes that show an image."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
