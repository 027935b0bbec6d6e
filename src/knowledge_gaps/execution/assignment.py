"""One instance with the files of its training, and how a process trains it.

Every process that trains an instance holds its lock, which a kill frees. It appends its progress to
a file for the process that shows it, across processes and hosts alike.
"""

from __future__ import annotations

import json
import shutil
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from filelock import FileLock, Timeout

from knowledge_gaps.core.errors import StoppedError, UserError
from knowledge_gaps.core.instance import Instance
from knowledge_gaps.core.layout import META_FILE, RESULT, get_trainings
from knowledge_gaps.training.task import Row, Session, TrainingTask

LOCK_SEC = 30.0  # a process that was told to stop saves its state within this time

_REPORT_SEC = 0.5

# gets an instance, its steps so far, and a row of its curves if one was finished
Callback = Callable[[Instance, int, Row | None], None]


class LockedError(UserError):
    """Another process holds a lock."""


def name_training(instance: Instance, identity: str) -> str:
    """Name the directory of a training by the sha256 of all that its result depends on."""
    return f"{instance.file_name}-{identity[:16]}"


@dataclass(frozen=True)
class Assignment(TrainingTask):
    """A training task with the files of its state and result."""

    @property
    def cohort_state(self) -> Path:
        """Directory of the cohort's trainings, a directory for each."""
        return get_trainings(self.root, self.kind, self.name)

    @cached_property
    def directory(self) -> Path:
        """Directory named by the instance and a hash of all that its result depends on."""
        return self.cohort_state / name_training(self.instance, self.compute_identity())

    @property
    def result(self) -> Path:
        """Directory of the result files."""
        return self.directory / RESULT

    @property
    def state_file(self) -> Path:
        """File of the state that an unfinished training is resumed from."""
        return self.directory / "state.safetensors"

    @property
    def progress_file(self) -> Path:
        """File that the progress is appended to."""
        return self.directory / "progress.jsonl"

    @property
    def is_finished(self) -> bool:
        """Whether it is trained."""
        return (self.result / META_FILE).exists()  # written last

    def get_lock(self, name: str) -> Path:
        """Lock file of an instance, or of the cohort as a whole."""
        return self.cohort_state.with_name(f"{self.cohort_state.name}.locks") / f"{name}.lock"

    def train(self, worker: int, session: Session) -> None:
        """Train or resume it by this process, whose index as a worker decides the GPU.

        Raises StoppedError, its state saved, and UserError.
        """
        from knowledge_gaps.training.instance import train_instance

        train_instance(self, worker, self.result, self.state_file, session)


def train_assignment(
    entry: Assignment,
    worker: int,
    is_stopping: Callable[[], bool],
    callback: Callback | None = None,
    announce: Callable[[], object] | None = None,
) -> None:
    """Train one instance under its lock; nothing happens when it is trained already.

    `announce` is called just before a training. Raises as `Assignment.train`, and LockedError.
    """
    lock = entry.get_lock(entry.instance.file_name)
    with hold_lock(lock, "another process trains it"):
        if entry.is_finished:
            return
        shutil.rmtree(entry.result, ignore_errors=True)  # of a process killed while writing
        if announce is not None:
            announce()
        entry.train(worker, Reporter(entry, is_stopping, callback))
        entry.state_file.unlink(missing_ok=True)


def try_training(entry: Assignment, worker: int, is_stopping: Callable[[], bool]) -> str | None:
    """Train one instance as `train_assignment`; return why that failed, in one line.

    The traceback of an error that is not expected is printed.
    """
    try:
        train_assignment(entry, worker, is_stopping)
    except StoppedError:
        return None
    except UserError as error:
        return str(error)
    except Exception as error:
        traceback.print_exception(error)
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return None


@contextmanager
def hold_lock(file: Path, refusal: str) -> Iterator[None]:
    """Hold a lock file; raises LockedError, UserError on a disk without locks."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file, timeout=LOCK_SEC, fallback_to_soft=False).acquire()
    except Timeout as error:
        raise LockedError(f"{refusal} ({file} is locked)") from error
    except OSError as error:
        raise UserError(f"{file}: cannot be locked ({error.strerror or error})") from error
    with lock:
        yield


class Reporter(Session):
    """Calls back, now and then and with every row, and appends to the instance's progress file."""

    def __init__(
        self, entry: Assignment, is_stopping: Callable[[], bool], callback: Callback | None = None
    ) -> None:
        super().__init__(is_stopping)
        self._instance, self._file, self._callback = entry.instance, entry.progress_file, callback
        self._reported_at = -_REPORT_SEC
        self._file.parent.mkdir(parents=True, exist_ok=True)

    def report(self, step: int, row: Row | None) -> None:
        """Report how many steps are done, and the newest row of the curves if there is one."""
        now = time.monotonic()
        if row is None and now - self._reported_at < _REPORT_SEC:
            return
        self._reported_at = now
        if self._callback is not None:
            self._callback(self._instance, step, row)
        with suppress(OSError), self._file.open("a") as file:  # a full disk stops no training
            file.write(f"{json.dumps([step, row])}\n")


class ProgressReader:
    """Passes on what is appended, from now on, to the progress files of instances."""

    def __init__(self, entries: Sequence[Assignment], callback: Callback) -> None:
        self._files = {entry.instance: entry.progress_file for entry in entries}
        self._offsets = {instance: _get_size(path) for instance, path in self._files.items()}
        self._callback = callback

    def poll(self) -> None:
        """Read what is new, and call back with it."""
        for instance, path in self._files.items():
            if _get_size(path) <= self._offsets[instance]:
                continue
            with path.open("rb") as file:
                file.seek(self._offsets[instance])
                whole, end, _ = file.read().rpartition(b"\n")  # the last line may be half written
            self._offsets[instance] += len(whole + end)
            for line in whole.splitlines():
                with suppress(ValueError):  # a line that a full disk cut
                    self._callback(instance, *json.loads(line))


def _get_size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
