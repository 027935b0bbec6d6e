"""All that the report reads beside the two tables: what artifacts are, and what may be trusted.

Each kind has its own reader in this folder; here they are brought together for a study.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from knowledge_gaps.analyses.agreement import reading as agreement
from knowledge_gaps.analyses.attributions import reading as attributions
from knowledge_gaps.analyses.audit import reading as audit
from knowledge_gaps.analyses.spectra import reading as spectra
from knowledge_gaps.core.layout import NEIGHBOURS_FILE, get_reports_directory
from knowledge_gaps.readings.mutual_fooling import MutualFooling
from knowledge_gaps.readings.neighbours import Neighbour, read_neighbours
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
        agreement: of one classifier cohort, by the images that its pairs were compared on.
        comparisons: of mutual fooling with agreement, by the same images; empty without the former.
        neighbours: the closest pairs of generated and training images, over all cohorts.
    """

    audit: audit.Audit
    spectra: spectra.SpectraReading
    attributions: attributions.AttributionReading | None
    agreement: Mapping[str, agreement.Agreement]
    comparisons: Mapping[str, agreement.FoolingComparison]
    neighbours: tuple[Neighbour, ...]


def read_evidence(root: Path, study: Study, fooling: MutualFooling | None) -> Evidence:
    """Read what the stages beside detections and quality wrote below a root.

    Raises:
        UserError: when a file is missing or malformed.
    """
    compared = agreement.read(root, fooling)
    return Evidence(
        audit=audit.read(root),
        spectra=spectra.read(root, choose_cohorts(study)),
        attributions=attributions.read(root),
        agreement=compared.agreement,
        comparisons=compared.comparisons,
        neighbours=read_neighbours(get_reports_directory(root) / NEIGHBOURS_FILE),
    )


def choose_cohorts(study: Study) -> list[str]:
    """Choose the GAN cohorts whose spectra are shown: of the tables, then some of the phi sweep."""
    report = study.report
    tables = report.iterations, report.memoryless, report.memory, report.architectures
    chains = [entry.gans for table in tables for entry in table]
    phis = sorted(report.phi_sweep, key=lambda cohort: study.gans[cohort].phi)
    if len(phis) > _NUM_PHIS:
        phis = [phis[0], phis[len(phis) // 2], phis[-1]]
    chosen = [*dict.fromkeys(chains)][: _MAX_COHORTS - len(phis)]
    return list(dict.fromkeys([*chosen, *phis])) or list(study.gans)[:_MAX_COHORTS]
