"""Every figure of the analyses that a study has results for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from knowledge_gaps.analyses.agreement import figure as agreement
from knowledge_gaps.analyses.attributions import figure as attributions
from knowledge_gaps.analyses.spectra import figure as spectra
from knowledge_gaps.readings.figures.page_figure import PageFigure
from knowledge_gaps.readings.mutual_fooling import order_by_cluster
from knowledge_gaps.report.evidence import Evidence
from knowledge_gaps.study import Study


def draw_evidence(study: Study, mutual: Any, evidence: Evidence) -> Iterator[PageFigure]:
    """Draw every figure that the study has evidence for."""
    fooling = mutual["fooling"]
    if fooling is not None:
        order = order_by_cluster(fooling, mutual["clusters"])
        yield from agreement.draw(evidence.agreement, fooling, order)
    yield from spectra.draw(study, evidence.spectra)
    if evidence.attributions is not None:
        yield from attributions.draw(evidence.attributions, evidence.spectra.has_colours)
