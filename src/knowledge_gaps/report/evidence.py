"""What the analyses found, with their figures: whether the numbers can be trusted, what artifacts
are, and how alike classifiers are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knowledge_gaps.analyses.agreement import reading as agreement
from knowledge_gaps.analyses.attributions import reading as attributions
from knowledge_gaps.analyses.audit import reading as audit
from knowledge_gaps.analyses.spectra import reading as spectra
from knowledge_gaps.readings.figures.page_figure import PageFigure
from knowledge_gaps.readings.mutual_fooling import MutualFooling, order_by_cluster
from knowledge_gaps.readings.samples import list_table_cohorts
from knowledge_gaps.study import Study

_MAX_COHORTS = 8  # that a figure of spectra tells apart
_NUM_PHIS = 3  # of the sweep, from its smallest to its largest


@dataclass(frozen=True)
class Evidence:
    """What was measured on images and classifiers beside detection and quality.

    Attributes:
        audit: whether detection rates may be taken for what images show.
        spectra: of the reals and of some GAN cohorts, and of their residuals.
        attributions: None when no GAN of the iterations fools.
        compared: classifiers of one cohort with one another, and with mutual fooling.
    """

    audit: audit.Audit
    spectra: spectra.SpectraReading
    attributions: attributions.AttributionReading | None
    compared: Mapping[str, agreement.Agreement]


def read_evidence(root: Path, study: Study, fooling: MutualFooling | None) -> Evidence:
    """Read what the stages of analyses wrote below a root.

    Raises:
        UserError: when a file is missing or malformed.
    """
    return Evidence(
        audit=audit.read(root),
        spectra=spectra.read(root, choose_cohorts(study)),
        attributions=attributions.read(root),
        compared=agreement.read(root, fooling),
    )


def draw_evidence(
    study: Study, mutual: Mapping[str, Any], evidence: Evidence
) -> Iterator[PageFigure]:
    """Draw every figure that the study has evidence for.

    Args:
        study: what was run.
        mutual: as of the reading of mutual fooling.
        evidence: of the study.
    """
    if mutual["fooling"] is not None:
        order = order_by_cluster(mutual["fooling"], mutual["clusters"])
        yield from agreement.draw(evidence.compared, mutual["fooling"], order)
    yield from spectra.draw(study, evidence.spectra)
    if evidence.attributions is not None:
        yield from attributions.draw(evidence.attributions, evidence.spectra.has_colours)


def choose_cohorts(study: Study) -> list[str]:
    """Choose the GAN cohorts whose spectra are shown: of the tables, then some of the phi sweep."""
    phis = sorted(study.report.phi_sweep, key=lambda cohort: study.gans[cohort].phi)
    if len(phis) > _NUM_PHIS:
        phis = [phis[0], phis[len(phis) // 2], phis[-1]]
    chosen = list_table_cohorts(study)[: _MAX_COHORTS - len(phis)]
    return list(dict.fromkeys([*chosen, *phis])) or list(study.gans)[:_MAX_COHORTS]
