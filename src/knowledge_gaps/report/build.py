"""Building the report: reads the tables, images and curves below a root, writes reports/.

Everything is read and drawn before the first file is written. The bytes depend on the input alone,
so that building twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from knowledge_gaps.core.files import (
    publish_directory,
    write_bytes,
    write_json,
    write_text,
)
from knowledge_gaps.core.layout import (
    COHORTS_FILE,
    METRICS_FILE,
    VERDICTS_FILE,
    get_reports_directory,
)
from knowledge_gaps.core.tables import SIX_DIGITS, format_table, write_table
from knowledge_gaps.findings.form import to_json
from knowledge_gaps.readings.cells import list_cohorts
from knowledge_gaps.readings.reading import list_readings
from knowledge_gaps.report.content import Content, read_content
from knowledge_gaps.report.metrics import make_headline_metrics, make_trust_metrics
from knowledge_gaps.report.page.render import render_page
from knowledge_gaps.study import Study

PAGE_FILE = "index.html"
FIGURES_DIRECTORY = "figures"
PLOTS_DIRECTORY = "plots"


def build_report(root: Path, study: Study) -> None:
    """Write reports/index.html, cohorts.csv, verdicts.json, metrics.json, figures/ and plots/*.csv.

    Args:
        root: of the repository: reports/, models/ and data/ lie below it.
        study: what was run, and which readings the report makes.

    Raises:
        UserError: when an input is missing or malformed, or the disk is full.
    """
    content = read_content(root, study)
    page, plots = render_page(content), _make_plots(content)
    metrics = make_headline_metrics(content.results, content.readings)
    metrics |= make_trust_metrics(content.evidence.audit, content.judged)
    drawn = {f"{name}.png": figure.png for name, figure in content.figures.items()}
    drawn |= {f"{name}.svg": figure.svg for name, figure in content.figures.items() if figure.svg}
    reports = get_reports_directory(root)
    _publish(reports / FIGURES_DIRECTORY, drawn)
    _publish(reports / PLOTS_DIRECTORY, plots)
    write_table(reports / COHORTS_FILE, list_cohorts(content.results.cells))
    write_json(reports / VERDICTS_FILE, to_json(content.findings, content.judged))
    write_json(reports / METRICS_FILE, metrics)
    write_text(reports / PAGE_FILE, page)


def _make_plots(content: Content) -> dict[str, bytes]:
    """Make the CSVs for `dvc plots`, a header alone for a reading that the study does not name.

    Files and columns have fixed names, because dvc.yaml names them for every study; so metrics go
    by their short names here. Their full names, which are their protocol, are in metrics.json.
    """
    frames: dict[str, Any] = {}
    for name, reading in list_readings().items():
        frames |= reading.make_plots(content.results, content.readings[name])
    return {name: format_table(frame, SIX_DIGITS).encode() for name, frame in frames.items()}


def _publish(target: Path, files: Mapping[str, bytes]) -> None:
    """Put a folder with just these files in the place of the old one."""

    def fill(folder: Path) -> None:
        for name, content in sorted(files.items()):
            write_bytes(folder / name, content)

    publish_directory(target, fill)
