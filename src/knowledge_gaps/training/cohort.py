"""A cohort from its tasks to its published directory.

Its instances are trained side by side, a process each (`knowledge_gaps.training.workers`), or one
after the other by several processes together, of which this is one
(`knowledge_gaps.training.rank_cohort`). Either way one process at a time works at a cohort, keeps
the states of interrupted trainings, and puts the finished instances together.

Nothing that happens here changes an instance's bytes.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from knowledge_gaps.runtime.errors import StoppedError, UserError
from knowledge_gaps.runtime.files import hash_file, publish_directory, write_json
from knowledge_gaps.runtime.layout import (
    COHORT_FILE,
    META_FILE,
    get_cohort_directory,
    get_state_directory,
)
from knowledge_gaps.training.task import TrainingTask
from knowledge_gaps.training.worker import Assignment
from knowledge_gaps.training.workers import Listener, Outcome, run_workers

_LOCK_SEC = 30.0  # how long a run that was told to stop may take to save its state


@dataclass(frozen=True)
class CohortStates:
    """The directories of a cohort's instances while it is trained.

    Attributes:
        assignments: of all instances, in order.
    """

    assignments: tuple[Assignment, ...]

    @classmethod
    def of(cls, tasks: Sequence[TrainingTask]) -> CohortStates:
        """Find the directories of all instances of one cohort, given in order."""
        root = _get_cohort_state(tasks[0])
        return cls(
            tuple(
                Assignment(task, root / f"{task.instance}-{task.compute_identity()[:16]}")
                for task in tasks
            )
        )

    @property
    def first(self) -> TrainingTask:
        """The first instance's task."""
        return self.assignments[0].task

    def split(self) -> tuple[list[Assignment], list[Assignment]]:
        """Split into instances that an earlier call finished, and those that wait."""
        finished = [entry for entry in self.assignments if entry.is_finished()]
        return finished, [entry for entry in self.assignments if not entry.is_finished()]

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep other processes off the cohort, and drop what trainings of other tasks left.

        Raises:
            UserError: when another process is training the cohort.
        """
        root = _get_cohort_state(self.first)
        lock = root.with_suffix(".lock")
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(lock, timeout=_LOCK_SEC):
                self._drop_others(root)
                yield
        except Timeout as error:
            raise UserError(
                f"{self.first.cohort_path}: another process is training this cohort ({lock})"
            ) from error

    def publish(self) -> None:
        """Put the finished instances together into the cohort's directory; drop the states."""
        task = self.first
        publish_directory(get_cohort_directory(task.root, task.cohort_path), self._assemble)
        shutil.rmtree(_get_cohort_state(task))

    def _drop_others(self, root: Path) -> None:
        """Remove the states of trainings that depended on something else than these do.

        A result without its meta.json, which is written last, is what a killed process left.
        """
        directories = [entry.directory for entry in self.assignments]
        for path in sorted(root.glob("*")):
            if path not in directories:
                shutil.rmtree(path)
        for entry in self.assignments:
            if not entry.is_finished():
                shutil.rmtree(entry.result, ignore_errors=True)
            entry.result.mkdir(parents=True, exist_ok=True)

    def _assemble(self, target: Path) -> None:
        instances = []
        for entry in self.assignments:
            instance = entry.task.instance
            shutil.copytree(entry.result, target / str(instance))
            sha256 = hash_file(target / str(instance) / META_FILE)
            instances.append({"instance": instance, "sha256": sha256})
        task = self.first
        manifest = {"format": 1, "kind": task.kind.value, "cohort": task.name}
        write_json(target / COHORT_FILE, {**manifest, "instances": instances})


def train_cohort(tasks: Sequence[TrainingTask], listeners: Sequence[Listener]) -> None:
    """Train all instances of a cohort side by side and publish its directory.

    Instances that an earlier, interrupted call finished are kept, others resume.

    Args:
        tasks: of one cohort, all instances, in order.
        listeners: told of every instance's progress.

    Raises:
        StoppedError: when the process was told to stop; all states are saved.
        UserError: when an instance failed; the others were trained to their end first.
    """
    states = CohortStates.of(tasks)
    with states.hold():
        finished, waiting = states.split()
        report_finished(finished, listeners)
        if waiting:
            check_outcome(run_workers(waiting, listeners), states.first)
        states.publish()


def count_waiting(tasks: Sequence[TrainingTask]) -> int:
    """Count the instances that no earlier, interrupted call finished."""
    return len(CohortStates.of(tasks).split()[1])


def report_finished(finished: Sequence[Assignment], listeners: Sequence[Listener]) -> None:
    """Tell listeners of instances that an earlier call finished."""
    for entry in finished:
        for listener in listeners:
            listener.report(entry.task.instance, entry.task.recipe.steps, None)


def check_outcome(outcome: Outcome, task: TrainingTask) -> None:
    """Raise what `train_cohort` does, if the trainings came to that."""
    if outcome.stopped:
        raise StoppedError(f"{task.cohort_path}: state saved, the same command resumes")
    if outcome.errors:
        instance, message = min(outcome.errors.items())
        raise UserError(f"{task.cohort_path}/{instance}: {message}")


def _get_cohort_state(task: TrainingTask) -> Path:
    return get_state_directory(task.root) / "resume" / f"{task.kind}-{task.name}"
