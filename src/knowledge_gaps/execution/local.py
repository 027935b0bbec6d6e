"""Trainings of a cohort on this machine: one process a core, or a GPU, each one instance at a time.

This process runs no tensor operation. It hands out instances as workers get free.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from knowledge_gaps.core.devices import count_workers
from knowledge_gaps.core.errors import StoppedError, UserError
from knowledge_gaps.core.signals import StopFlag
from knowledge_gaps.execution.assignment import Assignment, train_assignment
from knowledge_gaps.execution.parallel import KILLED, WORKER, open_pool
from knowledge_gaps.execution.progress import Callback, ProgressReader

# imported once for all workers; the first optimizer of a process imports torch._dynamo
PRELOAD = ("knowledge_gaps.training.instance", "torch._dynamo")
_POLL_SEC = 0.2


@dataclass
class Outcome:
    """What came of the trainings of a cohort.

    Attributes:
        errors: why an instance failed or was cut off, one line, by instance.
        stopped: the trainings were told to stop; all states are saved.
    """

    errors: dict[int, str] = field(default_factory=dict)
    stopped: bool = False


Executor = Callable[[Sequence[Assignment], Sequence[Callback], StopFlag], Outcome]
"""How the trainings of a cohort are run: on this machine, on a cluster, or by several ranks.

It gets instances that are not trained yet, at least one, all of one cohort. It lets each be trained
by `train_assignment`, in any process that shares the disk, passes their progress on to the
callbacks (`ProgressReader`), and asks the stop a few times a second: when it is set, states are
saved and nothing further is started. An instance that fails does not end the others.
"""


def run_local(
    assignments: Sequence[Assignment], callbacks: Sequence[Callback], stop: StopFlag
) -> Outcome:
    """Train instances side by side on this machine; an `Executor`.

    A killed worker ends all trainings: the others save their states first.
    """
    outcome = Outcome()
    files = {entry.task.instance: entry.progress_file for entry in assignments}
    progress = ProgressReader(files, callbacks)
    with open_pool(count_workers(len(assignments)), PRELOAD) as (pool, stop_workers):
        futures = {_submit(pool, entry): entry for entry in assignments}
        # Ctrl-C while this thread waits for a future itself could leave the future's lock taken
        ended: SimpleQueue[Future[None]] = SimpleQueue()
        for future in futures:
            future.add_done_callback(ended.put)
        num_waiting, is_killed = len(futures), False
        while num_waiting > 0:
            progress.poll()
            if stop.is_set():
                outcome.stopped = True
            if outcome.stopped or is_killed:
                stop_workers()
            with suppress(Empty):
                future = ended.get(timeout=_POLL_SEC)
                is_killed |= _note_end(future, futures[future], outcome)
                num_waiting -= 1
        if is_killed:  # an idle worker may wait for a lock that the killed one had
            stop_workers()
    progress.poll()
    if is_killed:
        for entry in assignments:
            if entry.find_result() is None:
                outcome.errors.setdefault(entry.task.instance, KILLED)
    return outcome


def _submit(pool: ProcessPoolExecutor, entry: Assignment) -> Future[None]:
    try:
        return pool.submit(_train, entry)
    except BrokenProcessPool as error:  # a worker was killed while it started
        future: Future[None] = Future()
        future.set_exception(error)
        return future


def _train(entry: Assignment) -> None:
    with WORKER.busy:
        if WORKER.stopping.is_set():  # the worker is about to end
            raise StoppedError(entry.task.path)
        train_assignment(entry, WORKER.index, WORKER.stopping.is_set)


def _note_end(future: Future[None], entry: Assignment, outcome: Outcome) -> bool:
    """Add an instance's error to the outcome; tell whether a worker was killed."""
    error = future.exception()
    if isinstance(error, BrokenProcessPool):
        return not outcome.stopped
    if error is not None and not isinstance(error, StoppedError):
        outcome.errors[entry.task.instance] = describe_error(error)
    return False


def describe_error(error: BaseException) -> str:
    """Put an error into one line; the traceback of an unexpected one is printed."""
    if isinstance(error, UserError):
        return str(error)
    traceback.print_exception(error)
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
