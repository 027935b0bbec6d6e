"""What gans and classifiers share: train a cohort while the terminal and MLflow look on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from knowledge_gaps.core.devices import Rank, count_gpus, read_rank
from knowledge_gaps.core.progress import InstanceProgress
from knowledge_gaps.execution.cohort import count_waiting, train_cohort
from knowledge_gaps.execution.fingerprint import check_fingerprint
from knowledge_gaps.execution.launch import is_launch_due, launch_ranks, read_num_processes
from knowledge_gaps.execution.task import TrainingTask, make_tasks
from knowledge_gaps.execution.workers import Listener
from knowledge_gaps.study import Kind, Study
from knowledge_gaps.study.graph import get_cohorts, need
from knowledge_gaps.tracking.live import CohortTracker
from knowledge_gaps.training.sizes import check_shares, find_largest_sharing

_LEAST_IMAGES = 4  # in a rank's part of a batch, unless the user asks for more processes


class _LiveCurves:
    """A listener that passes rows of the curves on to MLflow."""

    def __init__(self, tracker: CohortTracker) -> None:
        self._tracker = tracker

    def report(self, instance: int, step: int, row: dict[str, float] | None) -> None:
        if row is not None:
            values = {name: value for name, value in row.items() if name != "step"}
            self._tracker.log(instance, int(row["step"]), values)


def train_and_track(
    root: Path, study: Study, kind: Kind, name: str, num_processes: int | None = None
) -> None:
    """Train a cohort and publish it; MLflow shows it meanwhile.

    Args:
        root: the repository's root.
        study: the study.
        kind: of the cohort.
        name: of the cohort.
        num_processes: how many processes train one instance together; None decides by the machine.

    Raises:
        StoppedError, UserError: as `training.cohort.train_cohort`, for an unknown cohort, and where
            the code changed since the study was checked.
    """
    need(name, get_cohorts(study, kind), "cohort", kind.value)
    tasks = make_tasks(root, study, kind, name)
    check_fingerprint(root, tasks[0].cohort_path, tasks[0].code)
    rank = read_rank()
    count = _choose_num_processes(tasks, rank, read_num_processes(num_processes))
    if rank is None and count > 1:
        launch_ranks(count, [kind.value, name, "--num-processes", str(count)])
    elif rank is None:
        with _watch(root, study, tasks) as listeners:
            train_cohort(tasks, listeners)
    else:
        with ExitStack() as stack:
            watch = _watch(root, study, tasks)
            listeners = stack.enter_context(watch) if rank.is_main else []
            # it imports torch, which a process that only starts others can do without
            from knowledge_gaps.execution.rank_cohort import train_cohort_as_rank

            train_cohort_as_rank(rank, tasks, listeners)


def _choose_num_processes(
    tasks: Sequence[TrainingTask], rank: Rank | None, asked: int | None
) -> int:
    """Choose how many processes train one instance together; with 1, instances go side by side.

    Ranks of torchrun choose by the size of the cohort, not by what is left of it: all of them must
    choose the same, whenever they start or start again.
    """
    recipe = tasks[0].recipe
    if asked is not None:
        check_shares(recipe, asked)
        return asked
    if rank is not None:
        is_due = len(tasks) < rank.size
        is_shared = find_largest_sharing(recipe, rank.size, _LEAST_IMAGES) == rank.size
        return rank.size if is_due and is_shared else 1
    if not is_launch_due(count_waiting(tasks)):
        return 1
    return find_largest_sharing(recipe, count_gpus(), _LEAST_IMAGES)


@contextmanager
def _watch(root: Path, study: Study, tasks: Sequence[TrainingTask]) -> Iterator[list[Listener]]:
    """Show a training on the terminal and in MLflow."""
    first, study_name = tasks[0], study.study.name
    live = {task.instance: task.describe() for task in tasks}
    progress = InstanceProgress(first.cohort_path, len(tasks), first.recipe.steps)
    with CohortTracker(root, study_name, first.kind.value, first.name, live) as tracker, progress:
        yield [progress, _LiveCurves(tracker)]
