"""Building the report: reads the two tables, images and curves below a root, writes reports/.

Everything is read and drawn before the first file is written. The bytes depend on the input alone,
so that building twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

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
from knowledge_gaps.core.tables import write_table
from knowledge_gaps.findings.form import to_json
from knowledge_gaps.readings.cells import tabulate_cells
from knowledge_gaps.report.content import read_content
from knowledge_gaps.report.gallery.draw import draw_gallery
from knowledge_gaps.report.metrics import make_headline_metrics, make_trust_metrics
from knowledge_gaps.report.page.render import render_page
from knowledge_gaps.report.plots import make_plots
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
    figures = draw_gallery(root, study, content)
    page = render_page(study, content, figures)
    plots = make_plots(content.readings, content.curves)
    drawn = {f"{name}.png": figure.png for name, figure in figures.items()}
    drawn |= {f"{name}.svg": figure.svg for name, figure in figures.items() if figure.svg}
    reports = get_reports_directory(root)
    _publish(reports / FIGURES_DIRECTORY, drawn)
    _publish(
        reports / PLOTS_DIRECTORY, {name: text.encode("utf-8") for name, text in plots.items()}
    )
    write_table(reports / COHORTS_FILE, tabulate_cells(content.readings.cells))
    write_json(reports / VERDICTS_FILE, to_json(content.findings, content.judged))
    metrics = make_headline_metrics(content.readings) | make_trust_metrics(content)
    write_json(reports / METRICS_FILE, metrics)
    write_text(reports / PAGE_FILE, page)


def _publish(target: Path, files: Mapping[str, bytes]) -> None:
    """Put a folder with just these files in the place of the old one."""

    def fill(folder: Path) -> None:
        for name, content in sorted(files.items()):
            write_bytes(folder / name, content)

    publish_directory(target, fill)
