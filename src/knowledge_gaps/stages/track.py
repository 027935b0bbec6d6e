"""track: rebuild MLflow's runs and registry from the files; no stage of dvc.yaml, run by hand."""

from __future__ import annotations

from pathlib import Path

from knowledge_gaps.study import Kind, Study
from knowledge_gaps.study.graph import get_cohorts
from knowledge_gaps.tracking import sync_study


def sync(root: Path, study: Study) -> None:
    """Create what MLflow lacks; nothing when it lacks nothing.

    Raises:
        UserError: when tracking is off, or the server does not answer.
    """
    done = sync_study(root, study.study.name, list_cohorts(study), strict=True)
    print(
        f"runs: {done.runs_created} created, {done.runs_updated} updated, "
        f"{done.runs_unchanged} unchanged; classifier versions: {done.versions_created} created, "
        f"{done.versions_updated} updated, {done.versions_unchanged} unchanged; "
        f"runs closed: {done.runs_closed}; "
        f"study: {'updated' if done.study_updated else 'unchanged'}"
    )


def list_cohorts(study: Study) -> list[tuple[str, str]]:
    """List all cohorts of a study as ("gans" or "classifiers", name)."""
    return [(kind.value, name) for kind in Kind for name in get_cohorts(study, kind)]
