"""The report: reads the tables, images and curves below a root, writes reports/STUDY/.

Everything is read and drawn before the first file is written. The bytes depend on the input alone,
so that building twice changes nothing.

In metrics.json the rows of a sweep go by the names of their cohorts, with the value that the sweep
is along beside their numbers: a study with another value has the same names, so that `dvc metrics
diff` compares the two.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from knowledge_gaps.analyses.agreement import reading as agreement
from knowledge_gaps.analyses.attributions import reading as attributions
from knowledge_gaps.analyses.audit import reading as audit
from knowledge_gaps.analyses.spectra import reading as spectra
from knowledge_gaps.core import files, layout
from knowledge_gaps.core.tables import PHI, SIX_DIGITS, format_table, write_table
from knowledge_gaps.findings.form import make_verdicts
from knowledge_gaps.findings.judge import Verdict
from knowledge_gaps.findings.schema import FINDINGS_FILE, load_findings
from knowledge_gaps.readings.cells import list_cohorts
from knowledge_gaps.readings.cohorts import list_table_cohorts
from knowledge_gaps.readings.figures import PageFigure
from knowledge_gaps.readings.reading import Metrics, Results, list_readings
from knowledge_gaps.readings.tables import read_tables
from knowledge_gaps.report.render import render_page
from knowledge_gaps.study import Study

_MAX_COHORTS = 8  # that a figure of spectra tells apart
_NUM_PHIS = 3  # of the sweep, from its smallest to its largest
_DIGITS = 6  # of metrics
_SETTINGS = (PHI, "truncation")  # written in full: 1e-7 is not 0


def build_report(root: Path, study: Study) -> None:
    """Write index.html, cohorts.csv, verdicts.json, metrics.json, figures/, plots/*.csv.

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
    results, readings = content["results"], content["readings"]
    figures = {figure.name: figure for figure in draw_figures(**content)}
    page = render_page(**content, figures=figures)
    images = {name: data for figure in figures.values() for name, data in figure.files.items()}
    plots = {
        name: format_table(table, SIX_DIGITS).encode()
        for key, reading in list_readings().items()
        for name, table in reading.make_plots(results, readings[key]).items()
    }
    metrics = make_headline_metrics(results, readings)
    metrics |= _make_trust_metrics(content["audit"], content["verdicts"]["claims"])
    reports = layout.get_reports(root, study.study.name)
    _publish(reports / "figures", images)
    _publish(reports / "plots", plots)
    write_table(reports / layout.COHORTS_FILE, list_cohorts(results.cells))
    files.write_json(reports / layout.VERDICTS_FILE, content["verdicts"])
    files.write_json(reports / layout.METRICS_FILE, metrics)
    files.write_text(reports / "index.html", page)
    print(f"report: {reports / 'index.html'}")


def read_content(root: Path, study: Study) -> dict[str, Any]:
    """Read and judge everything below a root that the report of a study shows, by the names that
    the templates know it by.

    Raises:
        UserError: when a file is missing or malformed, or has no row of a cohort of the study.
    """
    findings = load_findings(root / FINDINGS_FILE)
    reports = layout.get_reports(root, study.study.name)
    results = Results(root, study, *read_tables(root, study), findings.seed)
    readings = {name: results.read(name) for name in list_readings()}
    return {
        "dataset": files.read_json(root / layout.PREPARED / layout.DATASET_FILE),
        "results": results,
        "readings": readings,
        "audit": audit.read(reports),
        "spectra": spectra.read(root, reports, choose_cohorts(study)),
        "attributions": attributions.read(root, reports),
        "compared": agreement.read(reports, next(iter(readings["mutual_fooling"]), None)),
        "findings": findings,
        "verdicts": make_verdicts(results, findings),
    }


def draw_figures(
    results: Results, readings: Mapping[str, Any], **content: Any
) -> Iterator[PageFigure]:
    """Draw every figure that the study asks for or has measurements of."""
    for name, reading in list_readings().items():
        if reading.is_asked(results.study):
            yield from reading.draw(results, readings[name])
    for mutual in readings["mutual_fooling"][:1]:
        yield from agreement.draw(content["compared"], mutual, mutual.order)
    yield from spectra.draw(content["spectra"])
    if content["attributions"] is not None:
        yield from attributions.draw(content["attributions"])


def choose_cohorts(study: Study) -> list[str]:
    """Choose the GAN cohorts whose spectra are shown: of the tables, then some of the phi sweep."""
    phis = sorted(study.report.phi_sweep, key=lambda cohort: study.gans[cohort].phi)
    if len(phis) > _NUM_PHIS:
        phis = [phis[0], phis[len(phis) // 2], phis[-1]]
    chosen = list_table_cohorts(study)[: _MAX_COHORTS - len(phis)]
    return list(dict.fromkeys([*chosen, *phis])) or list(study.gans)[:_MAX_COHORTS]


def _publish(target: Path, contents: Mapping[str, bytes]) -> None:
    """Put a folder with just these files in the place of the old one."""

    def fill(folder: Path) -> None:
        for name, content in sorted(contents.items()):
            files.write_bytes(folder / name, content)

    files.publish_directory(target, fill)


def make_headline_metrics(results: Results, readings: Mapping[str, Any]) -> Metrics:
    """Choose the numbers of the readings, by name, that a change of the study is judged by."""
    metrics: Metrics = {}
    for name, content in readings.items():
        reading = list_readings()[name]
        if reading.is_asked(results.study):
            metrics |= reading.make_metrics(results, content)
    return round_metrics(metrics)


def _make_trust_metrics(audit: audit.Audit, claims: Iterable[Mapping[str, Any]]) -> Metrics:
    """Say whether the shortcut audit passed and had power (1 or 0), and count the verdicts."""
    verdicts = Counter(claim["study"]["verdict"] for claim in claims)
    return {
        "audit_passed": float(audit.passed),
        "audit_has_power": float(audit.has_power),
        "verdicts": {word.value.replace(" ", "_"): float(verdicts[word]) for word in Verdict},
    }


def round_metrics(metrics: Metrics) -> Metrics:
    """Round results to 6 digits; leave out numbers that do not exist, and groups without any."""
    kept: Metrics = {}
    for key, value in metrics.items():
        if isinstance(value, dict):
            if inner := round_metrics(value):
                kept[key] = inner
        elif math.isfinite(value):
            kept[key] = float(value) if key in _SETTINGS else round(float(value), _DIGITS)
    return kept
