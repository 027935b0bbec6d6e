"""The instances of a cohort side by side: one process a core (or GPU), one thread a process.

The parent hands out instances one by one, shows progress, passes rows on to a listener, and puts
the finished instances together into the cohort's directory. It runs no tensor operation: a clean
server process imports torch, once, and the workers are forked from it.

Nothing that happens here changes an instance's bytes.
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from knowledge_gaps.runtime.devices import count_workers
from knowledge_gaps.runtime.errors import StoppedError, UserError
from knowledge_gaps.runtime.files import hash_file, publish_directory, write_json
from knowledge_gaps.runtime.layout import (
    COHORT_FILE,
    META_FILE,
    get_cohort_directory,
    get_state_directory,
)
from knowledge_gaps.runtime.parallel import start_fork_server
from knowledge_gaps.runtime.signals import StopFlag, catch_stop_signals
from knowledge_gaps.training.task import TrainingTask
from knowledge_gaps.training.worker import Assignment, Message, MessageKind, run_worker

_PRELOAD = ("knowledge_gaps.training.instance", "accelerate")
_POLL_SEC = 0.5
_LOCK_SEC = 30.0  # how long a run that was told to stop may take to save its state


class Listener(Protocol):
    """Who is told what happens to the instances."""

    def report(self, instance: int, step: int, row: dict[str, float] | None) -> None:
        """Take note of an instance's progress, and of the newest row of its curves if any."""
        ...


@dataclass
class _Outcome:
    num_finished: int = 0
    errors: dict[int, str] = field(default_factory=dict)
    stopped: bool = False


def train_cohort(tasks: Sequence[TrainingTask], listeners: Sequence[Listener]) -> None:
    """Train all instances of a cohort and publish its directory.

    Instances that an earlier, interrupted call finished are kept, others resume.

    Args:
        tasks: of one cohort, all instances, in order.
        listeners: told of every instance's progress.

    Raises:
        StoppedError: when the process was told to stop; all states are saved.
        UserError: when an instance failed; the others were trained to their end first.
    """
    first = tasks[0]
    cohort_state = get_state_directory(first.root) / "resume" / f"{first.kind}-{first.name}"
    with _hold_lock(cohort_state.with_suffix(".lock"), first.cohort_path):
        directories = [
            cohort_state / f"{task.instance}-{task.compute_identity()[:16]}" for task in tasks
        ]
        _drop_others(cohort_state, directories)
        outcome = _run_workers(tasks, directories, listeners)
        if outcome.stopped:
            raise StoppedError(f"{first.cohort_path}: state saved, the same command resumes")
        if outcome.errors:
            instance, message = min(outcome.errors.items())
            raise UserError(f"{first.cohort_path}/{instance}: {message}")
        publish_directory(
            get_cohort_directory(first.root, first.cohort_path),
            lambda target: _assemble(tasks, directories, target),
        )
        shutil.rmtree(cohort_state)


@contextmanager
def _hold_lock(path: Path, cohort: str) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=_LOCK_SEC):
            yield
    except Timeout as error:
        raise UserError(f"{cohort}: another process is training this cohort ({path})") from error


def _drop_others(cohort_state: Path, directories: Sequence[Path]) -> None:
    """Remove the states of trainings that depended on something else than these do.

    A result without its meta.json, which is written last, is what a killed worker left.
    """
    for path in sorted(cohort_state.glob("*")):
        if path not in directories:
            shutil.rmtree(path)
    for directory in directories:
        result = directory / "result"
        if not (result / META_FILE).exists():
            shutil.rmtree(result, ignore_errors=True)
        result.mkdir(parents=True, exist_ok=True)


def _assemble(tasks: Sequence[TrainingTask], directories: Sequence[Path], target: Path) -> None:
    instances = []
    for task, directory in zip(tasks, directories, strict=True):
        shutil.copytree(directory / "result", target / str(task.instance))
        sha256 = hash_file(target / str(task.instance) / META_FILE)
        instances.append({"instance": task.instance, "sha256": sha256})
    manifest = {"format": 1, "kind": tasks[0].kind.value, "cohort": tasks[0].name}
    write_json(target / COHORT_FILE, {**manifest, "instances": instances})


def _run_workers(
    tasks: Sequence[TrainingTask], directories: Sequence[Path], listeners: Sequence[Listener]
) -> _Outcome:
    outcome = _Outcome()
    waiting: deque[Assignment] = deque()
    for task, directory in zip(tasks, directories, strict=True):
        if (directory / "result" / META_FILE).exists():
            outcome.num_finished += 1
            _tell(listeners, Message(MessageKind.PROGRESS, task.instance, task.recipe.steps))
        else:
            waiting.append(Assignment(task, directory))
    if waiting:
        num_workers = count_workers(len(waiting))
        with catch_stop_signals() as stop:
            context = start_fork_server(_PRELOAD)
            workers = [_start_worker(context, index) for index in range(num_workers)]
            _serve(workers, waiting, outcome, listeners, stop)
    return outcome


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    instance: int | None = None  # what it is training now


def _start_worker(context: ForkServerContext, index: int) -> _Worker:
    connection, far_end = context.Pipe()
    process = context.Process(target=run_worker, args=(index, far_end), daemon=True)
    process.start()
    far_end.close()
    return _Worker(process, connection)


def _serve(
    workers: list[_Worker],
    waiting: deque[Assignment],
    outcome: _Outcome,
    listeners: Sequence[Listener],
    stop: StopFlag,
) -> None:
    """Hand out assignments and listen until every worker has ended."""
    for worker in workers:
        _assign(worker, waiting)
    told_to_stop = False
    while workers:
        ready = wait([worker.connection for worker in workers], timeout=_POLL_SEC)
        for worker in [worker for worker in workers if worker.connection in ready]:
            try:
                message: Message = worker.connection.recv()
            except (EOFError, ConnectionResetError):
                workers.remove(worker)
                _note_end(worker, outcome)
                continue
            _take_note(message, outcome, listeners)
            if message.kind is not MessageKind.PROGRESS:
                _assign(worker, waiting)
        if stop.is_set() and not told_to_stop:
            told_to_stop = True
            waiting.clear()
            outcome.stopped = True
            for worker in workers:
                _send(worker, None)


def _assign(worker: _Worker, waiting: deque[Assignment]) -> None:
    assignment = waiting.popleft() if waiting else None
    worker.instance = None if assignment is None else assignment.task.instance
    _send(worker, assignment)


def _send(worker: _Worker, assignment: Assignment | None) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):  # it has just ended; `recv` will tell
        worker.connection.send(assignment)


def _take_note(message: Message, outcome: _Outcome, listeners: Sequence[Listener]) -> None:
    if message.kind is MessageKind.PROGRESS:
        _tell(listeners, message)
    elif message.kind is MessageKind.FINISHED:
        outcome.num_finished += 1
    elif message.kind is MessageKind.FAILED:
        outcome.errors[message.instance] = message.text


def _note_end(worker: _Worker, outcome: _Outcome) -> None:
    worker.process.join()
    if worker.instance is not None and not outcome.stopped:
        outcome.errors.setdefault(
            worker.instance,
            f"its process ended by itself (exit code {worker.process.exitcode}; -9 is often too "
            "little memory); the same command resumes",
        )


def _tell(listeners: Sequence[Listener], message: Message) -> None:
    for listener in listeners:
        listener.report(message.instance, message.step, message.row)
