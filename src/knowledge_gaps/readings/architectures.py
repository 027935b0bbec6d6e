"""Classifiers of each architecture on GANs that fool one of each (the paper's table A)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from matplotlib.figure import Figure

from knowledge_gaps.readings.cohorts import describe_classifiers
from knowledge_gaps.readings.figures import PageFigure, paper_style
from knowledge_gaps.readings.iterations import (
    CohortTable,
    CohortTableReading,
    draw_beside,
    label_cells,
)
from knowledge_gaps.readings.paper import TABLE_ARCHITECTURES
from knowledge_gaps.readings.reading import Place, Results
from knowledge_gaps.readings.tables import PairSet
from knowledge_gaps.study import Study

_ROW_HEIGHT_IN = 0.6  # of rows with names in two lines


class Architectures(CohortTableReading):
    """Whom GANs fool besides the classifier in their loss."""

    name, title, position = "architectures", "Architectures", 80
    groups: ClassVar = {PairSet.HELD_OUT: "architectures"}

    def list_gans(self, study: Study) -> list[tuple[str, dict[str, float]]]:
        return [(entry.gans, {}) for entry in study.report.architectures]

    def list_cells(self, study: Study) -> list[Place]:
        entries = study.report.architectures
        return [(other.gans, entry.classifiers, {}) for entry in entries for other in entries]

    def draw(self, results: Results, content: Any) -> Iterator[PageFigure]:
        table = content[PairSet.HELD_OUT]
        names = [describe_classifiers(results.study, name) for name in table.classifiers]
        yield PageFigure(self.name, _draw(table, names))


@paper_style()
def _draw(table: CohortTable, names: Sequence[str]) -> Figure:
    """Draw detection across architectures of these names beside the paper's."""
    paper = TABLE_ARCHITECTURES
    figure, axes_ours, axes_paper = draw_beside(table, paper, _ROW_HEIGHT_IN)
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
