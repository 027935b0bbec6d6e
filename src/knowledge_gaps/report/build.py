"""Building the report: reads the tables, images and curves below a root, writes reports/.

Everything is read and drawn before the first file is written. The bytes depend on the input alone,
so that building twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from knowledge_gaps.core.files import publish_directory, write_bytes, write_json, write_text
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
from knowledge_gaps.report.content import read_content
from knowledge_gaps.report.metrics import make_headline_metrics, make_trust_metrics
from knowledge_gaps.report.page.render import render_page
from knowledge_gaps.study import Study


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
    page = render_page(content, figures)
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


def _publish(target: Path, files: Mapping[str, bytes]) -> None:
    """Put a folder with just these files in the place of the old one."""

    def fill(folder: Path) -> None:
        for name, content in sorted(files.items()):
            write_bytes(folder / name, content)

    publish_directory(target, fill)
