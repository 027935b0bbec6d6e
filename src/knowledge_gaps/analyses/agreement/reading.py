"""How alike classifiers of one cohort are, and whether alike ones are fooled together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from knowledge_gaps.analyses.maps import add_colour_bar
from knowledge_gaps.core import layout, tables
from knowledge_gaps.readings.cohort_tables import label_cells
from knowledge_gaps.readings.figures import GREY, WIDTH_IN, PageFigure, paper_style
from knowledge_gaps.readings.formats import NOTHING
from knowledge_gaps.readings.mutual_fooling import MutualFooling
from knowledge_gaps.statistics import agreement as statistics

FloatArray = npt.NDArray[np.float64]

COLUMNS = {
    tables.CLASSIFIER_COHORT: tables.Cast.NAME,
    "classifier_a": tables.Cast.COUNT,
    "classifier_b": tables.Cast.COUNT,
    "on_images": tables.Cast.NAME,
    tables.NUM_IMAGES: tables.Cast.COUNT,
    "num_errors_a": tables.Cast.COUNT,
    "num_errors_b": tables.Cast.COUNT,
    "num_errors_both": tables.Cast.COUNT,
    "observed_agreement": tables.Cast.SHARE,
    "expected_agreement": tables.Cast.SHARE,
    "error_consistency": tables.Cast.NUMBER,
    "num_cka_images": tables.Cast.COUNT,
    "cka": tables.Cast.NUMBER,
}

_ENDS = ["classifier_a", "classifier_b"]
# title, name of the columns, colours, unit
_PANELS = (
    ("Fooled together", "GANs against classifier", "Blues", "detection rate (pale: fooled)"),
    ("Same errors", "classifier", "Greens", "error consistency, kappa (dark: alike)"),
    ("Same features", "classifier", "Greens", "linear CKA (dark: alike)"),
)
_DARK_FROM = 0.65  # of a colour scale: text above it is white
_EMPTY = "#F1F2F4"  # the diagonal of likeness, or a pair without a number
_FRAME_HEIGHT_IN = 0.72  # title, axis names and colour bar
_MAX_NUMBERED = 12  # cells of more classifiers are too small for numbers
_MAX_THREE_DIGITS = 6  # of more, for three decimals
_SCALE_STEP = 0.05  # colour scales end at multiples of it


class Comparison(NamedTuple):
    """Correlation of the detection of one another's GANs with kappa and with CKA, over pairs.

    Both are below 0 when alike classifiers are fooled together; `note` says what limits them.
    """

    kappa: statistics.MatrixCorrelation
    cka: statistics.MatrixCorrelation
    note: str


@dataclass(eq=False)
class Agreement:
    """Pairs of N classifiers of one cohort, compared on one kind of images."""

    instances: tuple[int, ...]  # of rows and columns
    kappa: FloatArray  # [N, N], error consistency; 1 on the diagonal, NaN where it is not known
    cka: FloatArray  # [N, N], likeness of features; likewise
    num_images: int  # the fewest that any pair was compared on
    num_errors: int  # the fewest of any classifier in any pair; kappa of few errors says little
    comparison: Comparison | None = None  # with mutual fooling

    def select(self, order: Sequence[int]) -> tuple[FloatArray, FloatArray]:
        """Return `kappa` and `cka` of some instances, in their order."""
        index = [self.instances.index(instance) for instance in order]
        return self.kappa[np.ix_(index, index)], self.cka[np.ix_(index, index)]


def read(reports: Path, fooling: MutualFooling | None) -> dict[str, Agreement]:
    """Read agreement.csv, perhaps without rows, by kind of images; raises UserError."""
    path = reports / layout.AGREEMENT_FILE
    table = tables.read_columns(path, COLUMNS)
    table[_ENDS] = np.sort(table[_ENDS], axis=1)  # a pair has no direction
    tables.check_unique(path, table, ["on_images", *_ENDS])
    kinds = (statistics.HELD_OUT, statistics.FOOLING, statistics.FOOLING_OTHERS)
    rows = {kind: table[table["on_images"] == kind] for kind in kinds}
    found = {kind: _make_agreement(chosen) for kind, chosen in rows.items() if len(chosen) > 0}
    if fooling is not None:
        for one in found.values():
            one.comparison = compare_with_fooling(fooling, one)
    return found


def _make_agreement(rows: pd.DataFrame) -> Agreement:
    ends = rows[_ENDS].to_numpy(dtype=np.int64)
    instances, places = np.unique(ends, return_inverse=True)
    first, second = places.reshape(ends.shape).T

    def fill(column: str) -> FloatArray:
        matrix = np.full((len(instances), len(instances)), np.nan)
        np.fill_diagonal(matrix, 1.0)
        matrix[first, second] = matrix[second, first] = rows[column].to_numpy()
        return matrix

    return Agreement(
        instances=tuple(instances.tolist()),
        kappa=fill("error_consistency"),
        cka=fill("cka"),
        num_images=int(rows[tables.NUM_IMAGES].min()),
        num_errors=int(rows[["num_errors_a", "num_errors_b"]].to_numpy().min()),
    )


def compare_with_fooling(fooling: MutualFooling, agreement: Agreement) -> Comparison:
    """Test whether classifiers that detect one another's GANs less are more alike.

    The pair of a and b has the mean of a's rate on GANs against b and b's rate on GANs against a.
    FOOLING_OTHERS leaves these GANs out of the images, so that nothing is compared with itself.
    """
    instances = tuple(i for i in fooling.fooled if i in agreement.instances)
    rates = statistics.symmetrise(fooling.get_square(instances))
    kappa, cka = (statistics.correlate_matrices(rates, one) for one in agreement.select(instances))
    note = ""
    if len(instances) < statistics.MIN_INSTANCES:
        num_orders = math.factorial(len(instances))
        note = (
            f"{len(instances)} classifiers have {num_orders} orders: "
            f"no p-value can fall below {min(1.0, 2 / num_orders):.2g}"
        )
    elif math.isnan(kappa.spearman) or math.isnan(cka.spearman):
        note = "a pair has no number, or all pairs have the same"
    return Comparison(kappa, cka, note)


def draw(
    reading: Mapping[str, Agreement], fooling: MutualFooling, order: Sequence[int]
) -> Iterator[PageFigure]:
    """Draw `mutual_fooling` of the page, if there are two classifiers, ordered by cluster."""
    agreement = reading.get(statistics.FOOLING_OTHERS)
    shown = [instance for instance in order if agreement and instance in agreement.instances]
    if agreement is None or len(shown) < 2:
        return
    yield PageFigure("mutual_fooling", draw_agreement(agreement, fooling, shown))


@paper_style()
def draw_agreement(agreement: Agreement, fooling: MutualFooling, order: Sequence[int]) -> Figure:
    """Draw three matrices of the instances in `order`, all in both readings, a scale for each."""
    kappa, cka = agreement.select(order)
    for matrix in (kappa, cka):
        np.fill_diagonal(matrix, np.nan)
    figure = Figure(figsize=(WIDTH_IN, WIDTH_IN / 3 + _FRAME_HEIGHT_IN))
    matrices = (fooling.get_square(order), kappa, cka)
    limits = ((0.0, 1.0), _find_limits(kappa), _find_limits(cka))
    for axes, matrix, ends, words in zip(
        figure.subplots(1, 3), matrices, limits, _PANELS, strict=True
    ):
        title, columns, colour_map, unit = words
        _draw_matrix(axes, matrix, ends, colour_map, unit)
        label_cells(axes, order, order)
        axes.tick_params(labelsize=7.5, pad=2)
        axes.set_title(title)
        axes.set_xlabel(columns, fontsize=8)
        axes.set_ylabel("classifier", fontsize=8)
    return figure


def _draw_matrix(
    axes: Axes, matrix: FloatArray, limits: tuple[float, float], colour_map: str, unit: str
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
        # without the zero before the point, which would not fit
        number = f"{value:.{digits}f}".replace("0.", ".", 1)
        text = number if math.isfinite(value) else NOTHING
        colour = "white" if value > dark_from else "black"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)


def _find_limits(matrix: FloatArray) -> tuple[float, float]:
    """Return the multiples of a step around the numbers, at least a step apart."""
    known = matrix[np.isfinite(matrix)]
    if len(known) == 0:
        return 0.0, 1.0
    lowest = math.floor(known.min() / _SCALE_STEP) * _SCALE_STEP
    highest = math.ceil(known.max() / _SCALE_STEP) * _SCALE_STEP
    return lowest, max(highest, lowest + _SCALE_STEP)
