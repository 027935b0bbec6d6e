"""The report: reads the tables, images and curves below a root, writes reports/.

Everything is read and drawn before the first file is written. The bytes depend on the input alone,
so that building twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knowledge_gaps.analyses.agreement import reading as agreement
from knowledge_gaps.analyses.attributions import reading as attributions
from knowledge_gaps.analyses.audit import reading as audit
from knowledge_gaps.analyses.spectra import reading as spectra
from knowledge_gaps.core.files import (
    publish_directory,
    read_json,
    write_bytes,
    write_json,
    write_text,
)
from knowledge_gaps.core.layout import (
    COHORTS_FILE,
    DATASET_FILE,
    METRICS_FILE,
    VERDICTS_FILE,
    get_prepared_directory,
    get_reports_directory,
)
from knowledge_gaps.core.tables import SIX_DIGITS, format_table, write_table
from knowledge_gaps.findings.form import to_json
from knowledge_gaps.findings.judge import Judged, judge
from knowledge_gaps.findings.schema import FINDINGS_FILE, Findings, load_findings
from knowledge_gaps.readings.cells import list_cohorts
from knowledge_gaps.readings.cohorts import list_table_cohorts
from knowledge_gaps.readings.figures.style import PageFigure
from knowledge_gaps.readings.reading import Results, list_readings, read_results
from knowledge_gaps.report.metrics import make_headline_metrics, make_trust_metrics
from knowledge_gaps.report.page.render import render_page
from knowledge_gaps.study.schema import Study

_MAX_COHORTS = 8  # that a figure of spectra tells apart
_NUM_PHIS = 3  # of the sweep, from its smallest to its largest


@dataclass(frozen=True)
class Content:
    """What a report is made of; the templates know it by these names.

    Attributes:
        dataset: data/prepared/dataset.json.
        results: the two tables, and the frame of cells.
        readings: what each reading read of them, by name.
        audit: whether detection rates may be taken for what images show.
        spectra: of the reals and of some GAN cohorts, and of their residuals.
        attributions: None when no GAN of the iterations fools.
        compared: classifiers of one cohort with one another, and with mutual fooling.
        findings: claims and thresholds.
        judged: the claims with their verdicts.
    """

    dataset: Mapping[str, Any]
    results: Results
    readings: Mapping[str, Any]
    audit: audit.Audit
    spectra: spectra.SpectraReading
    attributions: attributions.AttributionReading | None
    compared: Mapping[str, agreement.Agreement]
    findings: Findings
    judged: tuple[Judged, ...]

    def draw(self) -> Iterator[PageFigure]:
        """Draw every figure that the study asks for or has measurements of."""
        for name, reading in list_readings().items():
            if reading.is_asked(self.results.study):
                yield from reading.draw(self.results, self.readings[name])
        mutual = self.readings["mutual_fooling"]
        if mutual["fooling"] is not None:
            yield from agreement.draw(self.compared, mutual["fooling"], mutual["order"])
        yield from spectra.draw(self.spectra)
        if self.attributions is not None:
            yield from attributions.draw(self.attributions)


def build_report(root: Path, study: Study) -> None:
    """Write reports/index.html, cohorts.csv, verdicts.json, metrics.json, figures/ and plots/*.csv.

    The plots are for `dvc plots`, a header alone for a reading that the study does not name. Files
    and columns have fixed names, because dvc.yaml names them for every study; so metrics go by
    their short names there. Their full names, which are their protocol, are in metrics.json.

    Args:
        root: of the repository: reports/, models/ and data/ lie below it.
        study: what was run, and which readings the report makes.

    Raises:
        UserError: when an input is missing or malformed, or the disk is full.
    """
    content = read_content(root, study)
    figures = {figure.name: figure for figure in content.draw()}
    page = render_page(**vars(content), figures=figures)
    images = {name: data for figure in figures.values() for name, data in figure.files.items()}
    plots = {
        name: format_table(table, SIX_DIGITS).encode()
        for key, reading in list_readings().items()
        for name, table in reading.make_plots(content.results, content.readings[key]).items()
    }
    metrics = make_headline_metrics(content.results, content.readings)
    metrics |= make_trust_metrics(content.audit, content.judged)
    reports = get_reports_directory(root)
    _publish(reports / "figures", images)
    _publish(reports / "plots", plots)
    write_table(reports / COHORTS_FILE, list_cohorts(content.results.cells))
    write_json(reports / VERDICTS_FILE, to_json(content.findings, content.judged))
    write_json(reports / METRICS_FILE, metrics)
    write_text(reports / "index.html", page)


def read_content(root: Path, study: Study) -> Content:
    """Read and judge everything below a root that the report of a study shows.

    Raises:
        UserError: when a file is missing or malformed, or has no row of a cohort of the study.
    """
    findings = load_findings(root / FINDINGS_FILE)
    results = read_results(root, study, findings.seed)
    readings = {name: reading.read(results) for name, reading in list_readings().items()}
    return Content(
        dataset=read_json(get_prepared_directory(root) / DATASET_FILE),
        results=results,
        readings=readings,
        audit=audit.read(root),
        spectra=spectra.read(root, choose_cohorts(study)),
        attributions=attributions.read(root),
        compared=agreement.read(root, readings["mutual_fooling"]["fooling"]),
        findings=findings,
        judged=judge(study, results.detections, results.quality, findings),
    )


def choose_cohorts(study: Study) -> list[str]:
    """Choose the GAN cohorts whose spectra are shown: of the tables, then some of the phi sweep."""
    phis = sorted(study.report.phi_sweep, key=lambda cohort: study.gans[cohort].phi)
    if len(phis) > _NUM_PHIS:
        phis = [phis[0], phis[len(phis) // 2], phis[-1]]
    chosen = list_table_cohorts(study)[: _MAX_COHORTS - len(phis)]
    return list(dict.fromkeys([*chosen, *phis])) or list(study.gans)[:_MAX_COHORTS]


def _publish(target: Path, files: Mapping[str, bytes]) -> None:
    """Put a folder with just these files in the place of the old one."""

    def fill(folder: Path) -> None:
        for name, content in sorted(files.items()):
            write_bytes(folder / name, content)

    publish_directory(target, fill)
