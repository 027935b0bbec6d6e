"""Worker processes of this machine: they train instances, or apply a function to items.

Workers ignore signals: they stop when this process closes a pipe, which its death does as well. (A
shared Event would not do: a killed worker could leave its lock taken.)
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.sharedctypes import Synchronized
from typing import TypeVar

from knowledge_gaps.core.determinism import configure_process
from knowledge_gaps.core.devices import count_gpus, count_workers
from knowledge_gaps.core.errors import StoppedError, UserError
from knowledge_gaps.core.instance import Instance
from knowledge_gaps.core.signals import StopFlag
from knowledge_gaps.execution.assignment import Assignment, Callback, ProgressReader, try_training

KILLED = (
    "a worker process was killed (often too little memory; KGAPS_WORKERS=1 needs less); "
    "the same command resumes"
)

# imported once for all workers; the first optimizer of a process imports torch._dynamo
PRELOAD = ("knowledge_gaps.training.instance", "torch._dynamo")
_POLL_SEC = 0.1

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

Executor = Callable[[Sequence[Assignment], Callback, StopFlag], dict[Instance, str]]
"""How the trainings of a cohort are run: on this machine, on a cluster, or by several ranks.

It gets instances that are not trained yet, at least one, all of one cohort. It lets each be trained
by `train_assignment`, in any process that shares the disk, and passes their progress on to the
callback (`ProgressReader`). An instance that fails does not end the others: it returns why each
failed, in one line, by instance. It asks the stop a few times a second: when it is set, states are
saved, nothing further is started, and StoppedError is raised.
"""


class _Worker:
    """This process, if it is a worker."""

    index = 0  # of the worker; decides the GPU
    stopping = threading.Event()  # set when the worker has to stop
    busy = threading.Lock()  # held while something must not be cut off; the worker stops after that


WORKER = _Worker()


def start_fork_server(preload: Sequence[str]) -> ForkServerContext:
    """Start what workers are forked from, if there is none, with modules that are preloaded."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: it survives Ctrl-C
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)
    return context


@contextmanager
def open_pool(
    num_workers: int, preload: Sequence[str]
) -> Iterator[tuple[ProcessPoolExecutor, Callable[[], None]]]:
    """Open a pool of workers; yield it with a function that tells all workers to stop.

    Stopped work fails with BrokenProcessPool. An exception in the block kills the workers.
    """
    context = start_fork_server(preload)
    reader, writer = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(
        num_workers,
        mp_context=context,
        initializer=_initialize_worker,
        initargs=(reader, context.Value("i", 0)),
    )
    try:
        yield pool, writer.close
    except BaseException:
        for process in multiprocessing.active_children():
            process.kill()
        raise
    finally:
        pool.shutdown()
        writer.close()
        reader.close()


def map_parallel(
    function: Callable[[_Item], _Result],
    items: Sequence[_Item],
    preload: str,
    uses_gpu: bool = False,
    num_workers: int | None = None,
) -> Iterator[_Result]:
    """Apply a function of a module to items, and yield the results in order.

    Workers import the module `preload` once. A function that `uses_gpu` is applied in this process
    where there is a GPU. Raises UserError when a worker was killed.
    """
    if not items:
        return
    if uses_gpu and count_gpus() > 0:
        configure_process()
        yield from map(function, items)
        return
    count = num_workers or count_workers(len(items), use_gpus=False)
    try:
        with open_pool(count, [preload]) as (pool, _):
            futures = [pool.submit(function, item) for item in items]
            pool.submit(int)  # see run_local
            while futures:
                yield futures.pop(0).result()
    except BrokenProcessPool as error:
        raise UserError(KILLED) from error


def _initialize_worker(reader: Connection, counter: Synchronized[int]) -> None:
    """Prepare a worker; Ctrl-C reaches it too, and is left to the parent process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    configure_process()
    with counter.get_lock():
        WORKER.index = counter.value
        counter.value += 1
    threading.Thread(target=_stop_with_parent, args=(reader,), daemon=True).start()


def _stop_with_parent(reader: Connection) -> None:
    """Wait until the parent process closes its end of the pipe, or dies; then end this process."""
    reader.poll(None)
    WORKER.stopping.set()
    WORKER.busy.acquire()
    os._exit(1)


def run_local(
    assignments: Sequence[Assignment], callback: Callback, stop: StopFlag
) -> dict[Instance, str]:
    """Train instances side by side on this machine, until one worker is killed; an `Executor`."""
    progress = ProgressReader(assignments, callback)
    futures: dict[Instance, Future[str | None]] = {}
    with open_pool(count_workers(len(assignments)), PRELOAD) as (pool, stop_workers):
        with suppress(BrokenProcessPool):  # a worker was killed while it started
            for entry in assignments:
                futures[entry.instance] = pool.submit(_train, entry)
            # the pool's thread waits for the workers that it knew of at the last submission but
            # one: without this one it may miss the death of the worker that started last
            pool.submit(int)
        # Ctrl-C while this thread waits for a future itself could leave the future's lock taken
        while not all(future.done() for future in futures.values()):
            progress.poll()
            if stop.is_set():
                stop_workers()
            time.sleep(_POLL_SEC)
        texts = {i: future.result() for i, future in futures.items() if not future.exception()}
        if len(texts) < len(assignments):  # an idle worker may wait for a lock of a killed one
            stop_workers()
    progress.poll()
    if stop.is_set():
        raise StoppedError
    missing = [entry.instance for entry in assignments if not entry.is_finished]
    return {instance: texts.get(instance) or KILLED for instance in missing}


def _train(entry: Assignment) -> str | None:
    with WORKER.busy:
        if WORKER.stopping.is_set():  # the worker is about to end
            return None
        return try_training(entry, WORKER.index, WORKER.stopping.is_set)
