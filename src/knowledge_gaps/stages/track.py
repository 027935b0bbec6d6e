"""track: rebuild MLflow's runs and registry from the files; no stage of dvc.yaml.

DVC skips stages whose results it knows, so this is a command of its own after `dvc repro`. The
folder of an experiment of DVC's queue is gone after its last stage, which is followed by it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.layout import get_home
from knowledge_gaps.study import Kind, Study
from knowledge_gaps.study.graph import get_cohorts
from knowledge_gaps.tracking.sync import sync_study

_OUTCOMES = ("created", "updated", "unchanged")


def sync(root: Path, study: Study) -> None:
    """Create what MLflow lacks; nothing when it lacks nothing.

    Raises:
        UserError: when tracking is off, or the server does not answer.
    """
    cohorts = [(kind.value, name) for kind in Kind for name in get_cohorts(study, kind)]
    done = sync_study(root, study.study.name, cohorts)
    runs, versions = (
        ", ".join(f"{done[f'{what} {outcome}']} {outcome}" for outcome in _OUTCOMES)
        for what in ("runs", "versions")
    )
    print(f"runs: {runs}; classifier versions: {versions}")


def sync_experiment(root: Path, study: Study) -> None:
    """Do the same in an experiment of DVC's queue, where a failure is one line; else nothing."""
    if get_home(root) != root:
        try:
            sync(root, study)
        except UserError as error:
            print(error, file=sys.stderr)
