"""Classifiers on generators held out from them, by what they were trained on: how many generators,
or latents of which truncation.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from knowledge_gaps.readings import figures
from knowledge_gaps.readings.cohorts import describe_classifiers, has_styles
from knowledge_gaps.readings.figures import PageFigure
from knowledge_gaps.readings.reading import Metrics, Place, Reading, Results
from knowledge_gaps.readings.tables import PairSet, Row, select_pairs, summarise
from knowledge_gaps.study import ClassifierSweep, Kind, Study
from knowledge_gaps.study.graph import split_detected

IS_COMMON = "is_common"  # no classifier cohort of the sweep was trained on this generator

_PLOT_COLUMNS = [  # of plots/generalisation.csv, a row per held-out pair
    "num_generators",
    "classifier_cohort",
    "classifier_instance",
    "generator_chain",  # which is the classifier's too
    "generator_instance",
    "detection_rate",
    "auc",
    IS_COMMON,
]
_TITLE = "Detection of generators that the classifier was not trained on"
_MAX_PANELS = 3  # in a row
_DOT_LABELS = {
    True: "generator that no dot's classifier was trained on",
    False: "generator that a classifier of another n was trained on",
}


class DetectingSweep(Reading, ABC):
    """Classifier cohorts along an axis, on the GAN cohort that they were trained on."""

    axis: str
    metric: str  # the axis in metrics.json

    def list_sweeps(self, study: Study) -> list[ClassifierSweep]:
        """List the sweeps; a classifier cohort is in one of them at most."""
        return list(getattr(study.report, self.name))

    @abstractmethod
    def get_value(self, study: Study, gans: str, classifiers: str) -> float:
        """Return the place of a classifier cohort on the axis."""

    @abstractmethod
    def label_axis(self, study: Study) -> str:
        """Name the axis for a reader."""

    def list_gans(self, study: Study) -> list[tuple[str, dict[str, float]]]:
        return [(name, {}) for name in dict.fromkeys(s.gans for s in self.list_sweeps(study))]

    def list_cells(self, study: Study) -> list[Place]:
        """List the cohorts of each sweep, sorted by their places."""
        return [
            (sweep.gans, name, {self.axis: value})
            for sweep in self.list_sweeps(study)
            for value, name in sorted(
                (self.get_value(study, sweep.gans, name), name) for name in sweep.classifiers
            )
        ]

    def read(self, results: Results) -> Any:
        """Return for each sweep a row per classifier cohort.

        held_out and in_training are cells, common sums up the held-out pairs with generators that
        no cohort of the sweep was trained on, accuracy is of all instances, and pairs has the
        single held-out pairs.
        """
        return [self._read_sweep(results, sweep) for sweep in self.list_sweeps(results.study)]

    def _read_sweep(self, results: Results, sweep: ClassifierSweep) -> list[Row]:
        rows = results.detections[results.detections["classifier_cohort"].isin(sweep.classifiers)]
        trained_on = select_pairs(rows, PairSet.IN_TRAINING, sweep.gans)["generator_instance"]
        sets = (PairSet.HELD_OUT, PairSet.IN_TRAINING)
        cells = zip(*(results.select(self.name, each) for each in sets), strict=True)
        read: list[Row] = []
        for held_out, in_training in cells:
            if (name := held_out["classifier_cohort"]) in sweep.classifiers:
                pairs = select_pairs(rows, PairSet.HELD_OUT, sweep.gans, name)
                pairs = pairs.assign(**{IS_COMMON: ~pairs["generator_instance"].isin(trained_on)})
                row = {
                    "held_out": held_out,
                    "in_training": in_training,
                    "common": summarise(pairs.loc[pairs[IS_COMMON], "detection_rate"], "rate"),
                    "accuracy": results.accuracy_rows[name],
                    "pairs": pairs,
                }
                read.append(row)
        return read

    def draw(self, results: Results, content: Any) -> Iterator[PageFigure]:
        sweeps = _title_sweeps(results.study, content)
        figure = draw_detecting(sweeps, self.axis, self.label_axis(results.study))
        yield PageFigure(self.name, figure)

    def make_metrics(self, results: Results, content: Any) -> Metrics:
        rates = {}
        for cell in (row["held_out"] for rows in content for row in rows):
            rate = cell["detection_rate_mean"]
            numbers = {self.metric: cell[self.axis], "held_out_detection": rate}
            rates[cell["classifier_cohort"]] = numbers
        return {self.name: rates}


class Generalisation(DetectingSweep):
    """Detection of held-out generators against the number n of generators trained on."""

    name, title, position = "generalisation", "Generalisation", 10
    axis, coordinates = "n", frozenset({"n"})
    metric = "num_generators"

    def get_value(self, study: Study, gans: str, classifiers: str) -> float:
        """Count the generators of the pool, without those that only decide when training stops."""
        trained_on, _ = split_detected(study, classifiers)
        return float(sum(member == f"{Kind.GANS}/{gans}" for member, _ in trained_on))

    def label_axis(self, study: Study) -> str:
        return "number of generators that the classifier was trained on"

    def make_plots(self, results: Results, content: Any) -> dict[str, pd.DataFrame]:
        plots = [pd.DataFrame(columns=_PLOT_COLUMNS)]
        for row in (row for rows in content for row in rows):
            table = row["pairs"].assign(num_generators=row["held_out"][self.axis])
            table[IS_COMMON] = table[IS_COMMON].map({True: "true", False: "false"})
            plots.append(table[_PLOT_COLUMNS])
        return {"generalisation.csv": pd.concat(plots[1:] or plots)}


class Truncation(DetectingSweep):
    """Detection of untruncated images against the truncation psi in training."""

    name, title, position = "truncation", "Truncation", 90
    axis, coordinates = "psi", frozenset({"psi"})
    metric = "truncation"

    def list_sweeps(self, study: Study) -> list[ClassifierSweep]:
        return [] if study.report.truncation is None else [study.report.truncation]

    def get_value(self, study: Study, gans: str, classifiers: str) -> float:
        return study.classifiers[classifiers].truncation

    def label_axis(self, study: Study) -> str:
        factor = "standard deviation of the latents"
        if has_styles(study):
            factor = "psi, share of the styles' distance from their mean,"
        return f"truncation: {factor} in the classifiers' training"


def _title_sweeps(study: Study, sweeps: Sequence[list[Row]]) -> dict[str, Sequence[Row]]:
    """Title several sweeps by their architecture, and by their first cohort where two share it."""
    if len(sweeps) == 1:
        return {_TITLE: sweeps[0]}
    firsts = [rows[0]["held_out"]["classifier_cohort"] for rows in sweeps]
    titles = [describe_classifiers(study, first) for first in firsts]
    return {
        title if titles.count(title) == 1 else f"{title}, {first}": rows
        for title, first, rows in zip(titles, firsts, sweeps, strict=True)
    }


@figures.paper_style()
def draw_detecting(sweeps: Mapping[str, Sequence[Row]], axis: str, label: str) -> Figure:
    """Draw detection along a coordinate: a panel for each sweep by title, on one scale of rates."""
    num_columns = math.ceil(len(sweeps) / math.ceil(len(sweeps) / _MAX_PANELS))
    heights_in = (3.4, 0.0) if len(sweeps) == 1 else (2.7, 0.5)
    figure, panels = figures.make_panels(len(sweeps), num_columns, *heights_in, sharey=True)
    for axes, (title, rows) in zip(panels, sweeps.items(), strict=True):
        _draw_panel(axes, rows, axis)
        axes.set_title(title)
    if len(sweeps) == 1:
        panels[0].set_xlabel(label)
        panels[0].legend(loc="best")
    else:
        figure.supxlabel(label, fontsize=9)
        figures.draw_legend(figure, num_columns=1)
    panels[0].set_ylabel(figures.RATE_LABEL)
    _set_rate_limits(panels[0], [row for rows in sweeps.values() for row in rows])
    return figure


def _draw_panel(axes: Axes, rows: Sequence[Row], axis: str) -> None:
    cells = [row["held_out"] for row in rows]
    values = [cell[axis] for cell in cells]
    step = min(np.diff(sorted(set(values))), default=1.0)
    figures.draw_intervals(axes, cells, axis)
    means = [cell["detection_rate_mean"] for cell in cells]
    axes.plot(
        values, means, color=figures.BLUE, marker="_", markersize=18, label="mean of all dots"
    )
    pairs = pd.concat(
        row["pairs"].assign(x=value + figures.spread(len(row["pairs"]), 0.12 * step))
        for value, row in zip(values, rows, strict=True)
    )
    for is_common, label in _DOT_LABELS.items():
        dots = pairs[pairs[IS_COMMON] == is_common]
        if not dots.empty:
            x, y, face = dots["x"], dots["detection_rate"], figures.BLUE if is_common else "white"
            axes.scatter(x, y, s=22, color=face, edgecolors=figures.BLUE, label=label, zorder=3)
    axes.set_xticks(sorted(set(values)))
    axes.set_xlim(min(values) - 0.4 * step, max(values) + 0.4 * step)


def _set_rate_limits(axes: Axes, rows: Sequence[Row]) -> None:
    """Show the whole range, or only what is needed of its upper half when all rates lie there."""
    rates = [rate for row in rows for rate in row["pairs"]["detection_rate"] if math.isfinite(rate)]
    lowest = min(rates, default=0.0)
    low = math.floor(10 * lowest - 0.2) / 10
    axes.set_ylim(*(figures.RATE_LIMITS if lowest < 0.5 else (low, 1.0 + 0.04 * (1.0 - low))))
