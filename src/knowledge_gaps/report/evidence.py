"""All that the report reads beside the two tables: what artifacts are, and what may be trusted.

Each kind has its own reader in this folder; here they are brought together for a study.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from knowledge_gaps.analyses.agreement.reading import (
    Agreement,
    FoolingComparison,
    compare_with_fooling,
    make_agreement,
    read_agreement,
)
from knowledge_gaps.analyses.artifacts import (
    AttributionReading,
    ResidualReading,
    SpectraReading,
    read_attributions,
    read_residuals,
    read_spectra,
)
from knowledge_gaps.analyses.audit.reading import Audit, read_audit
from knowledge_gaps.core.layout import (
    AGREEMENT_FILE,
    AUDIT_FILE,
    get_reports_directory,
)
from knowledge_gaps.readings.mutual_fooling import MutualFooling
from knowledge_gaps.readings.samples import list_table_cohorts
from knowledge_gaps.statistics.agreement import FOOLING, FOOLING_OTHERS, HELD_OUT
from knowledge_gaps.study import Study

_MAX_COHORTS = 8  # that a figure of spectra tells apart
_NUM_PHIS = 3  # of the sweep, from its smallest to its largest


@dataclass(frozen=True)
class Evidence:
    """What was measured on images and classifiers beside detection and quality.

    Attributes:
        audit: whether detection rates may be taken for what images show.
        spectra: of the reals and of some GAN cohorts.
        residuals: as spectra.
        attributions: None when no GAN of the iterations fools.
        agreement: of one classifier cohort, by the images that its pairs were compared on.
        comparisons: of mutual fooling with agreement, by the same images; empty without the former.
    """

    audit: Audit
    spectra: SpectraReading
    residuals: ResidualReading
    attributions: AttributionReading | None
    agreement: Mapping[str, Agreement]
    comparisons: Mapping[str, FoolingComparison]


def read_evidence(root: Path, study: Study, fooling: MutualFooling | None) -> Evidence:
    """Read what the stages beside detections and quality wrote below a root.

    Raises:
        UserError: when a file is missing or malformed.
    """
    reports = get_reports_directory(root)
    cohorts = choose_cohorts(study)
    table = read_agreement(reports / AGREEMENT_FILE)
    found = {kind: make_agreement(table, kind) for kind in (HELD_OUT, FOOLING, FOOLING_OTHERS)}
    agreement = {kind: reading for kind, reading in found.items() if reading is not None}
    return Evidence(
        audit=read_audit(reports / AUDIT_FILE),
        spectra=read_spectra(root, cohorts),
        residuals=read_residuals(root, cohorts),
        attributions=read_attributions(root),
        agreement=agreement,
        comparisons={}
        if fooling is None
        else {kind: compare_with_fooling(fooling, each) for kind, each in agreement.items()},
    )


def choose_cohorts(study: Study) -> list[str]:
    """Choose the GAN cohorts whose spectra are shown: of the tables, then some of the phi sweep."""
    phis = sorted(study.report.phi_sweep, key=lambda cohort: study.gans[cohort].phi)
    if len(phis) > _NUM_PHIS:
        phis = [phis[0], phis[len(phis) // 2], phis[-1]]
    chosen = list_table_cohorts(study)[: _MAX_COHORTS - len(phis)]
    return list(dict.fromkeys([*chosen, *phis])) or list(study.gans)[:_MAX_COHORTS]
