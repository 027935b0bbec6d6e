"""Worker processes of this machine, and a function over items on all cores.

Workers ignore signals: this process decides when they stop. It does so by closing a pipe, which
its death does as well. (A shared Event would not do: a killed worker could leave its lock taken.)
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.sharedctypes import Synchronized
from typing import TypeVar

from knowledge_gaps.core.determinism import configure_process
from knowledge_gaps.core.devices import count_gpus, count_workers
from knowledge_gaps.core.errors import UserError

KILLED = (
    "a worker process was killed (often too little memory; KGAPS_WORKERS=1 needs less); "
    "the same command resumes"
)

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class _Worker:
    """This process, if it is a worker."""

    index = 0  # of the worker; decides the GPU
    stopping = threading.Event()  # set when the worker has to stop
    busy = threading.Lock()  # held while something must not be cut off; the worker stops after that


WORKER = _Worker()


def start_fork_server(preload: Sequence[str]) -> ForkServerContext:
    """Start the process that workers are forked from, if there is none yet.

    It imports the modules to preload once for all of them.
    """
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

    A worker that stops ends its process, so what it worked at fails with BrokenProcessPool. An
    exception in the block kills the workers.
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
    """Apply a function to items, one process a core, and yield the results in order.

    Args:
        function: of a module, so that a worker finds it by name.
        items: what it is applied to.
        preload: module that is imported once for all workers.
        uses_gpu: the function runs on a GPU where there is one (`devices.find_device`); it is then
            applied in this process, for one keeps a GPU busy.
        num_workers: how many processes; None for one a core.

    Raises:
        UserError: when a worker was killed.
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
