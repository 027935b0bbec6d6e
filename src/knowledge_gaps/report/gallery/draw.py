"""Every figure of a study, in the order of the page."""

from __future__ import annotations

from pathlib import Path

from knowledge_gaps.readings.figures.page_figure import PageFigure
from knowledge_gaps.report.content import Content
from knowledge_gaps.report.gallery.charts import draw_charts, draw_curves
from knowledge_gaps.report.gallery.evidence import draw_evidence
from knowledge_gaps.report.gallery.pictures import draw_pictures
from knowledge_gaps.study import Study


def draw_gallery(root: Path, study: Study, content: Content) -> dict[str, PageFigure]:
    """Draw every figure that a report has content for, by name.

    Args:
        root: the images are read from the folders below it.
        study: names the cohorts.
        content: of its report.
    """
    figures = [
        *draw_charts(study, content.readings),
        *draw_evidence(root, study, content.readings, content.evidence),
        *draw_pictures(root, study, content.readings),
        *draw_curves(study, content.curves),
    ]
    return {figure.name: figure for figure in figures}
