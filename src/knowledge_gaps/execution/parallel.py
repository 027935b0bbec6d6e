"""Worker processes: a fork server that imports once, and a function over items on all cores."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext
from typing import TypeVar

from knowledge_gaps.core.determinism import configure_process
from knowledge_gaps.core.devices import (
    WORKERS_VARIABLE,
    count_gpus,
    count_workers,
    keep_freed_memory,
)
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.execution.quick_start import collect_as_usual

_FIRST = "knowledge_gaps.execution.quick_server"

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def start_fork_server(preload: Sequence[str]) -> ForkServerContext:
    """Start the process that workers are forked from.

    It has no threads and has run nothing, so forking it is safe; what it imports, it imports once
    for all workers.

    Args:
        preload: modules to import; only the first call of a process decides.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([_FIRST, *preload])
    # Ctrl-C reaches the server too, which would die of it in the middle of its imports. It inherits
    # that the signal has to wait; to this process it comes a moment later.
    resource_tracker.ensure_running()  # started by the next call otherwise, which ends the waiting
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


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
        items: what it is applied to, one after the other on each worker.
        preload: module that is imported once, before the workers are forked.
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
    with ProcessPoolExecutor(
        num_workers or count_workers(len(items), use_gpus=False),
        mp_context=start_fork_server([preload]),
        initializer=_configure_worker,
    ) as pool:
        try:
            yield from pool.map(function, items)
        except BrokenProcessPool as error:
            raise UserError(
                "a worker's process ended by itself (often too little memory; "
                f"{WORKERS_VARIABLE}=1 needs less); the same command goes on"
            ) from error


def _configure_worker() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # it waits in the server
    collect_as_usual()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    configure_process()
    keep_freed_memory()


def _end_with_parent() -> None:
    """End this worker when its parent was killed; it would wait for items for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
