"""A cohort from its tasks to its published directory.

Its instances are trained side by side, a process each (`knowledge_gaps.execution.workers`), spread
over ranks that share a disk (`knowledge_gaps.training.spread_cohort`), or one after the other by
several ranks together (`knowledge_gaps.execution.rank_cohort`). Either way one process at a time
decides over a cohort, keeps the states of interrupted trainings, and puts the finished instances
together.

Nothing that happens here changes an instance's bytes.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from knowledge_gaps.core.errors import StoppedError, UserError
from knowledge_gaps.core.files import hash_file, publish_directory, read_json, write_json
from knowledge_gaps.core.layout import (
    COHORT_FILE,
    META_FILE,
    get_cohort_directory,
    get_state_directory,
)
from knowledge_gaps.execution.assignment import Assignment, get_locks_directory
from knowledge_gaps.execution.claims import CLAIM_SEC, Roll, TakenError, claim, look_anew
from knowledge_gaps.execution.fingerprint import check_fingerprint
from knowledge_gaps.execution.task import TrainingTask
from knowledge_gaps.execution.workers import Listener, Outcome, run_workers

_LOCK_SEC = CLAIM_SEC


@dataclass(frozen=True)
class CohortStates:
    """The directories of a cohort's instances while it is trained.

    Attributes:
        assignments: of all instances, in order.
    """

    assignments: tuple[Assignment, ...]

    @classmethod
    def of(cls, tasks: Sequence[TrainingTask], wait_sec: float = CLAIM_SEC) -> CohortStates:
        """Find the directories of all instances of one cohort.

        Args:
            tasks: in order.
            wait_sec: how long to wait for another process that is training one of them.
        """
        root = _get_cohort_state(tasks[0])
        names = [f"{task.instance}-{task.compute_identity()[:16]}" for task in tasks]
        return cls(
            tuple(
                Assignment(task, root / name, wait_sec)
                for task, name in zip(tasks, names, strict=True)
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
            UserError: when another process, or any rank, is training the cohort.
        """
        with self._lock(_LOCK_SEC):
            for path in self._roll.list_present(_LOCK_SEC):
                self._refuse(path)
            self._make_directories()
            yield

    @contextmanager
    def join(self, index: int, *, is_restart: bool) -> Iterator[None]:
        """Be one of the ranks among which the instances are spread.

        Args:
            index: of this rank.
            is_restart: whether what failed before is to be left as it is.

        Raises:
            UserError: when one process has the cohort to itself, or ranks train something else.
        """
        with ExitStack() as stack:
            with self._lock(_LOCK_SEC):
                present = self._roll.list_present()
                for path in self._roll.select_others(present):
                    raise UserError(
                        f"{self.first.cohort_path}: this host has other code, data, params.yaml "
                        f"or pool than a rank that is training it ({path})"
                    )
                stack.enter_context(self._roll.join(index))
                if not self.is_published():
                    self._make_directories(drops_others=not present)
                    if not present and not is_restart:
                        self._forget_failures()
            yield

    def is_published(self) -> bool:
        """Tell whether ranks put these very instances together, and nobody made others since."""
        task, note = self.first, self._published_file
        look_anew(note.parent)
        manifest = get_cohort_directory(task.root, task.cohort_path) / COHORT_FILE
        if not note.exists() or not manifest.exists():
            return False
        return read_json(note) == {"identity": self._identity, "manifest": hash_file(manifest)}

    def try_publish(self) -> bool:
        """Publish as one of several ranks; tell False when another rank is at it."""
        try:
            with self._lock(wait_sec=0):
                if not self.is_published():
                    self.publish(leaves_note=True)
        except TakenError:
            return False
        return True

    def list_failures(self) -> dict[int, str]:
        """List what failed on any rank, by instance."""
        notes = {entry.task.instance: entry.failure_file for entry in self.assignments}
        return {
            instance: str(read_json(path)["text"])
            for instance, path in notes.items()
            if path.exists()
        }

    def publish(self, *, leaves_note: bool = False) -> None:
        """Put the finished instances together into the cohort's directory; drop the states.

        Args:
            leaves_note: for ranks that come later.

        Raises:
            UserError: when other code was noted meanwhile; the states stay.
        """
        task = self.first
        check_fingerprint(task.root, task.cohort_path, task.code)
        directory = get_cohort_directory(task.root, task.cohort_path)
        publish_directory(directory, self._assemble)
        if leaves_note:
            manifest = hash_file(directory / COHORT_FILE)
            write_json(self._published_file, {"identity": self._identity, "manifest": manifest})
        # a rank that comes too late may look into it at this moment; what stays is dropped later
        shutil.rmtree(_get_cohort_state(task), ignore_errors=True)

    @property
    def _identity(self) -> str:
        identities = "".join(entry.task.compute_identity() for entry in self.assignments)
        return hashlib.sha256(identities.encode()).hexdigest()

    @property
    def _roll(self) -> Roll:
        return Roll(get_locks_directory(_get_cohort_state(self.first)), self._identity)

    @property
    def _published_file(self) -> Path:
        root = _get_cohort_state(self.first)
        return root.with_name(f"{root.name}.published.json")

    @contextmanager
    def _lock(self, wait_sec: float) -> Iterator[None]:
        """Be the one process that decides over the cohort; raises TakenError otherwise."""
        lock = _get_cohort_state(self.first).with_suffix(".lock")
        with ExitStack() as stack:
            try:
                stack.enter_context(claim(lock, wait_sec))
            except TakenError:
                self._refuse(lock)
            yield

    def _refuse(self, lock: Path) -> NoReturn:
        raise TakenError(
            f"{self.first.cohort_path}: another process is training this cohort ({lock})"
        )

    def _make_directories(self, *, drops_others: bool = True) -> None:
        """Make the directories of the instances.

        Args:
            drops_others: remove those of trainings that depended on something else than these do.
        """
        directories = [entry.directory for entry in self.assignments]
        if drops_others:
            for path in sorted(_get_cohort_state(self.first).glob("*")):
                if path not in directories:
                    shutil.rmtree(path)
        for path in directories:
            path.mkdir(parents=True, exist_ok=True)

    def _forget_failures(self) -> None:
        for entry in self.assignments:
            entry.failure_file.unlink(missing_ok=True)

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
        UserError: when an instance failed (the others were trained to their end first), or other
            code was noted meanwhile.
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
    errors = {**outcome.taken, **outcome.errors}
    if errors:
        instance, message = min(errors.items())
        raise UserError(f"{task.cohort_path}/{instance}: {message}")


def _get_cohort_state(task: TrainingTask) -> Path:
    return get_state_directory(task.root) / "resume" / f"{task.kind}-{task.name}"
