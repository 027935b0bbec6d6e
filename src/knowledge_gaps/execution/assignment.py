"""One instance with the files of its training, and how a process trains it.

Every process that trains an instance holds its lock, which a kill frees. It appends its progress to
a file for the process that shows it, across processes and hosts alike.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from filelock import FileLock, Timeout

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import hash_file, read_json
from knowledge_gaps.core.layout import META_FILE, get_instance_directory, get_state_directory
from knowledge_gaps.training.task import TrainingTask

LOCK_SEC = 30.0  # a process that was told to stop saves its state within this time

_REPORT_SEC = 0.5

Row = dict[str, float]
# gets an instance, its steps so far, and a row of its curves if one was finished
Callback = Callable[[int, int, Row | None], None]


class LockedError(UserError):
    """Another process holds a lock."""


@dataclass(frozen=True)
class Assignment:
    """A training task with the files of its state and result."""

    task: TrainingTask

    @cached_property
    def directory(self) -> Path:
        """Directory named by the instance and a hash of all that its result depends on."""
        name = f"{self.task.instance}-{self.task.compute_identity()[:16]}"
        return get_cohort_state(self.task) / name

    @property
    def result(self) -> Path:
        """Directory of the result files."""
        return self.directory / "result"

    @property
    def state_file(self) -> Path:
        """File of the resume state."""
        return self.directory / "state.safetensors"

    @property
    def progress_file(self) -> Path:
        """File that the progress is appended to."""
        return self.directory / "progress.jsonl"

    def find_result(self) -> Path | None:
        """Return the directory of the finished files, in the state or published; None before."""
        if (self.result / META_FILE).exists():  # written last
            return self.result
        task, record = self.task, get_cohort_file(self.task, ".json")
        published = get_instance_directory(task.root, task.cohort_path, task.instance)
        if not record.exists() or not (published / META_FILE).exists():
            return None
        is_this = read_json(record).get(self.directory.name) == hash_file(published / META_FILE)
        return published if is_this else None


def train_assignment(
    assignment: Assignment,
    worker: int,
    is_stopping: Callable[[], bool],
    callbacks: Sequence[Callback] = (),
    announce: Callable[[], object] | None = None,
) -> None:
    """Train or resume one instance in this process; nothing happens when it is trained already.

    The worker's index decides its GPU; `announce` is called just before a training. Raises
    StoppedError, its state saved, UserError when it failed, and LockedError.
    """
    from knowledge_gaps.training.instance import train_instance

    lock = get_cohort_file(assignment.task, ".locks") / f"{assignment.task.instance}.lock"
    with hold_lock(lock, "another process trains it"):
        if assignment.find_result() is not None:
            return
        shutil.rmtree(assignment.result, ignore_errors=True)  # of a process killed while writing
        task, progress_file = assignment.task, assignment.progress_file
        if announce is not None:
            announce()
        reporter = Reporter(task.instance, progress_file, is_stopping, callbacks)
        train_instance(task, worker, assignment.result, assignment.state_file, reporter)


def get_cohort_state(task: TrainingTask) -> Path:
    """Directory of the states of a task's cohort, a directory for each instance."""
    return get_state_directory(task.root) / "resume" / f"{task.kind}-{task.name}"


def get_cohort_file(task: TrainingTask, ending: str) -> Path:
    """File beside the states of a cohort: its ".lock"; ".json", the hashes of what is published."""
    state = get_cohort_state(task)
    return state.with_name(f"{state.name}{ending}")


@contextmanager
def hold_lock(file: Path, refusal: str) -> Iterator[None]:
    """Hold a lock file; raises LockedError, UserError on a disk without locks."""
    lock = FileLock(file, timeout=LOCK_SEC, fallback_to_soft=False)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise LockedError(f"{refusal} ({file} is locked)") from error
    except OSError as error:
        raise UserError(f"{file}: cannot be locked ({error.strerror or error})") from error
    try:
        yield
    finally:
        lock.release()


class Reporter:
    """A `training.loop.Session` that calls callbacks and appends to the file, if there is one."""

    def __init__(
        self,
        instance: int,
        file: Path | None,
        is_stopping: Callable[[], bool],
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self._instance, self._file = instance, file
        self.is_stopping, self._callbacks = is_stopping, callbacks
        self._reported_at = -_REPORT_SEC
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)

    def report(self, step: int, row: Row | None) -> None:
        """Report how many steps are done, and the newest row of the curves if there is one."""
        now = time.monotonic()
        if row is None and now - self._reported_at < _REPORT_SEC:
            return
        self._reported_at = now
        for callback in self._callbacks:
            callback(self._instance, step, row)
        if self._file is not None:
            with suppress(OSError), self._file.open("a") as file:  # a full disk stops no training
                file.write(f"{json.dumps([step, row])}\n")


class ProgressReader:
    """Passes on what is appended, from now on, to the progress files of instances."""

    def __init__(self, files: Mapping[int, Path], callbacks: Sequence[Callback]) -> None:
        self._files, self._callbacks = files, callbacks
        self._offsets = {instance: _get_size(path) for instance, path in files.items()}

    def poll(self) -> None:
        """Read what is new, and call the callbacks."""
        for instance, path in self._files.items():
            if _get_size(path) <= self._offsets[instance]:
                continue
            with path.open("rb") as file:
                file.seek(self._offsets[instance])
                whole, end, _ = file.read().rpartition(b"\n")  # the last line may be half written
            self._offsets[instance] += len(whole + end)
            for line in whole.splitlines():
                with suppress(ValueError):  # a line that a full disk cut
                    step, row = json.loads(line)
                    for callback in self._callbacks:
                        callback(instance, step, row)


def _get_size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
