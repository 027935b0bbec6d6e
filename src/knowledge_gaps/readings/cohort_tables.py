"""Tables of classifier cohorts on GAN cohorts beside the paper's: iterations that are trained
against one another (table C), and architectures (table A).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from knowledge_gaps.readings.cohorts import describe_classifiers
from knowledge_gaps.readings.figures import GREY, WIDTH_IN, PageFigure, paper_style
from knowledge_gaps.readings.formats import NOTHING
from knowledge_gaps.readings.paper import TABLE_ARCHITECTURES, TABLE_ITERATIONS, PaperTable
from knowledge_gaps.readings.reading import Metrics, Place, Reading, Results
from knowledge_gaps.readings.tables import PairSet, Row
from knowledge_gaps.statistics.measures import find_metric_of
from knowledge_gaps.study import Study

FloatArray = npt.NDArray[np.float64]

_ROW_HEIGHT_IN = 0.46
_HIGH_ROW_IN = 0.6  # of rows with names in two lines
_DARK_FROM = 0.55  # the colour map is dark above this, and the text on it white
_MIN_LABELLED = 5  # rows that are as high as the colour bar's whole label is long
_FRAME_HEIGHT_IN = 1.2  # title and axis names
_MEAN, _STD = "detection_rate_mean", "detection_rate_std"
_PLOT_COLUMNS = {  # of a cell, and in plots/iterations.csv
    "pairs": "pairs",
    "row": "classifier_iteration",
    "classifier_cohort": "classifier_cohort",
    "column": "generator_iteration",
    "generator_cohort": "generator_cohort",
    _MEAN: "detection_rate",
    _STD: "detection_rate_std",
    "auc_mean": "auc",
    "detection_rate_num": "num_pairs",
}


class CohortTable:
    """Cells of classifier cohorts (rows) on GAN cohorts (columns), by the names of both."""

    def __init__(self, gans: list[str], cells: list[Row]) -> None:
        self.gans = gans
        self.cells = {(cell["classifier_cohort"], cell["generator_cohort"]): cell for cell in cells}
        self.classifiers = list(dict.fromkeys(classifiers for classifiers, _ in self.cells))

    def get_array(self, name: str) -> FloatArray:
        """Return a number of every cell, float64 [R, C]."""
        rows = [[self.cells[row, column][name] for column in self.gans] for row in self.classifiers]
        return np.array(rows, dtype=np.float64).reshape(len(self.classifiers), len(self.gans))


class CohortTableReading(Reading):
    """Classifier cohorts on GAN cohorts, held out and in the loss."""

    groups: ClassVar[dict[PairSet, str]]  # of metrics.json

    def list_gans(self, study: Study) -> list[tuple[str, dict[str, float]]]:
        return [(entry.gans, {}) for entry in getattr(study.report, self.name)]

    def read(self, results: Results) -> Any:
        """Return a `CohortTable` for held_out and one for in_loss."""
        gans = [name for name, _ in self.list_gans(results.study)]
        sets = (PairSet.HELD_OUT, PairSet.IN_LOSS)
        return {each.value: CohortTable(gans, results.select(self.name, each)) for each in sets}

    def make_metrics(self, results: Results, content: Any) -> Metrics:
        metrics: Metrics = {group: {} for group in self.groups.values()}
        for pairs, group in self.groups.items():
            for (classifiers, gans), cell in content[pairs].cells.items():
                metrics[group].setdefault(classifiers, {})[gans] = cell[_MEAN]
        return metrics


class Chain(CohortTableReading):
    """Classifiers of every iteration on GANs of every iteration, iteration 0 first."""

    coordinates = frozenset({"row", "column", "lag"})

    def list_gans(self, study: Study) -> list[tuple[str, dict[str, float]]]:
        entries = enumerate(getattr(study.report, self.name))
        return [(entry.gans, {"column": float(column)}) for column, entry in entries]

    def list_cells(self, study: Study) -> list[Place]:
        chain = getattr(study.report, self.name)
        return [
            (
                other.gans,
                entry.classifiers,
                {"row": float(row), "column": float(column), "lag": float(column - row)},
            )
            for row, entry in enumerate(chain)
            for column, other in enumerate(chain)
            if entry.classifiers is not None
        ]


class Iterations(Chain):
    """Fool-all: one classifier of every earlier iteration is in the loss."""

    name, title, position = "iterations", "Iterations", 30
    groups: ClassVar = {
        PairSet.HELD_OUT: "held_out_detection",
        PairSet.IN_LOSS: "in_loss_detection",
    }

    def draw(self, results: Results, content: Any) -> Iterator[PageFigure]:
        yield PageFigure(self.name, draw_iterations(content[PairSet.HELD_OUT]))

    def make_metrics(self, results: Results, content: Any) -> Metrics:
        name = results.metric_names["fid"]
        cohorts = [cohort for cohort, _ in self.list_gans(results.study)]
        fid = {cohort: {name: results.quality_rows[cohort]["fid_mean"]} for cohort in cohorts}
        return super().make_metrics(results, content) | {find_metric_of(name) or "fid": fid}

    def make_plots(self, results: Results, content: Any) -> dict[str, pd.DataFrame]:
        cells = [cell for table in content.values() for cell in table.cells.values()]
        known = [cell for cell in cells if cell["detection_rate_num"] > 0]
        plot = pd.DataFrame(known, columns=list(_PLOT_COLUMNS)).rename(columns=_PLOT_COLUMNS)
        names = plot["classifier_cohort"] + " on " + plot["generator_cohort"]
        plot.insert(0, "pair", names + ", " + plot["pairs"])
        return {"iterations.csv": plot}


class Memoryless(Chain):
    """One classifier of the iteration before is in the loss."""

    name, title, position = "memoryless", "Memoryless", 40
    groups: ClassVar = {PairSet.HELD_OUT: "memoryless_held_out_detection"}


class Memory(Chain):
    """One classifier of each of the last few iterations is in the loss."""

    name, title, position = "memory", "Memory", 50
    groups: ClassVar = {PairSet.HELD_OUT: "memory_held_out_detection"}


class Architectures(CohortTableReading):
    """Whom GANs fool besides the classifier in their loss."""

    name, title, position = "architectures", "Architectures", 80
    groups: ClassVar = {PairSet.HELD_OUT: "architectures"}

    def list_cells(self, study: Study) -> list[Place]:
        entries = study.report.architectures
        return [(other.gans, entry.classifiers, {}) for entry in entries for other in entries]

    def draw(self, results: Results, content: Any) -> Iterator[PageFigure]:
        table = content[PairSet.HELD_OUT]
        names = [describe_classifiers(results.study, name) for name in table.classifiers]
        yield PageFigure(self.name, draw_architectures(table, names))


@paper_style()
def draw_iterations(table: CohortTable) -> Figure:
    """Draw the study's detection rates beside the paper's."""
    paper = TABLE_ITERATIONS
    figure, axes_ours, axes_paper = _draw_beside(table, paper, _ROW_HEIGHT_IN)
    firsts = [table.cells[row, table.gans[0]] for row in table.classifiers]
    label_cells(axes_ours, [int(cell["row"]) for cell in firsts], range(len(table.gans)))
    axes_ours.set_ylabel("GAN-classifiers of iteration", y=1.0, ha="right")
    label_cells(axes_paper, range(len(paper.names)), range(len(paper.names)))
    axes_paper.set_title("The paper: StyleGAN2, ResNet-50, FFHQ")
    for axes in (axes_ours, axes_paper):
        axes.set_xlabel("generators of iteration")
    return figure


@paper_style()
def draw_architectures(table: CohortTable, names: Sequence[str]) -> Figure:
    """Draw detection across architectures of these names beside the paper's."""
    paper = TABLE_ARCHITECTURES
    figure, axes_ours, axes_paper = _draw_beside(table, paper, _HIGH_ROW_IN)
    axes_paper.set_title("The paper: StyleGAN2, FFHQ")
    wrapped = [name.replace(" at ", "\nat ") for name in names]
    # as many lines on both sides, so that the titles are at one height
    lines = "\n" if any("\n" in name for name in wrapped) else ""
    label_cells(axes_ours, wrapped, [name if "\n" in name else lines + name for name in wrapped])
    label_cells(axes_paper, paper.names, [lines + name for name in paper.names])
    for axes in (axes_ours, axes_paper):
        axes.set_xlabel("generators that fool a")
        axes.tick_params(labelsize=7)
    axes_ours.set_ylabel("GAN-classifiers")
    return figure


def _draw_beside(
    table: CohortTable, paper: PaperTable, row_height_in: float
) -> tuple[Figure, Axes, Axes]:
    """Draw a table and the paper's on one scale; labels are left to the caller."""
    means = table.get_array(_MEAN)
    num_rows = max(len(means), len(paper.names))
    figure = Figure(figsize=(WIDTH_IN, _FRAME_HEIGHT_IN + row_height_in * num_rows))
    ratios = [means.shape[1], len(paper.names)]
    axes_ours, axes_paper = figure.subplots(1, 2, width_ratios=ratios)
    _draw_cells(axes_ours, means, table.get_array(_STD))
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
    image = axes.imshow(means, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    for row, column in np.ndindex(means.shape):
        mean, std = float(means[row, column]), float(stds[row, column])
        text = f"{mean:.2f}" if math.isfinite(mean) else NOTHING
        text += f"\n±{std:.2f}" if math.isfinite(std) else ""
        colour = "white" if mean > _DARK_FROM else "black"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    return image
