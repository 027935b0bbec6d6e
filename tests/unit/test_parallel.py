"""Worker processes: what they share, and what a death becomes, theirs or their parent's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from knowledge_gaps.core.determinism import configure_process
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.execution.parallel import PRELOAD, map_parallel, start_fork_server

_PRELOAD = "knowledge_gaps.core.errors"


def square(item: int) -> int:
    if item == 13:
        os._exit(9)
    time.sleep(0.1 if item == 0 else 0.0)
    return item * item


def sleep_long(seconds: int) -> None:
    os.write(1, f"{os.getpid()}\n".encode())  # in one piece
    time.sleep(seconds)


def print_threads() -> None:
    """Print how many threads the server has from which workers of trainings are forked."""
    with start_fork_server(PRELOAD).Pool(1) as pool:
        server = pool.apply(os.getppid)
    print(len(list(Path(f"/proc/{server}/task").iterdir())))


def start_python(code: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_results_come_in_order_and_a_killed_worker_is_an_error() -> None:
    assert list(map_parallel(square, [0, 1, 2], _PRELOAD)) == [0, 1, 4]
    assert list(map_parallel(square, [], _PRELOAD)) == []
    with pytest.raises(UserError, match=r"^a worker process was killed .*resumes$"):
        list(map_parallel(square, [0, 13, 2], _PRELOAD))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent(number: signal.Signals) -> None:
    code = (
        "import test_parallel as t; print('go', flush=True);"
        "list(t.map_parallel(t.sleep_long, [99, 99], t._PRELOAD, num_workers=2))"
    )
    with start_python(code) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        workers = [psutil.Process(int(line)) for line in lines if line.strip().isdecimal()]
        assert len(workers) == 2
        process.send_signal(number)
        assert psutil.wait_procs(workers, timeout=20)[1] == []


def test_server_of_trainings_has_no_thread_of_its_own() -> None:
    """A process with threads cannot be forked safely."""
    with start_python("import test_parallel; test_parallel.print_threads()") as process:
        assert json.loads(process.communicate(timeout=120)[0]) == 1


def test_processes_are_deterministic() -> None:
    configure_process()
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert torch.get_num_threads() == 1
