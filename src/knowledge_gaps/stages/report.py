"""report: read the two tables, draw the figures, write the page and the headline numbers."""

from __future__ import annotations

from pathlib import Path

from knowledge_gaps.core.layout import get_reports_directory
from knowledge_gaps.report.build import build_report
from knowledge_gaps.study import Study


def run(root: Path, study: Study) -> None:
    """Write index.html, figures, plots and metrics.json in reports/.

    Raises:
        UserError: when a table is missing or lacks a column.
    """
    build_report(root, study)
    print(f"report: {get_reports_directory(root) / 'index.html'}")
