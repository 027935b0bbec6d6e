"""All that a report says, before it is written: readings, analyses, verdicts, figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knowledge_gaps.core.files import read_json
from knowledge_gaps.core.layout import DATASET_FILE, get_prepared_directory
from knowledge_gaps.findings.judge import Judged, judge
from knowledge_gaps.findings.schema import FINDINGS_FILE, Findings, load_findings
from knowledge_gaps.readings.figures.page_figure import PageFigure
from knowledge_gaps.readings.reading import Results, list_readings, read_results
from knowledge_gaps.report.evidence import Evidence, draw_evidence, read_evidence
from knowledge_gaps.study import Study


@dataclass(frozen=True)
class Content:
    """What a report is made of.

    Attributes:
        dataset: data/prepared/dataset.json.
        results: the two tables, and the frame of cells.
        readings: what each reading read of them, by name.
        evidence: what the analyses found.
        findings: claims and thresholds.
        judged: the claims with their verdicts.
        figures: by name.
    """

    dataset: Mapping[str, Any]
    results: Results
    readings: Mapping[str, Any]
    evidence: Evidence
    findings: Findings
    judged: tuple[Judged, ...]
    figures: Mapping[str, PageFigure]


def read_content(root: Path, study: Study) -> Content:
    """Read, judge and draw everything below a root that the report of a study shows.

    Raises:
        UserError: when a file is missing or malformed, or has no row of a cohort of the study.
    """
    findings = load_findings(root / FINDINGS_FILE)
    results = read_results(root, study, findings.seed)
    readings = {name: reading.read(results) for name, reading in list_readings().items()}
    evidence = read_evidence(root, study, readings["mutual_fooling"]["fooling"])
    figures = [
        figure
        for name, reading in list_readings().items()
        if reading.is_asked(study)
        for figure in reading.draw(results, readings[name])
    ]
    figures += draw_evidence(study, readings["mutual_fooling"], evidence)
    return Content(
        dataset=read_json(get_prepared_directory(root) / DATASET_FILE),
        results=results,
        readings=readings,
        evidence=evidence,
        findings=findings,
        judged=judge(study, results.detections, results.quality, findings),
        figures={figure.name: figure for figure in figures},
    )
