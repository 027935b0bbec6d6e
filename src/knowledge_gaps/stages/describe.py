"""describe: print the reference of params.yaml; no stage of dvc.yaml, run by hand."""

from __future__ import annotations

from knowledge_gaps.manual.page import render_page


def run() -> None:
    """Print every key of params.yaml as Markdown; no study is read."""
    print(render_page(), end="")
