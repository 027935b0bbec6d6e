"""Classifiers of each architecture on GANs that fool one of each (the paper's table A)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from matplotlib.figure import Figure

from knowledge_gaps.readings.figures.heat import draw_beside, label_cells
from knowledge_gaps.readings.figures.page_figure import DETECTIONS_SOURCE, PageFigure, make_chart
from knowledge_gaps.readings.figures.style import paper_style
from knowledge_gaps.readings.iterations import CohortTable
from knowledge_gaps.readings.pairs import PairSet
from knowledge_gaps.readings.paper import TABLE_ARCHITECTURES, PaperTable
from knowledge_gaps.readings.reading import Metrics, Place, Reading, Results
from knowledge_gaps.readings.words import describe_classifiers
from knowledge_gaps.study import Study

_ROW_HEIGHT_IN = 0.6  # of rows with names in two lines


class Architectures(Reading):
    """Whom GANs fool besides the classifier in their loss."""

    name, title, position = "architectures", "Architectures", 80

    def list_gans(self, study: Study) -> list[tuple[str, dict[str, float]]]:
        return [(entry.gans, {}) for entry in study.report.architectures]

    def list_cells(self, study: Study) -> list[Place]:
        entries = study.report.architectures
        return [(other.gans, entry.classifiers, {}) for entry in entries for other in entries]

    def read(self, results: Results) -> Any:
        """Return a `CohortTable` for held_out and one for in_loss."""
        gans = [entry.gans for entry in results.study.report.architectures]
        sets = (PairSet.HELD_OUT, PairSet.IN_LOSS)
        return {each.value: CohortTable(gans, results.select(self.name, each)) for each in sets}

    def draw(self, results: Results, content: Any) -> Iterator[PageFigure]:
        table = content[PairSet.HELD_OUT]
        names = [describe_classifiers(results.study, name) for name in table.classifiers]
        yield make_chart(
            self.name,
            draw_architectures(table, names),
            "Two coloured tables of detection rates by architecture, this study's and the paper's.",
            "Detection by held-out classifiers of each architecture (rows) of GANs that were "
            "trained to fool a classifier of one (columns). Mean ± sample std over pairs; the "
            f"instance in the loss is left out of the diagonal; {results.images}.",
            f"{DETECTIONS_SOURCE}, rows of these cohorts with in_loss = false and "
            "in_training = false; the paper's table as printed",
        )

    def make_metrics(self, results: Results, content: Any) -> Metrics:
        return {self.name: content[PairSet.HELD_OUT].list_rates()}


@paper_style()
def draw_architectures(
    table: CohortTable, names: Sequence[str], paper: PaperTable = TABLE_ARCHITECTURES
) -> Figure:
    """Draw detection across architectures beside the paper's.

    Args:
        table: the study's cells, on the left.
        names: of the architectures, as many as the table has rows, and columns.
        paper: the paper's table, on the right.
    """
    means, stds = (table.get_array(f"detection_rate_{name}") for name in ("mean", "std"))
    figure, axes_ours, axes_paper = draw_beside(means, stds, paper, _ROW_HEIGHT_IN)
    axes_paper.set_title("The paper: StyleGAN2, FFHQ")
    wrapped = [name.replace(" at ", "\nat ") for name in names]
    # as many lines on both sides, so that the titles are at one height
    lines = "\n" if any("\n" in name for name in wrapped) else ""
    label_cells(axes_ours, wrapped, [name if "\n" in name else lines + name for name in wrapped])
    label_cells(axes_paper, paper.rows, [lines + name for name in paper.columns])
    for axes in (axes_ours, axes_paper):
        axes.set_xlabel("generators that fool a")
        axes.tick_params(labelsize=7)
    axes_ours.set_ylabel("GAN-classifiers")
    return figure


READINGS = (Architectures(),)
