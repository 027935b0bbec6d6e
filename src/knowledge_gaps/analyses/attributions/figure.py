"""Figures of what classifiers look at, and of how far two of them agree.

The numbers are in `knowledge_gaps.analyses.artifacts`; nothing is computed here but limits
of scales and positions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from knowledge_gaps.analyses.artifacts import (
    A_IN_LOSS,
    B_IN_LOSS,
    IMAGES,
    SPEARMAN_MEAN,
    SPEARMAN_STD,
    AttributionReading,
)
from knowledge_gaps.analyses.spectra.figure import DIVERGING_MAP, hide_frame
from knowledge_gaps.readings.figures.grids import shrink_images, shrink_maps
from knowledge_gaps.readings.figures.style import BLUE, DPI, ORANGE, WIDTH_IN, paper_style
from knowledge_gaps.study import REALS

FloatArray = npt.NDArray[np.float64]

_MEAN_MAP = "Greys"
_NUM_ROWS = 6  # images of each set that are shown
_SMALLEST_PX = 32  # side below which maps are not shrunk
_GAPS_PER_IMAGE = 32  # its side divided by that of the gap beside it, where that is above 1 px
_GAP_COLOUR = "#C9CCD1"
_FRAME_WIDTH_IN = 1.15  # colour bars and names of the rows
_FRAME_HEIGHT_IN = 0.62
_LARGEST_QUANTILE = 0.995  # of absolute values; what is beyond it has the last colour
_OFFSET = 0.16  # of the two kinds of pairs from the middle of their set of images
_SPREAD = 0.07  # of the pairs of one kind, to either side


@paper_style()
def draw_attributions(reading: AttributionReading) -> Figure:
    """Draw images beside their attributions by every classifier, and the means of many below.

    Args:
        reading: whose sets of images stand side by side.
    """
    sets, num_classifiers = list(reading.sets.values()), len(reading.classifiers)
    num_rows = min(_NUM_ROWS, *(len(one.images) for one in sets))
    cell_in = (WIDTH_IN - _FRAME_WIDTH_IN) / (len(sets) * (1 + num_classifiers))
    max_side_px = max(_SMALLEST_PX, int(cell_in * DPI))  # what is printed of a map
    figure = Figure(figsize=(WIDTH_IN, (num_rows + 1) * cell_in + _FRAME_HEIGHT_IN))
    panels = figure.subplots(
        2,
        2 * len(sets),
        squeeze=False,
        width_ratios=[1, num_classifiers] * len(sets),
        height_ratios=[num_rows, 1],
    )
    for index, (name, one) in enumerate(reading.sets.items()):
        images, _, note, _ = panels[:, 2 * index : 2 * index + 2].flat
        _draw_images(images, shrink_images(one.images[:num_rows], max_side_px))
        images.set_title(_format_set(name), fontsize=8.5, pad=24)
        note.set_axis_off()
        text = f"mean of\n|attribution|,\n{one.num_images} images"
        note.text(0.5, 0.5, text, ha="center", va="center", fontsize=5.5)
    summed = [one.attributions[:, :num_rows].sum(axis=2) for one in sets]  # over the channels
    signed = [shrink_maps(maps, max_side_px) for maps in summed]
    means = [shrink_maps(one.means.sum(axis=1)[:, None], max_side_px) for one in sets]
    _draw_row(
        figure, list(panels[0, 1::2]), signed, DIVERGING_MAP, "attribution (logits per pixel)"
    )
    _draw_row(figure, list(panels[1, 1::2]), means, _MEAN_MAP, "logits")
    for axes in panels[0, 1::2]:
        _name_classifiers(axes, reading, signed[0].shape[-1])
    return figure


def _draw_row(
    figure: Figure, panels: Sequence[Axes], sets: Sequence[FloatArray], colour_map: str, unit: str
) -> None:
    """Draw maps [K, R, H, W] of each set of images on one scale, with its colour bar."""
    limit = float(np.quantile(np.abs(np.concatenate(sets, axis=1)), _LARGEST_QUANTILE))
    is_signed = colour_map == DIVERGING_MAP
    images = [
        _draw_tiles(axes, maps, colour_map, (-limit if is_signed else 0.0, limit))
        for axes, maps in zip(panels, sets, strict=True)
    ]
    extend = "both" if is_signed else "max"
    bar = figure.colorbar(images[-1], ax=panels[-1], aspect=24, fraction=0.03, extend=extend)
    bar.set_label(unit, fontsize=8)
    bar.ax.tick_params(labelsize=7.5)
    bar.outline.set_visible(False)


def _draw_images(axes: Axes, images: npt.NDArray[np.uint8]) -> None:
    column = np.concatenate([_pad(image, 255) for image in images], axis=1)  # [C, rows, W]
    hide_frame(axes)
    pixels = column[0] if len(column) == 1 else column.transpose(1, 2, 0)
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255)


def _draw_tiles(
    axes: Axes, maps: FloatArray, colour_map: str, limits: tuple[float, float]
) -> AxesImage:
    """Draw maps [K, R, H, W], a column for each classifier and a row for each image."""
    columns = [np.concatenate([_pad(one, np.nan) for one in column], axis=0) for column in maps]
    hide_frame(axes)
    axes.set_facecolor(_GAP_COLOUR)  # seen where there is no value
    low, high = limits
    return axes.imshow(np.concatenate(columns, axis=1), cmap=colour_map, vmin=low, vmax=high)


def _pad(image: npt.NDArray[np.generic], value: float) -> npt.NDArray[np.generic]:
    """Add a gap to the lower and right side of an image [..., H, W]."""
    margins = [(0, 0)] * (image.ndim - 2) + [(0, _get_gap_px(image.shape[-1]))] * 2
    padded: npt.NDArray[np.generic] = np.pad(image, margins, constant_values=value)
    return padded


def _get_gap_px(side_px: int) -> int:
    return max(1, side_px // _GAPS_PER_IMAGE)


def _name_classifiers(axes: Axes, reading: AttributionReading, width_px: int) -> None:
    places = (np.arange(len(reading.classifiers)) + 0.5) * (width_px + _get_gap_px(width_px))
    roles = ["in loss", *["held-out"] * (len(reading.classifiers) - 1)]
    names = [f"{one}\n{role}" for one, role in zip(reading.classifiers, roles, strict=True)]
    axes.set_xticks(places, names, fontsize=6)
    axes.tick_params(length=0, top=False, labeltop=True, labelbottom=False, pad=1)


def _format_set(name: str) -> str:
    return "reals" if name == REALS else f"{name}/0"


@paper_style()
def draw_agreement(reading: AttributionReading) -> Figure:
    """Draw the rank correlation of every two classifiers' attributions, by set of images.

    Args:
        reading: with at least one pair of classifiers.
    """
    figure = Figure(figsize=(WIDTH_IN, 2.6))
    axes = figure.subplots()
    pairs = reading.agreement
    in_loss = pairs[A_IN_LOSS] | pairs[B_IN_LOSS]
    kinds = (
        (pairs[in_loss], ORANGE, "s", -_OFFSET, "the classifier in the loss and a held-out one"),
        (pairs[~in_loss], BLUE, "o", _OFFSET, "two held-out classifiers"),
    )
    for rows, colour, marker, offset, label in kinds:
        for place, name in enumerate(reading.sets):
            chosen = rows[rows[IMAGES] == name]
            places = place + offset + _spread(len(chosen))
            axes.errorbar(
                places,
                chosen[SPEARMAN_MEAN],
                chosen[SPEARMAN_STD],
                color=colour,
                fmt=marker,
                markersize=5,
                linewidth=1,
                label=label if place == 0 else None,
            )
    axes.set_xticks(range(len(reading.sets)), [_format_set(name) for name in reading.sets])
    axes.set_ylabel("Spearman's rank\ncorrelation")
    axes.set_title("Agreement of attributions (means and std over images)")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def _spread(num: int) -> FloatArray:
    return np.linspace(-_SPREAD, _SPREAD, num) if num > 1 else np.zeros(num)
