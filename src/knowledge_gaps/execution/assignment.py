"""A task with the directory it is trained in, as it is handed to whoever trains it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from knowledge_gaps.core.layout import META_FILE
from knowledge_gaps.execution.claims import CLAIM_SEC, TakenError, claim, look_anew
from knowledge_gaps.execution.task import TrainingTask


@dataclass(frozen=True)
class Assignment:
    """A task, and the directory of its resume state and result.

    Attributes:
        task: what to train.
        directory: made by whoever hands out the assignment, removed with the cohort's states.
        wait_sec: how long to wait for another process that is training this instance.
    """

    task: TrainingTask
    directory: Path
    wait_sec: float = CLAIM_SEC

    @property
    def result(self) -> Path:
        """Directory of the result files."""
        return self.directory / "result"

    @property
    def state_file(self) -> Path:
        """File of the resume state."""
        return self.directory / "state.safetensors"

    @property
    def failure_file(self) -> Path:
        """Note of a failure, for ranks that share a disk."""
        return self.directory / "failure.json"

    @property
    def claim_file(self) -> Path:
        """Lock file of whoever trains the instance; not in a directory that may be removed."""
        return get_locks_directory(self.directory.parent) / f"instance-{self.task.instance}.lock"

    def is_finished(self) -> bool:
        """Tell whether the result is whole: its meta.json is written last."""
        return (self.result / META_FILE).exists()

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Keep other processes off the instance, and drop the half of a result if one is there.

        Raises:
            TakenError: when another process trains it, or its cohort was put together already.
        """
        with claim(self.claim_file, self.wait_sec):
            try:
                look_anew(self.directory)
                self.result.mkdir(exist_ok=True)
                look_anew(self.result)
            except FileNotFoundError as error:
                raise TakenError("another process has finished the cohort") from error
            if not self.is_finished():  # what a killed process left
                shutil.rmtree(self.result)
                self.result.mkdir()
            yield


def get_locks_directory(cohort_state: Path) -> Path:
    """Directory of the lock files of a cohort, beside that of its states."""
    return cohort_state.with_name(f"{cohort_state.name}.locks")


Group = tuple[Assignment, ...]  # of one cohort, at least one
