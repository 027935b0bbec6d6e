"""A function over many items, on all cores: one process a core, one thread a process."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

from knowledge_gaps.runtime.determinism import configure_process
from knowledge_gaps.runtime.devices import count_workers

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def map_parallel(
    function: Callable[[_Item], _Result], items: Sequence[_Item], preload: str
) -> Iterator[_Result]:
    """Apply a function to items in worker processes, and yield the results in order.

    Args:
        function: of a module, so that a worker finds it by name.
        items: what it is applied to, one after the other on each worker.
        preload: module that is imported once, before the workers are forked.
    """
    if not items:
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([preload])
    with ProcessPoolExecutor(
        count_workers(len(items)), mp_context=context, initializer=configure_process
    ) as pool:
        yield from pool.map(function, items)
