"""gans@COHORT, classifiers@COHORT: train a cohort against its pool of frozen instances.

The trainings are shown on the terminal and in MLflow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from knowledge_gaps.core.devices import count_processes, read_rank
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.instance import Instance
from knowledge_gaps.core.printing import track_instances
from knowledge_gaps.execution.assignment import Callback
from knowledge_gaps.execution.cluster import EXECUTOR_VARIABLE, find_executor
from knowledge_gaps.execution.cohort import make_tasks, train_cohort, train_instances
from knowledge_gaps.execution.parallel import Executor, run_local
from knowledge_gaps.study import Kind, Study
from knowledge_gaps.tracking.live import CohortTracker
from knowledge_gaps.training.task import Row, TrainingTask, check_shares


def run(
    root: Path,
    study: Study,
    name: str,
    kind: Kind,
    num_processes: int | None = None,
    instance: Instance | None = None,
) -> None:
    """Train the cohort of a kind and name, or one instance of it (for the cohort to take up).

    Several processes (KGAPS_PROCESSES, if `num_processes` is None) train each instance together.
    Raises as `make_tasks` and `train_cohort`.
    """
    tasks = make_tasks(root, study, kind, name, instance)

    def lead(executor: Executor) -> None:
        with _watch(study, tasks) as callback:
            train = train_cohort if instance is None else train_instances
            train(tasks, callback, executor)

    rank, count = read_rank(), count_processes(num_processes)
    check_shares(tasks[0].recipe, count)
    executor = find_executor()
    if count == 1:
        lead(executor)
        return
    if executor is not run_local:
        raise UserError(f"{EXECUTOR_VARIABLE} is set: a task trains one instance by one process")
    # imports torch, which a process that trains nothing itself does without
    from knowledge_gaps.execution.ranks import launch_ranks, train_as_rank

    if rank is None:
        launch_ranks(count, run, root, study, name, kind, count, instance)
    else:
        train_as_rank(tasks, lead)


@contextmanager
def _watch(study: Study, tasks: Sequence[TrainingTask]) -> Iterator[Callback]:
    """Show trainings on the terminal and in MLflow."""
    first, live = tasks[0], {task.instance: task.describe() for task in tasks}
    tracker = CohortTracker(first.root, study.study.name, first.kind.value, first.name, live)

    def show(instance: Instance, step: int, row: Row | None) -> None:
        report(instance, step, row)
        if row is not None:
            tracker.log(instance, step, {key: row[key] for key in row if key != "step"})

    with tracker, track_instances(first.cohort_path, live, first.recipe.steps) as report:
        yield show
