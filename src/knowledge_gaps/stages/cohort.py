"""What gans and classifiers share: train a cohort while the terminal and MLflow look on."""

from __future__ import annotations

from pathlib import Path

from knowledge_gaps.runtime.progress import InstanceProgress
from knowledge_gaps.runtime.tracking import CohortTracker, LiveInstance, sync_cohort
from knowledge_gaps.study import Kind, Study
from knowledge_gaps.study.graph import get_cohorts, need
from knowledge_gaps.training.cohort import train_cohort
from knowledge_gaps.training.task import make_tasks


class _LiveCurves:
    """A listener that passes rows of the curves on to MLflow."""

    def __init__(self, tracker: CohortTracker) -> None:
        self._tracker = tracker

    def report(self, instance: int, step: int, row: dict[str, float] | None) -> None:
        if row is not None:
            values = {name: value for name, value in row.items() if name != "step"}
            self._tracker.log(instance, int(row["step"]), values)


def train_and_track(root: Path, study: Study, kind: Kind, name: str) -> None:
    """Train a cohort and publish it; MLflow sees it live, and whole at the end.

    Raises:
        StoppedError, UserError: as `training.cohort.train_cohort`, and for an unknown cohort.
    """
    need(name, get_cohorts(study, kind), "cohort", kind.value)
    tasks = make_tasks(root, study, kind, name)
    live = {task.instance: LiveInstance(task.compute_identity(), task.describe()) for task in tasks}
    progress = InstanceProgress(tasks[0].cohort_path, len(tasks), tasks[0].recipe.steps)
    with CohortTracker(root, study.study.name, kind.value, name, live) as tracker, progress:
        train_cohort(tasks, [progress, _LiveCurves(tracker)])
    sync_cohort(root, study.study.name, kind.value, name)
