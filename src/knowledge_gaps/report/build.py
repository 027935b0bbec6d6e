"""Building the report: reads the two tables, images and curves below a root, writes reports/.

Everything is read and drawn before the first file is written. The bytes depend on the input alone,
so that building twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from knowledge_gaps.report.figures.gallery import draw_gallery
from knowledge_gaps.report.metrics import make_headline_metrics
from knowledge_gaps.report.page.render import render_page
from knowledge_gaps.report.plots import make_plots
from knowledge_gaps.report.readings.collected import read_readings
from knowledge_gaps.report.readings.curves import read_curves
from knowledge_gaps.runtime.files import (
    publish_directory,
    read_json,
    write_bytes,
    write_json,
    write_text,
)
from knowledge_gaps.runtime.layout import (
    DATASET_FILE,
    METRICS_FILE,
    get_prepared_directory,
    get_reports_directory,
)
from knowledge_gaps.study import Study

PAGE_FILE = "index.html"
FIGURES_DIRECTORY = "figures"
PLOTS_DIRECTORY = "plots"


def build_report(root: Path, study: Study) -> None:
    """Write reports/index.html, metrics.json, figures/*.png and plots/*.csv.

    Args:
        root: of the repository: reports/, models/ and data/ lie below it.
        study: what was run, and which readings the report makes.

    Raises:
        UserError: when an input is missing or malformed, or the disk is full.
    """
    readings = read_readings(root, study)
    curves = {
        cohort: read_curves(root, cohort, gans.instances) for cohort, gans in study.gans.items()
    }
    figures = draw_gallery(root, study, readings, curves)
    dataset = read_json(get_prepared_directory(root) / DATASET_FILE)
    page = render_page(study, dataset, readings, figures)
    plots = make_plots(readings, curves)
    pngs = {f"{name}.png": figure.png for name, figure in figures.items()}
    reports = get_reports_directory(root)
    _publish(reports / FIGURES_DIRECTORY, pngs)
    _publish(
        reports / PLOTS_DIRECTORY, {name: text.encode("utf-8") for name, text in plots.items()}
    )
    write_json(reports / METRICS_FILE, make_headline_metrics(readings))
    write_text(reports / PAGE_FILE, page)


def _publish(target: Path, files: Mapping[str, bytes]) -> None:
    """Put a folder with just these files in the place of the old one."""

    def fill(folder: Path) -> None:
        for name, content in sorted(files.items()):
            write_bytes(folder / name, content)

    publish_directory(target, fill)
