"""Two ranks in a test: processes forked from the workers' server that meet over gloo."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable
from pathlib import Path

from knowledge_gaps.core.determinism import configure_process
from knowledge_gaps.core.devices import read_rank
from knowledge_gaps.execution.ranks import join_ranks
from study_tools import start_fork_server

TIMEOUT_SEC = 120


def run_ranks(function: Callable[[Path], None], directory: Path, size: int = 2) -> list[int | None]:
    """Run a function of a test module in every rank; return the ranks' exit codes.

    Args:
        function: is given the directory; finds its rank by itself.
        directory: for what the ranks leave.
        size: number of ranks.
    """
    start_fork_server()
    context = multiprocessing.get_context("forkserver")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [
        context.Process(target=_run, args=(function, directory, index, size, port))
        for index in range(size)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(TIMEOUT_SEC)
    return [process.exitcode for process in ranks]


def _run(
    function: Callable[[Path], None], directory: Path, index: int, size: int, port: int
) -> None:
    os.environ.update(
        RANK=str(index),
        LOCAL_RANK=str(index),
        WORLD_SIZE=str(size),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    configure_process()
    rank = read_rank()
    assert rank is not None
    with join_ranks(rank):
        function(directory)
