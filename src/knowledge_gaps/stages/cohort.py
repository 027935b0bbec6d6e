"""What gans and classifiers share: train a cohort, shown on the terminal and in MLflow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from knowledge_gaps.core.devices import count_processes, read_rank
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.progress import InstanceProgress
from knowledge_gaps.execution.cohort import train_cohort, train_single
from knowledge_gaps.execution.fingerprint import check_fingerprint
from knowledge_gaps.execution.progress import Callback, Row
from knowledge_gaps.execution.tasks import make_tasks
from knowledge_gaps.study import Kind, Study
from knowledge_gaps.study.graph import get_cohorts, need
from knowledge_gaps.tracking import CohortTracker, LiveInstance, sync_cohort
from knowledge_gaps.training.sizes import check_shares
from knowledge_gaps.training.task import TrainingTask


def train_and_track(
    root: Path,
    study: Study,
    kind: Kind,
    name: str,
    num_processes: int | None = None,
    instance: int | None = None,
) -> None:
    """Train a cohort and publish it, or train one instance of it.

    Args:
        root: the repository's root.
        study: the study.
        kind: of the cohort.
        name: of the cohort.
        num_processes: how many processes train one instance together; None for KGAPS_PROCESSES.
        instance: to train alone; None for the cohort.

    Raises:
        StoppedError, UserError: as `execution.cohort.train_cohort`, for an unknown cohort or
            instance, and where the code changed since the study was checked.
    """
    need(name, get_cohorts(study, kind), "cohort", kind.value)
    tasks = make_tasks(root, study, kind, name)
    if instance is not None and instance >= len(tasks):
        raise UserError(f"--instance: {instance} found, {kind}/{name} has {len(tasks)}, from 0")
    check_fingerprint(root, tasks[0].cohort_path, dict(tasks[0].code))
    rank, count = read_rank(), count_processes(num_processes)
    if count > 1:
        # imports torch, which this process does without otherwise
        from knowledge_gaps.execution.ranks import launch_ranks, train_as_rank
    if rank is None and count > 1:
        check_shares(tasks[0].recipe, count)
        launch_ranks(count, train_and_track, root, study, kind, name, count, instance)
        return
    if rank is not None and not rank.is_main:
        train_as_rank(rank, tasks, [], instance)
        return
    with _watch(root, study, tasks if instance is None else [tasks[instance]]) as callbacks:
        if rank is not None:
            train_as_rank(rank, tasks, callbacks, instance)
        elif instance is not None:
            train_single(tasks[instance], callbacks)
        else:
            train_cohort(tasks, callbacks)
    if instance is None:
        sync_cohort(root, study.study.name, kind.value, name)


@contextmanager
def _watch(root: Path, study: Study, tasks: Sequence[TrainingTask]) -> Iterator[list[Callback]]:
    """Show trainings on the terminal and in MLflow."""
    first, instances = tasks[0], [task.instance for task in tasks]
    live = {task.instance: LiveInstance(task.compute_identity(), task.describe()) for task in tasks}
    progress = InstanceProgress(first.cohort_path, instances, first.recipe.steps)
    tracker = CohortTracker(root, study.study.name, first.kind.value, first.name, live)

    def log(instance: int, step: int, row: Row | None) -> None:
        if row is not None:
            values = {name: value for name, value in row.items() if name != "step"}
            tracker.log(instance, int(row["step"]), values)

    with tracker, progress:
        yield [progress.report, log]
