"""GAN cohorts that fool one, two and more classifiers of a cohort."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
from matplotlib.figure import Figure

from knowledge_gaps.readings import figures
from knowledge_gaps.readings.cohorts import list_fooled
from knowledge_gaps.readings.figures import PageFigure
from knowledge_gaps.readings.phi_sweep import FoolingSweep, draw_pairs, label_distance
from knowledge_gaps.readings.reading import Results
from knowledge_gaps.readings.tables import Row
from knowledge_gaps.study import Study

_MEAN = "detection_rate_mean"


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
        yield PageFigure(self.name, _draw(content, results.metric_names["fid"]))


@figures.paper_style()
def _draw(rows: Sequence[Row], fid_name: str) -> Figure:
    """Draw detection and the Frechet distance against the number of classifiers in the loss."""
    figure = Figure(figsize=(figures.WIDTH_IN, 4.6))
    axes_rate, axes_fid = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    cells = [row["held_out"] for row in rows]
    counts = np.array([cell["t"] for cell in cells])
    for count, row in zip(counts, rows, strict=True):
        draw_pairs(axes_rate, count + figures.spread(len(row["rates"]), 0.15), row)
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
    label_distance(axes_fid, fid_name)
    axes_fid.set_xlabel("number of classifiers in the loss")
    axes_fid.set_xticks(counts)
    return figure
