"""Mutual fooling beside agreement: matrices of the same classifiers in one order."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from knowledge_gaps.analyses.agreement.reading import Agreement, AgreementReading
from knowledge_gaps.analyses.maps import add_colour_bar, hide_frame
from knowledge_gaps.readings.figures.style import GREY, WIDTH_IN, PageFigure, paper_style
from knowledge_gaps.readings.formats import NOTHING
from knowledge_gaps.readings.mutual_fooling import MutualFooling
from knowledge_gaps.statistics.agreement import FOOLING_OTHERS

FloatArray = npt.NDArray[np.float64]

_DARK_FROM = 0.65  # of a colour scale: text above it is white
_EMPTY = "#F1F2F4"  # the diagonal of likeness, or a pair without a number
_FRAME_HEIGHT_IN = 0.72  # title, axis names and colour bar
_MAX_NUMBERED = 12  # cells of more classifiers are too small for numbers
_MAX_THREE_DIGITS = 6  # of more, for three decimals
_SCALE_STEP = 0.05  # colour scales end at multiples of it


def draw(
    reading: AgreementReading, fooling: MutualFooling | None, order: Sequence[int]
) -> Iterator[PageFigure]:
    """Draw the figure `mutual_fooling` of the page, when there are at least two classifiers.

    Args:
        reading: of agreement.csv.
        fooling: of the same classifier cohort.
        order: of its classifiers, by cluster.
    """
    agreement = reading.agreement.get(FOOLING_OTHERS)
    if fooling is None or agreement is None:
        return
    shown = [instance for instance in order if instance in agreement.instances]
    if len(shown) < 2:
        return
    yield PageFigure("mutual_fooling", draw_agreement(agreement, fooling, shown))


@paper_style()
def draw_agreement(agreement: Agreement, fooling: MutualFooling, order: Sequence[int]) -> Figure:
    """Draw mutual fooling, error consistency and likeness of features, each on its own scale.

    Args:
        agreement: of the classifiers' pairs.
        fooling: of the same classifier cohort.
        order: instances of rows and columns; all must be in both readings.
    """
    kappa, cka = agreement.select(order)
    for matrix in (kappa, cka):
        np.fill_diagonal(matrix, np.nan)
    figure = Figure(figsize=(WIDTH_IN, WIDTH_IN / 3 + _FRAME_HEIGHT_IN))
    left, middle, right = figure.subplots(1, 3)
    square, all_rates = fooling.get_square(order), (0.0, 1.0)
    _draw_matrix(left, square, "Blues", all_rates, "detection rate (pale: fooled)")
    unit = "error consistency, kappa (dark: alike)"
    _draw_matrix(middle, kappa, "Greens", _find_limits(kappa), unit)
    _draw_matrix(right, cka, "Greens", _find_limits(cka), "linear CKA (dark: alike)")
    _label(left, order, "Fooled together", "GANs against classifier")
    _label(middle, order, "Same errors", "classifier")
    _label(right, order, "Same features", "classifier")
    return figure


def _draw_matrix(
    axes: Axes, matrix: FloatArray, colour_map: str, limits: tuple[float, float], unit: str
) -> None:
    lowest, highest = limits
    image = axes.imshow(matrix, cmap=colour_map, vmin=lowest, vmax=highest)
    axes.set_facecolor(_EMPTY)
    if len(matrix) <= _MAX_NUMBERED:
        _write_numbers(axes, matrix, lowest + _DARK_FROM * (highest - lowest))
    options = {"ax": axes, "location": "bottom", "shrink": 0.95, "aspect": 22, "pad": 0.04}
    bar = add_colour_bar(axes.figure, image, unit, **options)
    bar.ax.tick_params(color=GREY)
    bar.locator = MaxNLocator(4)
    bar.update_ticks()


def _write_numbers(axes: Axes, matrix: FloatArray, dark_from: float) -> None:
    digits = 3 if len(matrix) <= _MAX_THREE_DIGITS else 2
    size = min(8.0, 52 / len(matrix))
    for (row, column), value in np.ndenumerate(matrix):
        if row == column and not math.isfinite(value):
            continue
        colour = "white" if value > dark_from else "black"
        text = _format_cell(value, digits)
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)


def _label(axes: Axes, order: Sequence[int], title: str, columns: str) -> None:
    hide_frame(axes)
    axes.set_xticks(range(len(order)), [str(instance) for instance in order])
    axes.set_yticks(range(len(order)), [str(instance) for instance in order])
    axes.set_title(title)
    axes.set_xlabel(columns, fontsize=8)
    axes.set_ylabel("classifier", fontsize=8)
    axes.xaxis.set_label_position("top")
    axes.tick_params(
        length=0, labelsize=7.5, top=False, labeltop=True, bottom=False, labelbottom=False, pad=2
    )


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
