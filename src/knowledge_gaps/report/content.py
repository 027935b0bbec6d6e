"""All that a report says, before it is drawn and written: readings, evidence, verdicts, curves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from knowledge_gaps.core.files import read_json
from knowledge_gaps.core.layout import DATASET_FILE, get_prepared_directory
from knowledge_gaps.findings.judge import Judged, judge
from knowledge_gaps.findings.load import FINDINGS_FILE, load_findings
from knowledge_gaps.findings.schema import Findings
from knowledge_gaps.readings.collected import Readings, make_readings, read_tables
from knowledge_gaps.readings.curves import read_curves
from knowledge_gaps.report.evidence import Evidence, read_evidence
from knowledge_gaps.study import Study


@dataclass(frozen=True)
class Content:
    """What a report is made of.

    Attributes:
        dataset: data/prepared/dataset.json.
        readings: of the two tables.
        evidence: on images and classifiers.
        findings: claims and thresholds.
        judged: the claims with their verdicts.
        curves: training curves by GAN cohort.
    """

    dataset: Mapping[str, Any]
    readings: Readings
    evidence: Evidence
    findings: Findings
    judged: tuple[Judged, ...]
    curves: Mapping[str, pd.DataFrame]


def read_content(root: Path, study: Study) -> Content:
    """Read everything below a root that the report of a study says.

    Raises:
        UserError: when a file is missing or malformed, or has no row of a cohort of the study.
    """
    detections, quality = read_tables(root, study)
    findings = load_findings(root / FINDINGS_FILE)
    readings = make_readings(detections, quality, study, findings.seed)
    return Content(
        dataset=read_json(get_prepared_directory(root) / DATASET_FILE),
        readings=readings,
        evidence=read_evidence(root, study, readings.mutual_fooling),
        findings=findings,
        judged=judge(study, detections, quality, findings),
        curves={
            cohort: read_curves(root, cohort, gans.instances) for cohort, gans in study.gans.items()
        },
    )
