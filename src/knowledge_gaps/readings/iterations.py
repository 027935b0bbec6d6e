"""Iterations of GANs and classifiers that are trained against one another (the paper's table C):
fool-all, memoryless, and with a memory of some iterations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from knowledge_gaps.readings.figures.heat import FloatArray, draw_beside, label_cells
from knowledge_gaps.readings.figures.page_figure import DETECTIONS_SOURCE, PageFigure, make_chart
from knowledge_gaps.readings.figures.style import paper_style
from knowledge_gaps.readings.pairs import PairSet
from knowledge_gaps.readings.paper import TABLE_ITERATIONS, PaperTable
from knowledge_gaps.readings.reading import Metrics, Place, Reading, Results
from knowledge_gaps.readings.tables import Row
from knowledge_gaps.statistics.measures import find_metric_of
from knowledge_gaps.study import Study

_ROW_HEIGHT_IN = 0.46
_MEAN, _STD = "detection_rate_mean", "detection_rate_std"
_PLOT_COLUMNS = {  # column of plots/iterations.csv: of a cell
    "pairs": "pairs",
    "classifier_iteration": "row",
    "classifier_cohort": "classifier_cohort",
    "generator_iteration": "column",
    "generator_cohort": "generator_cohort",
    "detection_rate": _MEAN,
    "detection_rate_std": _STD,
    "auc": "auc_mean",
    "num_pairs": "detection_rate_num",
}


class CohortTable:
    """Cells of classifier cohorts (rows) on GAN cohorts (columns).

    Attributes:
        classifiers: names of the rows.
        gans: names of the columns.
        cells: by (classifier cohort, GAN cohort).
    """

    def __init__(self, gans: list[str], cells: list[Row]) -> None:
        self.gans = gans
        self.cells = {(cell["classifier_cohort"], cell["generator_cohort"]): cell for cell in cells}
        self.classifiers = list(dict.fromkeys(classifiers for classifiers, _ in self.cells))

    def get_array(self, name: str) -> FloatArray:
        """Return a number of every cell, float64 [R, C]."""
        rows = [[self.cells[row, column][name] for column in self.gans] for row in self.classifiers]
        return np.array(rows, dtype=np.float64).reshape(len(self.classifiers), len(self.gans))

    def list_rates(self) -> Metrics:
        """List detection rates as {classifier cohort: {GAN cohort: mean}}."""
        return {
            row: {column: self.cells[row, column][_MEAN] for column in self.gans}
            for row in self.classifiers
        }


class Chain(Reading):
    """Classifiers of every iteration on GANs of every iteration, iteration 0 first."""

    groups: ClassVar[dict[PairSet, str]]  # of metrics.json

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

    def read(self, results: Results) -> Any:
        """Return a `CohortTable` for held_out and one for in_loss."""
        gans = [name for name, _ in self.list_gans(results.study)]
        sets = (PairSet.HELD_OUT, PairSet.IN_LOSS)
        return {each.value: CohortTable(gans, results.select(self.name, each)) for each in sets}

    def make_metrics(self, results: Results, content: Any) -> Metrics:
        return {group: content[pairs].list_rates() for pairs, group in self.groups.items()}


class Iterations(Chain):
    """Fool-all: one classifier of every earlier iteration is in the loss."""

    name, title, position = "iterations", "Iterations", 30
    groups: ClassVar = {
        PairSet.HELD_OUT: "held_out_detection",
        PairSet.IN_LOSS: "in_loss_detection",
    }

    def draw(self, results: Results, content: Any) -> Iterator[PageFigure]:
        yield make_chart(
            self.name,
            draw_iterations(content[PairSet.HELD_OUT]),
            "Two coloured tables of detection rates, this study's and the paper's.",
            "Detection rate by iteration, this study beside the paper. Here: mean ± sample std "
            "over pairs of held-out generator and held-out classifier, which is a spread and no "
            f"interval (the table below has those); {results.images}.",
            f"{DETECTIONS_SOURCE}, rows of these cohorts with in_loss = false and "
            "in_training = false; the paper's table as printed",
        )

    def make_metrics(self, results: Results, content: Any) -> Metrics:
        name = results.metric_names["fid"]
        cohorts = [cohort for cohort, _ in self.list_gans(results.study)]
        fid = {cohort: {name: results.quality_rows[cohort]["fid_mean"]} for cohort in cohorts}
        return super().make_metrics(results, content) | {find_metric_of(name) or "fid": fid}

    def make_plots(self, results: Results, content: Any) -> dict[str, pd.DataFrame]:
        sets = (PairSet.HELD_OUT, PairSet.IN_LOSS)
        cells = [cell for pairs in sets for cell in results.select(self.name, pairs)]
        rows = [
            (_name_cell(cell), *(cell[name] for name in _PLOT_COLUMNS.values()))
            for cell in cells
            if cell["detection_rate_num"] > 0
        ]
        return {"iterations.csv": pd.DataFrame(rows, columns=["pair", *_PLOT_COLUMNS])}


class Memoryless(Chain):
    """One classifier of the iteration before is in the loss."""

    name, title, position = "memoryless", "Memoryless", 40
    groups: ClassVar = {PairSet.HELD_OUT: "memoryless_held_out_detection"}


class Memory(Chain):
    """One classifier of each of the last few iterations is in the loss."""

    name, title, position = "memory", "Memory", 50
    groups: ClassVar = {PairSet.HELD_OUT: "memory_held_out_detection"}


@paper_style()
def draw_iterations(table: CohortTable, paper: PaperTable = TABLE_ITERATIONS) -> Figure:
    """Draw the study's detection rates beside the paper's."""
    means, stds = table.get_array(_MEAN), table.get_array(_STD)
    figure, axes_ours, axes_paper = draw_beside(means, stds, paper, _ROW_HEIGHT_IN)
    firsts = [table.cells[row, table.gans[0]] for row in table.classifiers]
    label_cells(axes_ours, [int(cell["row"]) for cell in firsts], range(len(table.gans)))
    axes_ours.set_ylabel("GAN-classifiers of iteration", y=1.0, ha="right")
    label_cells(axes_paper, range(len(paper.rows)), range(len(paper.columns)))
    axes_paper.set_title("The paper: StyleGAN2, ResNet-50, FFHQ")
    for axes in (axes_ours, axes_paper):
        axes.set_xlabel("generators of iteration")
    return figure


def _name_cell(cell: Row) -> str:
    return f"{cell['classifier_cohort']} on {cell['generator_cohort']}, {cell['pairs']}"


READINGS = (Iterations(), Memoryless(), Memory())
