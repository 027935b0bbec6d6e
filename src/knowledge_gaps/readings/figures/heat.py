"""Tables in colour: a study's detection rates beside the paper's."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from knowledge_gaps.readings.figures.style import GREY, WIDTH_IN
from knowledge_gaps.readings.formats import NOTHING
from knowledge_gaps.readings.paper import PaperTable

FloatArray = npt.NDArray[np.float64]

_COLOUR_MAP = "Blues"
_DARK_FROM = 0.55  # the map is dark above this, and the text on it white
_MIN_LABELLED = 5  # rows that are as high as the colour bar's whole label is long
_FRAME_HEIGHT_IN = 1.2  # title and axis names


def draw_beside(
    means: FloatArray, stds: FloatArray, paper: PaperTable, row_height_in: float
) -> tuple[Figure, Axes, Axes]:
    """Draw the cells of two tables on one scale; labels are left to the caller.

    Args:
        means: [classifier cohorts, GAN cohorts] of the study, on the left; NaN for no pair.
        stds: as means.
        paper: the paper's table, on the right.
        row_height_in: of each row.
    """
    num_rows = max(len(means), len(paper.rows))
    figure = Figure(figsize=(WIDTH_IN, _FRAME_HEIGHT_IN + row_height_in * num_rows))
    ratios = [means.shape[1], len(paper.columns)]
    axes_ours, axes_paper = figure.subplots(1, 2, width_ratios=ratios)
    _draw_cells(axes_ours, means, stds)
    axes_ours.set_title("This study")
    image = _draw_cells(axes_paper, np.array(paper.means), np.array(paper.stds))
    for axes in (axes_ours, axes_paper):
        axes.set_ylim(num_rows - 0.5, -0.5)  # cells of both are of one size
    bar = figure.colorbar(image, ax=[axes_ours, axes_paper], shrink=0.85, aspect=20, pad=0.02)
    label = "detection rate (share of generated images)"
    bar.set_label("detection rate" if num_rows < _MIN_LABELLED else label)
    bar.ax.tick_params(color=GREY)
    bar.outline.set_visible(False)
    return figure, axes_ours, axes_paper


def label_cells(axes: Axes, rows: Sequence[int | str], columns: Sequence[int | str]) -> None:
    """Name rows on the left and columns on top."""
    axes.set_xticks(range(len(columns)), [str(name) for name in columns])
    axes.set_yticks(range(len(rows)), [str(name) for name in rows])
    axes.xaxis.set_label_position("top")
    axes.tick_params(
        length=0, top=False, labeltop=True, bottom=False, labelbottom=False, labelleft=True
    )
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _draw_cells(axes: Axes, means: FloatArray, stds: FloatArray) -> AxesImage:
    """Draw a table [R, C] with its numbers; a cell without pairs is white and says so."""
    image = axes.imshow(means, cmap=_COLOUR_MAP, vmin=0.0, vmax=1.0, aspect="auto")
    for row, column in np.ndindex(means.shape):
        mean, std = float(means[row, column]), float(stds[row, column])
        text = f"{mean:.2f}" if math.isfinite(mean) else NOTHING
        text += f"\n±{std:.2f}" if math.isfinite(std) else ""
        colour = "white" if mean > _DARK_FROM else "black"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    return image
