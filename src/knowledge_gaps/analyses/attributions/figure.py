"""Figures of attributions, and of how far two classifiers agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from knowledge_gaps.analyses.attributions.reading import AttributionReading
from knowledge_gaps.analyses.maps import (
    DIVERGING_MAP,
    LARGEST_QUANTILE,
    add_colour_bar,
    hide_frame,
)
from knowledge_gaps.readings.figures.grids import shrink_images, shrink_maps
from knowledge_gaps.readings.figures.style import (
    BLUE,
    DPI,
    ORANGE,
    WIDTH_IN,
    PageFigure,
    paper_style,
)
from knowledge_gaps.study import REALS

FloatArray = npt.NDArray[np.float64]

_NUM_ROWS = 6  # images of each set that are shown
_SMALLEST_PX = 32  # side below which maps are not shrunk
_GAPS_PER_IMAGE = 32  # its side divided by that of the gap beside it, where that is above 1 px
_GAP_COLOUR = "#C9CCD1"
_FRAME_WIDTH_IN = 1.15  # colour bars and names of the rows
_FRAME_HEIGHT_IN = 0.62
_OFFSET = 0.16  # of the two kinds of pairs from the middle of their set of images
_SPREAD = 0.07  # of the pairs of one kind, to either side


def draw(reading: AttributionReading) -> Iterator[PageFigure]:
    """Draw the figures `attributions` and `attribution_agreement` of the page."""
    yield PageFigure("attributions", draw_attributions(reading), is_picture=True)
    yield PageFigure("attribution_agreement", draw_agreement(reading))


@paper_style()
def draw_attributions(reading: AttributionReading) -> Figure:
    """Draw images beside their attributions by every classifier, and the means of many below."""
    sets, num_classifiers = list(reading.sets.values()), len(reading.classifiers)
    num_rows = min(_NUM_ROWS, *(len(one.images) for one in sets))
    cell_in = (WIDTH_IN - _FRAME_WIDTH_IN) / (len(sets) * (1 + num_classifiers))
    max_side_px = max(_SMALLEST_PX, int(cell_in * DPI))  # what is printed of a map
    figure = Figure(figsize=(WIDTH_IN, (num_rows + 1) * cell_in + _FRAME_HEIGHT_IN))
    widths, heights = [1, num_classifiers] * len(sets), [num_rows, 1]
    panels = figure.subplots(2, 2 * len(sets), width_ratios=widths, height_ratios=heights)
    for (name, one), images, text in zip(
        reading.sets.items(), panels[0, ::2], panels[1, ::2], strict=True
    ):
        _draw_images(images, shrink_images(one.images[:num_rows], max_side_px))
        images.set_title(_format_set(name), fontsize=8.5, pad=24)
        text.set_axis_off()
        words = f"mean of\n|attribution|,\n{one.num_images} images"
        text.text(0.5, 0.5, words, ha="center", va="center", fontsize=5.5)
    # the sum over the channels: [K, E, H, W] of each set, and [K, 1, H, W] of the means
    maps = [shrink_maps(one.attributions[:, :num_rows].sum(axis=2), max_side_px) for one in sets]
    means = [shrink_maps(one.means.sum(axis=1)[:, None], max_side_px) for one in sets]
    limit, limit_means = _find_limit(maps), _find_limit(means)
    label = "attribution (logits per pixel)"
    _draw_row(figure, panels[0, 1::2], maps, (-limit, limit), label)
    _draw_row(figure, panels[1, 1::2], means, (0.0, limit_means), "logits")
    for axes in panels[0, 1::2]:
        _name_classifiers(axes, reading.classifiers, maps[0].shape[-1])
    return figure


def _find_limit(sets: Sequence[FloatArray]) -> float:
    return float(np.quantile(np.abs(np.concatenate(sets, axis=1)), LARGEST_QUANTILE))


def _draw_row(
    figure: Figure,
    panels: Sequence[Axes],
    sets: Sequence[FloatArray],
    limits: tuple[float, float],
    unit: str,
) -> None:
    """Draw maps [K, R, H, W] of each set: a column for each classifier, a row for each image."""
    colour_map, extend = (DIVERGING_MAP, "both") if limits[0] < 0 else ("Greys", "max")
    for axes, maps in zip(panels, sets, strict=True):
        columns = [np.concatenate([_pad(one, np.nan) for one in column]) for column in maps]
        hide_frame(axes)
        axes.set_facecolor(_GAP_COLOUR)  # shown where there is no value
        tiles = np.concatenate(columns, axis=1)
        image = axes.imshow(tiles, cmap=colour_map, vmin=limits[0], vmax=limits[1])
    options = {"ax": panels[-1], "aspect": 24, "fraction": 0.03, "extend": extend}
    add_colour_bar(figure, image, unit, **options)


def _draw_images(axes: Axes, images: npt.NDArray[np.uint8]) -> None:
    column = np.concatenate([_pad(image, 255) for image in images], axis=1)  # [C, rows, W]
    hide_frame(axes)
    pixels = column[0] if len(column) == 1 else column.transpose(1, 2, 0)
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255)


def _pad(image: npt.NDArray[np.generic], value: float) -> npt.NDArray[np.generic]:
    """Add a gap to the lower and right side of an image [..., H, W]."""
    margins = [(0, 0)] * (image.ndim - 2) + [(0, _get_gap_px(image.shape[-1]))] * 2
    padded: npt.NDArray[np.generic] = np.pad(image, margins, constant_values=value)
    return padded


def _get_gap_px(side_px: int) -> int:
    return max(1, side_px // _GAPS_PER_IMAGE)


def _name_classifiers(axes: Axes, classifiers: Sequence[int], width_px: int) -> None:
    places = (np.arange(len(classifiers)) + 0.5) * (width_px + _get_gap_px(width_px))
    roles = ["in loss", *["held-out"] * (len(classifiers) - 1)]
    names = [f"{one}\n{role}" for one, role in zip(classifiers, roles, strict=True)]
    axes.set_xticks(places, names, fontsize=6)
    axes.tick_params(length=0, top=False, labeltop=True, labelbottom=False, pad=1)


def _format_set(name: str) -> str:
    return "reals" if name == REALS else f"{name}/0"


@paper_style()
def draw_agreement(reading: AttributionReading) -> Figure:
    """Draw the rank correlation of every two classifiers' attributions, by set of images."""
    figure = Figure(figsize=(WIDTH_IN, 2.6))
    axes, pairs = figure.subplots(), reading.agreement
    in_loss = pairs["a_in_loss"] | pairs["b_in_loss"]
    kinds = (
        (pairs[in_loss], ORANGE, "s", -_OFFSET, "the classifier in the loss and a held-out one"),
        (pairs[~in_loss], BLUE, "o", _OFFSET, "two held-out classifiers"),
    )
    for rows, colour, marker, offset, label in kinds:
        for place, name in enumerate(reading.sets):
            chosen = rows[rows["images"] == name]
            spread = _SPREAD if len(chosen) > 1 else 0
            axes.errorbar(
                place + offset + np.linspace(-spread, spread, len(chosen)),
                chosen["spearman_mean"],
                chosen["spearman_std"],
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
