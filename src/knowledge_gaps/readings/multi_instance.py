"""GAN cohorts that fool one, two and more classifiers of a cohort."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from knowledge_gaps.readings.cohorts import count_fooled
from knowledge_gaps.readings.figures import page_figure, style, sweeps
from knowledge_gaps.readings.formats import format_distance
from knowledge_gaps.readings.phi_sweep import FoolingSweep
from knowledge_gaps.readings.reading import Metrics, Results
from knowledge_gaps.readings.tables import Row
from knowledge_gaps.study import Study

_MEAN = "detection_rate_mean"


class MultiInstance(FoolingSweep):
    """Detection and quality against the number t of classifiers in the loss."""

    name, title, position = "multi_instance", "Several classifiers", 60
    axis = "t"

    def list_gans(self, study: Study) -> list[tuple[str, dict[str, float]]]:
        cohorts = study.report.multi_instance
        return [(name, {"t": float(count_fooled(study, name))}) for name in cohorts]

    def draw(self, results: Results, content: Any) -> Iterator[page_figure.PageFigure]:
        name = results.metric_names["fid"]
        yield page_figure.make_chart(
            self.name,
            draw_multi_instance(content, name),
            f"Detection rate and {format_distance(name)} against the number of classifiers in "
            "the loss.",
            "Generators trained against the first t classifiers of one cohort. Each blue dot is "
            f"one generator and one held-out classifier ({results.images}), each green dot one "
            f"generator. The larger t, the fewer classifiers are held out. {sweeps.BARS}",
            f"{page_figure.DETECTIONS_SOURCE} and {page_figure.QUALITY_SOURCE}, rows of "
            f"{', '.join(results.study.report.multi_instance)}",
        )

    def make_metrics(self, results: Results, content: Any) -> Metrics:
        rows = self.name_rows(content)
        return {
            self.name: {
                cohort: {
                    "num_classifiers": row["held_out"]["t"],
                    "in_loss_detection": row["in_loss"][_MEAN],
                    "held_out_detection": row["held_out"][_MEAN],
                }
                for cohort, row in rows.items()
            }
        }


@style.paper_style()
def draw_multi_instance(rows: Sequence[Row], fid_name: str) -> Figure:
    """Draw detection and the Frechet distance against the number of classifiers in the loss.

    Args:
        rows: as from `FoolingSweep.read`; at least one.
        fid_name: the distance's full name, for the axis.
    """
    figure = Figure(figsize=(style.WIDTH_IN, 4.6))
    axes_rate, axes_fid = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    cells = [row["held_out"] for row in rows]
    counts = np.array([cell["t"] for cell in cells])
    for count, row in zip(counts, rows, strict=True):
        places = count + sweeps.spread(len(row["rates"]), 0.15)
        axes_rate.scatter(places, row["rates"], s=16, color=style.BLUE, alpha=0.45, linewidths=0)
        axes_fid.scatter([count] * len(row["fid"]), row["fid"], s=16, color=style.GREEN, alpha=0.6)
    in_loss = [row["in_loss"][_MEAN] for row in rows]
    lines = (
        ("held-out classifiers (dots: pairs)", style.BLUE, "-", [cell[_MEAN] for cell in cells]),
        ("classifiers in the loss", style.ORANGE, "--", in_loss),
        ("AUC of held-out classifiers", style.GREY, ":", [cell["auc_mean"] for cell in cells]),
    )
    for label, colour, dashes, means in lines:
        axes_rate.plot(counts, means, color=colour, linestyle=dashes, marker="s", ms=4, label=label)
    figure.legend(*axes_rate.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    sweeps.draw_intervals(axes_rate, cells, "t")
    axes_rate.set_ylim(*sweeps.RATE_LIMITS)
    axes_rate.set_ylabel("detection rate or AUC")
    axes_rate.set_title("Detection by classifiers in the loss and by held-out ones of their cohort")
    axes_fid.plot(counts, [row["quality"]["fid_mean"] for row in rows], color=style.GREEN)
    sweeps.label_distance(axes_fid, fid_name)
    axes_fid.set_xlabel("number of classifiers in the loss")
    axes_fid.set_xticks(counts)
    return figure


READINGS = (MultiInstance(),)
