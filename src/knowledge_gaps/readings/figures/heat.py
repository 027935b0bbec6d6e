"""Tables in colour, of iterations and of architectures: a study's beside the paper's.

The numbers are in `knowledge_gaps.readings.tables` and
`knowledge_gaps.readings.paper`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from knowledge_gaps.readings.figures.style import GREY, WIDTH_IN, paper_style
from knowledge_gaps.readings.formats import NOTHING
from knowledge_gaps.readings.paper import (
    TABLE_ARCHITECTURES,
    TABLE_ITERATIONS,
    PaperTable,
)
from knowledge_gaps.readings.tables import IterationTable

FloatArray = npt.NDArray[np.float64]

COLOUR_MAP = "Blues"
_DARK_FROM = 0.55  # the map is dark above this, and the text on it white
_ROW_HEIGHT_IN = 0.46
_MIN_LABELLED = 5  # rows that are as high as the colour bar's whole label is long
_TALL_ROW_HEIGHT_IN = 0.6  # of rows with names in two lines
_FRAME_HEIGHT_IN = 1.2  # title and axis names


@paper_style()
def draw_iteration_table(table: IterationTable, paper: PaperTable = TABLE_ITERATIONS) -> Figure:
    """Draw the study's detection rates beside the paper's.

    Args:
        table: the study's reading, on the left.
        paper: the paper's table, on the right.
    """
    figure, axes_ours, axes_paper = _draw_beside(table, paper, _ROW_HEIGHT_IN)
    _label(axes_ours, table.row_iterations, range(len(table.gans)))
    axes_ours.set_ylabel("GAN-classifiers of iteration", y=1.0, ha="right")
    _label(axes_paper, range(len(paper.rows)), range(len(paper.columns)))
    axes_paper.set_title("The paper: StyleGAN2, ResNet-50, FFHQ")
    for axes in (axes_ours, axes_paper):
        axes.set_xlabel("generators of iteration")
    return figure


@paper_style()
def draw_architecture_table(
    table: IterationTable, names: Sequence[str], paper: PaperTable = TABLE_ARCHITECTURES
) -> Figure:
    """Draw detection across architectures beside the paper's.

    Args:
        table: the study's reading, on the left.
        names: of the architectures, as many as the table has rows, and columns.
        paper: the paper's table, on the right.
    """
    figure, axes_ours, axes_paper = _draw_beside(table, paper, _TALL_ROW_HEIGHT_IN)
    axes_paper.set_title("The paper: StyleGAN2, FFHQ")
    wrapped = [name.replace(" at ", "\nat ") for name in names]
    # as many lines on both sides, so that the titles stand at one height
    lines = "\n" if any("\n" in name for name in wrapped) else ""
    _label(axes_ours, wrapped, [name if "\n" in name else lines + name for name in wrapped])
    _label(axes_paper, paper.rows, [lines + name for name in paper.columns])
    for axes in (axes_ours, axes_paper):
        axes.set_xlabel("generators that fool a")
        axes.tick_params(labelsize=7)
    axes_ours.set_ylabel("GAN-classifiers")
    return figure


def _draw_beside(
    table: IterationTable, paper: PaperTable, row_height_in: float
) -> tuple[Figure, Axes, Axes]:
    """Draw the cells of both tables on one scale; labels are left to the caller."""
    num_rows = max(len(table.classifiers), len(paper.rows))
    figure = Figure(figsize=(WIDTH_IN, _FRAME_HEIGHT_IN + row_height_in * num_rows))
    ratios = [len(table.gans), len(paper.columns)]
    axes_ours, axes_paper = figure.subplots(1, 2, width_ratios=ratios)
    means, stds = _get_arrays(table)
    _draw_cells(axes_ours, means, stds)
    axes_ours.set_title("This study")
    image = _draw_cells(axes_paper, np.array(paper.means), np.array(paper.stds))
    for axes in (axes_ours, axes_paper):
        axes.set_ylim(num_rows - 0.5, -0.5)  # cells of both are of one size
    label = "detection rate (share of generated images)"
    if num_rows < _MIN_LABELLED:
        label = "detection rate"
    _add_colour_bar(figure, image, [axes_ours, axes_paper], label)
    return figure, axes_ours, axes_paper


def _draw_cells(axes: Axes, means: FloatArray, stds: FloatArray) -> AxesImage:
    """Draw a table [R, C] with its numbers; a cell without pairs is white and says so."""
    image = axes.imshow(means, cmap=COLOUR_MAP, vmin=0.0, vmax=1.0, aspect="auto")
    for row, column in np.ndindex(means.shape):
        mean, std = float(means[row, column]), float(stds[row, column])
        colour = "white" if mean > _DARK_FROM else "black"
        axes.text(
            column, row, _format_cell(mean, std), ha="center", va="center", color=colour, fontsize=8
        )
    return image


def _format_cell(mean: float, std: float) -> str:
    if not math.isfinite(mean):
        return NOTHING
    return f"{mean:.2f}\n±{std:.2f}" if math.isfinite(std) else f"{mean:.2f}"


def _label(axes: Axes, rows: Sequence[int | str], columns: Sequence[int | str]) -> None:
    axes.set_xticks(range(len(columns)), [str(name) for name in columns])
    axes.set_yticks(range(len(rows)), [str(name) for name in rows])
    axes.xaxis.set_label_position("top")
    axes.tick_params(
        length=0, top=False, labeltop=True, bottom=False, labelbottom=False, labelleft=True
    )
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _add_colour_bar(figure: Figure, image: AxesImage, axes: Sequence[Axes], label: str) -> None:
    bar = figure.colorbar(image, ax=list(axes), shrink=0.85, aspect=20, pad=0.02)
    bar.set_label(label)
    bar.ax.tick_params(color=GREY)
    bar.outline.set_visible(False)


def _get_arrays(table: IterationTable) -> tuple[FloatArray, FloatArray]:
    """Return means and stds, each [classifier cohorts, GAN cohorts]."""
    shape = len(table.classifiers), len(table.gans)
    cells = [table.cells[row, column] for row in table.classifiers for column in table.gans]
    means = np.array([cell.detection.mean for cell in cells], dtype=np.float64)
    stds = np.array([cell.detection.std for cell in cells], dtype=np.float64)
    return means.reshape(shape), stds.reshape(shape)
