"""GAN cohorts that fool frozen classifiers: with a growing weight phi, or more and more of them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from knowledge_gaps.core.layout import PREPARED, TEST_IMAGES
from knowledge_gaps.data.store import open_images
from knowledge_gaps.readings import figures
from knowledge_gaps.readings.cohorts import Classes, find_baseline, find_classes, list_fooled
from knowledge_gaps.readings.figures import PageFigure
from knowledge_gaps.readings.formats import format_distance, format_phi
from knowledge_gaps.readings.reading import Metrics, Place, Reading, Results
from knowledge_gaps.readings.tables import PairSet, Row, select_pairs
from knowledge_gaps.statistics.measures import find_metric_of
from knowledge_gaps.study import Study
from knowledge_gaps.study.graph import list_instances

_LOG_FROM_RATIO = 20.0  # an axis whose values span more than this factor is logarithmic
_ENTROPY_ROOM = 0.3  # nats above the largest class entropy, for its line to be seen
_NUM_SAMPLED = 2  # generators that share a row of the samples
_MEAN = "detection_rate_mean"
_PLOT_COLUMNS = {  # part of a row with the name there, and in plots/phi_sweep.csv
    "held_out.phi": "phi",
    "held_out.generator_cohort": "generator_cohort",
    "in_loss.detection_rate_mean": "detection_in_loss",
    "held_out.detection_rate_mean": "detection_held_out",
    "held_out.detection_rate_std": "detection_held_out_std",
    "held_out.detection_rate_min": "detection_held_out_min",
    "held_out.detection_rate_max": "detection_held_out_max",
    "held_out.auc_mean": "auc_held_out",
    "held_out.detection_rate_num": "num_pairs",
    "held_out.real_accuracy_mean": "real_accuracy",
    "quality.fid_mean": "fid",
    "quality.precision_mean": "precision",
    "quality.recall_mean": "recall",
    "quality.class_entropy_mean": "class_entropy",
}


class FoolingSweep(Reading, ABC):
    """GAN cohorts along an axis, and the classifier cohorts that any of them is trained to fool."""

    axis: str
    metrics: ClassVar[dict[str, tuple[str, str]]]  # of a row in metrics.json: part, and name there

    @abstractmethod
    def get_value(self, study: Study, gans: str) -> float:
        """Return the place of a GAN cohort on the axis."""

    def list_gans(self, study: Study) -> list[tuple[str, dict[str, float]]]:
        """List the cohorts sorted by their places."""
        placed = sorted((self.get_value(study, name), name) for name, _ in super().list_gans(study))
        return [(name, {self.axis: value}) for value, name in placed]

    def read(self, results: Results) -> Any:
        """Return a row per GAN cohort: its cells and quality.

        held_out and in_loss are cells, quality of `summarise_quality`; rates are the detection
        rates of single held-out pairs, fid and class_entropy those of single instances.
        """
        cells = (results.select(self.name, pairs) for pairs in (PairSet.HELD_OUT, PairSet.IN_LOSS))
        return [self._make_row(results, *pair) for pair in zip(*cells, strict=True)]

    def _make_row(self, results: Results, held_out: Row, in_loss: Row) -> Row:
        gans, classifiers = held_out["generator_cohort"], held_out["classifier_cohort"]
        pairs = select_pairs(results.detections, PairSet.HELD_OUT, gans, classifiers)
        instances = results.quality[results.quality["generator_cohort"] == gans]
        return {
            "held_out": held_out,
            "in_loss": in_loss,
            "quality": results.quality_rows[gans],
            "rates": pairs["detection_rate"].tolist(),
            "fid": instances[results.metric_names["fid"]].tolist(),
            "class_entropy": instances[results.metric_names["class_entropy"]].tolist(),
        }

    def make_metrics(self, results: Results, content: Any) -> Metrics:
        """List numbers by GAN cohort, so that studies with other values can be compared."""
        rows = [row for row in content if row["held_out"][self.axis] > 0]  # no baseline
        cells = [row["held_out"] for row in rows]
        names = [cell["generator_cohort"] for cell in cells]
        if len(set(names)) < len(names):  # several classifier cohorts
            names = [f"{cell['classifier_cohort']} on {cell['generator_cohort']}" for cell in cells]
        places = {results.metric_names.get(key, key): at for key, at in self.metrics.items()}
        metrics = [{key: row[part][at] for key, (part, at) in places.items()} for row in rows]
        return {self.name: dict(zip(names, metrics, strict=True))}


class PhiSweep(FoolingSweep):
    """Detection, quality and diversity against phi; a baseline is phi 0."""

    name, title, position = "phi_sweep", "Rising phi", 20
    axis, coordinates = "phi", frozenset({"phi"})
    metrics: ClassVar = {
        "phi": ("held_out", "phi"),
        "in_loss_detection": ("in_loss", _MEAN),
        "held_out_detection": ("held_out", _MEAN),
        "held_out_detection_std": ("held_out", "detection_rate_std"),
        "fid": ("quality", "fid_mean"),
        "class_entropy": ("quality", "class_entropy_mean"),
    }

    def get_value(self, study: Study, gans: str) -> float:
        return study.gans[gans].phi

    def list_shown(self, study: Study) -> list[Place]:
        """List the cells, with the baseline's in front, which no claim about phi selects."""
        cells, baseline = self.list_cells(study), find_baseline(study)
        if baseline is None or baseline in study.report.phi_sweep:
            return cells
        fooled = dict.fromkeys(classifiers for _, classifiers, _ in cells)
        return [(baseline, name, {"phi": 0.0}) for name in fooled] + cells

    def draw(self, results: Results, content: Any) -> Iterator[PageFigure]:
        classes = find_classes(results.study)
        figure = draw_phi_sweep(content, results.metric_names["fid"], classes)
        yield PageFigure(self.name, figure)
        samples = figures.draw_image_rows(self._read_samples(results))
        yield PageFigure("phi_samples", samples, is_picture=True)

    def _read_samples(self, results: Results) -> list[figures.ImageRow]:
        reals = open_images(results.root / PREPARED / TEST_IMAGES)
        rows: list[figures.ImageRow] = [("real", [reals[: figures.count_columns(reals)]])]
        cells = results.select(self.name, PairSet.HELD_OUT)
        for cohort, phi in dict.fromkeys((cell["generator_cohort"], cell["phi"]) for cell in cells):
            label = "baseline" if phi == 0 else f"phi {format_phi(phi)}"
            instances = list_instances(results.study, results.study.gans[cohort])[:_NUM_SAMPLED]
            rows.append(figures.read_sample_row(results.root, cohort, label, instances))
        return rows

    def make_plots(self, results: Results, content: Any) -> dict[str, pd.DataFrame]:
        distance = find_metric_of(results.metric_names["fid"]) or "fid"
        rows = pd.json_normalize([row for row in content if row["held_out"]["phi"] > 0])
        plot = rows.reindex(columns=list(_PLOT_COLUMNS)).rename(columns=_PLOT_COLUMNS)
        plot.insert(1, "log10_phi", np.log10(plot["phi"].astype(float)))
        return {"phi_sweep.csv": plot.rename(columns={"fid": distance})}


class MultiInstance(FoolingSweep):
    """Detection and quality against the number t of classifiers in the loss."""

    name, title, position = "multi_instance", "Several classifiers", 60
    axis, coordinates = "t", frozenset({"t"})
    metrics: ClassVar = {
        "num_classifiers": ("held_out", "t"),
        "in_loss_detection": ("in_loss", _MEAN),
        "held_out_detection": ("held_out", _MEAN),
    }

    def get_value(self, study: Study, gans: str) -> float:
        return float(len(list_fooled(study, gans)))

    def draw(self, results: Results, content: Any) -> Iterator[PageFigure]:
        yield PageFigure(self.name, _draw_multi_instance(content, results.metric_names["fid"]))


@figures.paper_style()
def draw_phi_sweep(rows: Sequence[Row], fid_name: str, classes: Classes | None) -> Figure:
    """Draw detection, the Frechet distance and, of an extractor with classes, their entropy.

    A row of phi 0 becomes a horizontal line for reference.
    """
    metrics = ["fid"] if classes is None else ["fid", "class_entropy"]
    ratios = [2, *(1 for _ in metrics)]
    figure = Figure(figsize=(figures.WIDTH_IN, 1.6 * sum(ratios)))
    axes_rate, *others = figure.subplots(len(ratios), 1, sharex=True, height_ratios=ratios)
    swept = [row for row in rows if row["held_out"]["phi"] > 0]
    baseline = next((row for row in rows if row["held_out"]["phi"] == 0), None)
    _draw_rates(axes_rate, swept, baseline)
    # the rates may lie anywhere in their panel, so the legend is above it
    figures.draw_legend(figure, num_columns=3)
    for axes, metric in zip(others, metrics, strict=True):
        _draw_metric(axes, swept, metric)
        if metric == "fid":
            _label_distance(axes, fid_name)
        elif classes is not None:
            _frame_entropy(axes, classes)
        if baseline is not None and math.isfinite(baseline["quality"][f"{metric}_mean"]):
            _draw_reference(axes, baseline["quality"][f"{metric}_mean"], "baseline (phi = 0)")
            axes.legend(loc="best")
    others[-1].set_xlabel("phi, weight of the fooling term (no unit, logarithmic)")
    if swept:
        axes_rate.set_xscale("log")
    return figure


@figures.paper_style()
def _draw_multi_instance(rows: Sequence[Row], fid_name: str) -> Figure:
    """Draw detection and the Frechet distance against the number of classifiers in the loss."""
    figure = Figure(figsize=(figures.WIDTH_IN, 4.6))
    axes_rate, axes_fid = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    cells = [row["held_out"] for row in rows]
    counts = np.array([cell["t"] for cell in cells])
    for count, row in zip(counts, rows, strict=True):
        _draw_pairs(axes_rate, count + figures.spread(len(row["rates"]), 0.15), row)
        places = [count] * len(row["fid"])
        axes_fid.scatter(places, row["fid"], s=16, color=figures.GREEN, alpha=0.6)
    in_loss = [row["in_loss"][_MEAN] for row in rows]
    lines = (
        ("held-out classifiers (dots: pairs)", figures.BLUE, "-", [cell[_MEAN] for cell in cells]),
        ("classifiers in the loss", figures.ORANGE, "--", in_loss),
        ("AUC of held-out classifiers", figures.GREY, ":", [cell["auc_mean"] for cell in cells]),
    )
    for label, colour, dashes, means in lines:
        axes_rate.plot(counts, means, color=colour, linestyle=dashes, marker="s", ms=4, label=label)
    figures.draw_legend(figure, num_columns=3)
    figures.draw_intervals(axes_rate, cells, "t")
    axes_rate.set_ylim(*figures.RATE_LIMITS)
    axes_rate.set_ylabel("detection rate or AUC")
    axes_rate.set_title("Detection by classifiers in the loss and by held-out ones of their cohort")
    axes_fid.plot(counts, [row["quality"]["fid_mean"] for row in rows], color=figures.GREEN)
    _label_distance(axes_fid, fid_name)
    axes_fid.set_xlabel("number of classifiers in the loss")
    axes_fid.set_xticks(counts)
    return figure


def _draw_pairs(axes: Axes, places: npt.NDArray[np.float64], row: Row) -> None:
    """Draw the detection rate of every held-out pair of a row."""
    axes.scatter(places, row["rates"], s=16, color=figures.BLUE, alpha=0.45, linewidths=0)


def _label_distance(axes: Axes, name: str) -> None:
    """Name the axis of a Frechet distance, whose full name is its protocol."""
    axes.set_ylabel(f"{format_distance(name)}, no unit\n({name})")
    axes.set_title("Distance of the generated images from reals")


def _draw_rates(axes: Axes, rows: Sequence[Row], baseline: Row | None) -> None:
    phis = np.array([row["held_out"]["phi"] for row in rows])
    for phi, row in zip(phis, rows, strict=True):
        _draw_pairs(axes, phi * 10.0 ** figures.spread(len(row["rates"]), 0.12), row)
    figures.draw_intervals(axes, [row["held_out"] for row in rows], "phi")
    held_out, in_loss = ([row[part][_MEAN] for row in rows] for part in ("held_out", "in_loss"))
    label = "held-out classifiers (dots: pairs)"
    axes.plot(phis, held_out, color=figures.BLUE, marker="_", markersize=14, label=label)
    label = "classifier in the loss"
    axes.plot(phis, in_loss, color=figures.ORANGE, marker="s", ms=5, ls="--", label=label)
    if baseline is not None:
        label = "baseline (phi = 0), held-out classifiers"
        _draw_reference(axes, baseline["held_out"][_MEAN], label)
    axes.set_ylim(*figures.RATE_LIMITS)
    axes.set_ylabel(figures.RATE_LABEL)
    axes.set_title(
        "Detection by the classifier in the loss and by held-out instances of its cohort"
    )


def _draw_metric(axes: Axes, rows: Sequence[Row], metric: str) -> None:
    phis = np.array([row["held_out"]["phi"] for row in rows])
    for phi, row in zip(phis, rows, strict=True):
        places = [phi] * len(row[metric])
        axes.scatter(places, row[metric], s=16, color=figures.GREEN, alpha=0.6, linewidths=0)
    axes.plot(phis, [row["quality"][f"{metric}_mean"] for row in rows], color=figures.GREEN)
    values = [value for row in rows for value in row[metric] if value > 0]
    if metric == "fid" and values and max(values) / min(values) > _LOG_FROM_RATIO:
        axes.set_yscale("log")


def _frame_entropy(axes: Axes, classes: Classes) -> None:
    """Mark the largest class entropy where it is known, and show the whole range up to it."""
    title = f"Diversity: entropy of {classes.words}"
    if classes.num is None:
        axes.set_ylim(bottom=-0.1)
    else:
        largest = math.log(classes.num)
        axes.axhline(largest, color=figures.GREY, linewidth=0.8, linestyle=(0, (1, 2)))
        axes.set_ylim(-0.1, round(largest + _ENTROPY_ROOM, 1))
        title += f" (dotted: ln {classes.num:,}, all equal)"
    axes.set_ylabel("class entropy\n(nats)")
    axes.set_title(title)


def _draw_reference(axes: Axes, value: float, label: str) -> None:
    if math.isfinite(value):
        axes.axhline(value, color=figures.GREY, linewidth=1.1, linestyle=(0, (5, 2)), label=label)
