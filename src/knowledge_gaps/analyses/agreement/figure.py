"""Who is fooled together beside who is alike: matrices of the same classifiers in one order.

The numbers are in `knowledge_gaps.readings.mutual_fooling` and
`knowledge_gaps.analyses.agreement.reading`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from knowledge_gaps.analyses.agreement.reading import CKA, ERROR_CONSISTENCY, Agreement
from knowledge_gaps.readings.figures.style import GREY, WIDTH_IN, paper_style
from knowledge_gaps.readings.formats import NOTHING
from knowledge_gaps.readings.mutual_fooling import MutualFooling

FloatArray = npt.NDArray[np.float64]

_DARK_FROM = 0.65  # of a colour scale: text above it is white
_EMPTY = "#F1F2F4"  # a classifier beside itself, or a pair without a number
_FRAME_HEIGHT_IN = 0.72  # title, axis names and colour bar
_MAX_NUMBERED = 12  # cells of more classifiers are too small for numbers
_MAX_THREE_DIGITS = 6  # of more, for three decimals
_SCALE_STEP = 0.05  # colour scales end at multiples of it


@dataclass(frozen=True)
class _Panel:
    """One matrix and how it is drawn; a range of None is that of the numbers shown."""

    matrix: FloatArray
    title: str
    bar_label: str
    columns: str
    colour_map: str
    limits: tuple[float, float] | None = None


@paper_style()
def draw_agreement(
    agreement: Agreement, order: Sequence[int], fooling: MutualFooling | None = None
) -> Figure:
    """Draw mutual fooling, error consistency and likeness of features, each on its own scale.

    Args:
        agreement: of the classifiers' pairs.
        order: instances of rows and columns; all must be in both readings.
        fooling: of the same classifier cohort; None leaves its panel out.
    """
    panels = [*_make_fooling_panel(fooling, order), *_make_likeness_panels(agreement, order)]
    width_in = WIDTH_IN * len(panels) / 3
    figure = Figure(figsize=(width_in, WIDTH_IN / 3 + _FRAME_HEIGHT_IN))
    for axes, panel in zip(figure.subplots(1, len(panels)), panels, strict=True):
        image = _draw_matrix(axes, panel, order)
        bar = figure.colorbar(image, ax=axes, location="bottom", shrink=0.95, aspect=22, pad=0.04)
        bar.set_label(panel.bar_label, fontsize=8)
        bar.ax.tick_params(color=GREY, labelsize=7.5)
        bar.outline.set_visible(False)
        bar.locator = MaxNLocator(4)
        bar.update_ticks()
    return figure


def _make_fooling_panel(fooling: MutualFooling | None, order: Sequence[int]) -> list[_Panel]:
    if fooling is None:
        return []
    return [
        _Panel(
            matrix=fooling.get_square(order),
            title="Fooled together",
            bar_label="detection rate (pale: fooled)",
            columns="GANs against classifier",
            colour_map="Blues",
            limits=(0.0, 1.0),
        )
    ]


def _make_likeness_panels(agreement: Agreement, order: Sequence[int]) -> list[_Panel]:
    matrices = [agreement.get_matrix(measure, order) for measure in (ERROR_CONSISTENCY, CKA)]
    for matrix in matrices:
        np.fill_diagonal(matrix, np.nan)
    return [
        _Panel(
            matrix=matrices[0],
            title="Same errors",
            bar_label="error consistency, kappa (dark: alike)",
            columns="classifier",
            colour_map="Greens",
        ),
        _Panel(
            matrix=matrices[1],
            title="Same features",
            bar_label="linear CKA (dark: alike)",
            columns="classifier",
            colour_map="Greens",
        ),
    ]


def _draw_matrix(axes: Axes, panel: _Panel, order: Sequence[int]) -> AxesImage:
    lowest, highest = panel.limits or _find_limits(panel.matrix)
    image = axes.imshow(panel.matrix, cmap=panel.colour_map, vmin=lowest, vmax=highest)
    axes.set_facecolor(_EMPTY)
    if len(order) <= _MAX_NUMBERED:
        dark_from = lowest + _DARK_FROM * (highest - lowest)
        _write_numbers(axes, panel.matrix, dark_from)
    _label(axes, panel, order)
    return image


def _write_numbers(axes: Axes, matrix: FloatArray, dark_from: float) -> None:
    digits = 3 if len(matrix) <= _MAX_THREE_DIGITS else 2
    size = min(8.0, 52 / len(matrix))
    for row, column in np.ndindex(matrix.shape):
        value = float(matrix[row, column])
        if row == column and not math.isfinite(value):
            continue
        colour = "white" if value > dark_from else "black"
        text = _format_cell(value, digits)
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)


def _label(axes: Axes, panel: _Panel, order: Sequence[int]) -> None:
    names = [str(instance) for instance in order]
    axes.set_xticks(range(len(order)), names)
    axes.set_yticks(range(len(order)), names)
    axes.set_title(panel.title)
    axes.set_xlabel(panel.columns, fontsize=8)
    axes.set_ylabel("classifier", fontsize=8)
    axes.xaxis.set_label_position("top")
    axes.tick_params(
        length=0, labelsize=7.5, top=False, labeltop=True, bottom=False, labelbottom=False, pad=2
    )
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _find_limits(matrix: FloatArray) -> tuple[float, float]:
    """Return the multiples of a step around the numbers, at least a step apart."""
    known = matrix[np.isfinite(matrix)]
    if len(known) == 0:
        return 0.0, 1.0
    lowest = math.floor(known.min() / _SCALE_STEP) * _SCALE_STEP
    highest = math.ceil(known.max() / _SCALE_STEP) * _SCALE_STEP
    return lowest, max(highest, lowest + _SCALE_STEP)


def _format_cell(value: float, digits: int) -> str:
    """Write a number without the zero before its point, which would not fit."""
    if not math.isfinite(value):
        return NOTHING
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text
