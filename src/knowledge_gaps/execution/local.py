"""Trainings of a cohort on this machine: one process a core, or a GPU, each one instance at a time.

This process runs no tensor operation. It hands out instances as workers get free.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
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


Executor = Callable[[Sequence[Assignment], Sequence[Callback], StopFlag], dict[int, str]]
"""How the trainings of a cohort are run: on this machine, on a cluster, or by several ranks.

It gets instances that are not trained yet, at least one, all of one cohort. It lets each be trained
by `train_assignment`, in any process that shares the disk, and passes their progress on to the
callbacks (`ProgressReader`). An instance that fails does not end the others: it returns why each
failed, in one line, by instance. It asks the stop a few times a second: when it is set, states are
saved, nothing further is started, and StoppedError is raised.
"""


def run_local(
    assignments: Sequence[Assignment], callbacks: Sequence[Callback], stop: StopFlag
) -> dict[int, str]:
    """Train instances side by side on this machine; an `Executor`.

    A killed worker ends all trainings: the others save their states first.
    """
    files = {entry.task.instance: entry.progress_file for entry in assignments}
    progress, is_killed = ProgressReader(files, callbacks), False
    errors: dict[int, str] = {}
    with open_pool(count_workers(len(assignments)), PRELOAD) as (pool, stop_workers):
        futures = {_submit(pool, entry): entry.task.instance for entry in assignments}
        # Ctrl-C while this thread waits for a future itself could leave the future's lock taken
        ended: SimpleQueue[Future[None]] = SimpleQueue()
        for future in futures:
            future.add_done_callback(ended.put)
        while futures:
            progress.poll()
            if stop.is_set() or is_killed:
                stop_workers()
            with suppress(Empty):
                future = ended.get(timeout=_POLL_SEC)
                error, instance = future.exception(), futures.pop(future)
                if isinstance(error, BrokenProcessPool):
                    is_killed = True
                elif error is not None and not isinstance(error, StoppedError):
                    errors[instance] = describe_error(error)
        if is_killed:  # an idle worker may wait for a lock that the killed one had
            stop_workers()
    progress.poll()
    if stop.is_set():
        raise StoppedError
    if is_killed:
        killed = [entry.task.instance for entry in assignments if entry.find_result() is None]
        errors = {**dict.fromkeys(killed, KILLED), **errors}
    return errors


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


def describe_error(error: BaseException) -> str:
    """Put an error into one line; the traceback of an unexpected one is printed."""
    if isinstance(error, UserError):
        return str(error)
    traceback.print_exception(error)
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
