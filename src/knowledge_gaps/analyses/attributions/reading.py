"""The attributions that the stage `attributions` stored, and how far two classifiers agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from knowledge_gaps.analyses import maps
from knowledge_gaps.core import layout
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import read_json
from knowledge_gaps.core.tables import CLASSIFIER_COHORT, NUM_IMAGES, Cast, read_columns
from knowledge_gaps.data.store import load_array
from knowledge_gaps.readings import figures
from knowledge_gaps.study import REALS

FloatArray = npt.NDArray[np.float64]

COLUMNS = {
    "images": Cast.NAME,
    CLASSIFIER_COHORT: Cast.NAME,
    "classifier_a": Cast.COUNT,
    "classifier_b": Cast.COUNT,
    "a_in_loss": Cast.FLAG,
    "b_in_loss": Cast.FLAG,
    NUM_IMAGES: Cast.COUNT,
    "spearman_mean": Cast.NUMBER,
    "spearman_std": Cast.NUMBER,
}

_NUM_ROWS = 6  # images of each set that are shown
_SMALLEST_PX = 32  # side below which maps are not shrunk
_GAPS_PER_IMAGE = 32  # its side divided by that of the gap beside it, where that is above 1 px
_GAP_COLOUR = "#C9CCD1"
_FRAME_WIDTH_IN = 1.15  # colour bars and names of the rows
_FRAME_HEIGHT_IN = 0.62
_OFFSET = 0.16  # of the two kinds of pairs from the middle of their set of images
_SPREAD = 0.07  # of the pairs of one kind, to either side


class SetAttributions(NamedTuple):
    """Attributions of one set of images by K classifiers, with E examples."""

    images: npt.NDArray[np.uint8]  # [E, C, H, W], the set's first images
    attributions: FloatArray  # [K, E, C, H, W], logits per pixel; positive speaks for "real"
    means: FloatArray  # [K, C, H, W], mean of |attribution| over num_images images
    num_images: int


class AttributionReading(NamedTuple):
    """Attributions by a classifier in the loss and by held-out ones, and their agreement."""

    gans: str  # the cohort whose loss the first classifier is in
    classifier_cohort: str
    classifiers: tuple[int, ...]  # instances; the one in the loss first
    sets: dict[str, SetAttributions]  # by GAN cohort, generator 0 of each, and of the reals
    agreement: pd.DataFrame  # attributions.csv


def read(root: Path, reports: Path) -> AttributionReading | None:
    """Read attributions and agreement, None when no GAN cohort fools; raises UserError."""
    path = root / layout.ATTRIBUTIONS / layout.ATTRIBUTION_INDEX_FILE
    index, table = read_json(path), reports / layout.ATTRIBUTIONS_FILE
    try:
        if index["gans"] is None:
            return None
        return AttributionReading(
            gans=index["gans"],
            classifier_cohort=index["classifier_cohort"],
            classifiers=tuple(index["classifiers"]),
            sets={n: _read_set(path.parent / n, index["num_images"][n]) for n in index["images"]},
            agreement=read_columns(table, COLUMNS),
        )
    except KeyError as error:
        raise UserError(f"{path}: key {error} is missing") from error


def _read_set(directory: Path, num_images: int) -> SetAttributions:
    return SetAttributions(
        images=load_array(directory / layout.EXAMPLE_IMAGES_FILE).astype(np.uint8),
        attributions=load_array(directory / layout.EXAMPLE_ATTRIBUTIONS_FILE).astype(np.float64),
        means=load_array(directory / layout.ATTRIBUTION_MEANS_FILE).astype(np.float64),
        num_images=num_images,
    )


def draw(reading: AttributionReading) -> Iterator[figures.PageFigure]:
    """Draw the figures `attributions` and `attribution_agreement` of the page."""
    yield figures.PageFigure("attributions", draw_attributions(reading), is_picture=True)
    yield figures.PageFigure("attribution_agreement", draw_agreement(reading))


@figures.paper_style()
def draw_attributions(reading: AttributionReading) -> Figure:
    """Draw images beside their attributions by every classifier, and the means of many below."""
    sets, num_classifiers = list(reading.sets.values()), len(reading.classifiers)
    num_rows = min(_NUM_ROWS, *(len(one.images) for one in sets))
    cell_in = (figures.WIDTH_IN - _FRAME_WIDTH_IN) / (len(sets) * (1 + num_classifiers))
    max_side_px = max(_SMALLEST_PX, int(cell_in * figures.DPI))  # what is printed of a map
    figure = Figure(figsize=(figures.WIDTH_IN, (num_rows + 1) * cell_in + _FRAME_HEIGHT_IN))
    widths, heights = [1, num_classifiers] * len(sets), [num_rows, 1]
    panels = figure.subplots(2, 2 * len(sets), width_ratios=widths, height_ratios=heights)
    for name, one, axes, text in zip(
        _list_names(reading), sets, panels[0, ::2], panels[1, ::2], strict=True
    ):
        column = _tile(figures.shrink_images(one.images[:num_rows], max_side_px)[:, None], 255)
        maps.hide_frame(axes)
        pixels = column[0] if len(column) == 1 else column.transpose(1, 2, 0)
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=255)
        axes.set_title(name, fontsize=8.5, pad=24)
        text.set_axis_off()
        words = f"mean of\n|attribution|,\n{one.num_images} images"
        text.text(0.5, 0.5, words, ha="center", va="center", fontsize=5.5)
    # the sum over the channels: [K, E, H, W] of each set, and [K, 1, H, W] of the means
    shown = [
        figures.shrink_maps(one.attributions[:, :num_rows].sum(axis=2), max_side_px) for one in sets
    ]
    means = [figures.shrink_maps(one.means.sum(axis=1)[:, None], max_side_px) for one in sets]
    _draw_row(figure, panels[0, 1::2], shown, "attribution (logits per pixel)", is_signed=True)
    _draw_row(figure, panels[1, 1::2], means, "logits", is_signed=False)
    side_px = shown[0].shape[-1]
    places = (np.arange(num_classifiers) + 0.5) * (side_px + _get_gap_px(side_px))
    roles = ["in loss", *["held-out"] * (num_classifiers - 1)]
    labels = [f"{one}\n{role}" for one, role in zip(reading.classifiers, roles, strict=True)]
    for axes in panels[0, 1::2]:
        axes.set_xticks(places, labels, fontsize=6)
        axes.tick_params(length=0, top=False, labeltop=True, labelbottom=False, pad=1)
    return figure


def _draw_row(
    figure: Figure, panels: Sequence[Axes], sets: Sequence[FloatArray], unit: str, is_signed: bool
) -> None:
    """Draw maps [K, R, H, W] of each set: a column for each classifier, a row for each image."""
    limit = float(np.quantile(np.abs(np.concatenate(sets, axis=1)), maps.LARGEST_QUANTILE))
    colour_map, lowest, extend = (
        (maps.DIVERGING_MAP, -limit, "both") if is_signed else ("Greys", 0.0, "max")
    )
    for axes, values in zip(panels, sets, strict=True):
        maps.hide_frame(axes)
        axes.set_facecolor(_GAP_COLOUR)  # shown where there is no value
        [tiles] = _tile(values.swapaxes(0, 1)[:, :, None], np.nan)
        image = axes.imshow(tiles, cmap=colour_map, vmin=lowest, vmax=limit)
    options = {"ax": panels[-1], "aspect": 24, "fraction": 0.03, "extend": extend}
    maps.add_colour_bar(figure, image, unit, **options)


def _tile(images: npt.NDArray[Any], value: float) -> npt.NDArray[Any]:
    """Put images [R, K, C, H, W] into R rows and K columns, with gaps: [C, all H, all W]."""
    gap = (0, _get_gap_px(images.shape[-1]))
    padded = np.pad(images, [(0, 0), (0, 0), (0, 0), gap, gap], constant_values=value)
    rows, columns, channels, height, width = padded.shape
    return padded.transpose(2, 0, 3, 1, 4).reshape(channels, rows * height, columns * width)


def _list_names(reading: AttributionReading) -> list[str]:
    return ["reals" if name == REALS else f"{name}/0" for name in reading.sets]


def _get_gap_px(side_px: int) -> int:
    return max(1, side_px // _GAPS_PER_IMAGE)


@figures.paper_style()
def draw_agreement(reading: AttributionReading) -> Figure:
    """Draw the rank correlation of every two classifiers' attributions, by set of images."""
    figure = Figure(figsize=(figures.WIDTH_IN, 2.6))
    axes, pairs = figure.subplots(), reading.agreement
    in_loss = pairs["a_in_loss"] | pairs["b_in_loss"]
    mixed = "the classifier in the loss and a held-out one"
    kinds = (
        (pairs[in_loss], figures.ORANGE, "s", -_OFFSET, mixed),
        (pairs[~in_loss], figures.BLUE, "o", _OFFSET, "two held-out classifiers"),
    )
    for rows, colour, marker, offset, label in kinds:
        for place, name in enumerate(reading.sets):
            chosen = rows[rows["images"] == name]
            axes.errorbar(
                place + offset + figures.spread(len(chosen), _SPREAD),
                chosen["spearman_mean"],
                chosen["spearman_std"],
                color=colour,
                fmt=marker,
                markersize=5,
                linewidth=1,
                label=label if place == 0 else None,
            )
    axes.set_xticks(range(len(reading.sets)), _list_names(reading))
    axes.set_ylabel("Spearman's rank\ncorrelation")
    axes.set_title("Agreement of attributions (means and std over images)")
    figure.legend(loc="outside upper center", ncols=2)
    return figure
