"""Worker processes and their server, how they start and end, and what a worker's death becomes."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
from multiprocessing import forkserver
from pathlib import Path

import pytest

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.execution.parallel import map_parallel, start_fork_server
from knowledge_gaps.execution.workers import PRELOAD

_PRELOAD = "knowledge_gaps.core.errors"


def end_at_two(item: int) -> int:
    if item == 2:
        os._exit(9)
    return item * item


def describe_collection(_: int) -> tuple[tuple[int, ...], int]:
    return gc.get_threshold(), gc.get_freeze_count()


def print_worker() -> None:
    [found] = map_parallel(describe_collection, [0], _PRELOAD)
    print(json.dumps(found))


def print_threads() -> None:
    """Print how many threads the server has from which workers of trainings are forked."""
    with start_fork_server(PRELOAD).Pool(1) as pool:
        server = pool.apply(os.getppid)
    print(len(list(Path(f"/proc/{server}/task").iterdir())))


def run_python(code: str, **changes: str) -> str:
    """Run code in a process of its own; return all that it says."""
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path, **changes},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout


def test_killed_worker_is_an_error_of_one_line() -> None:
    results = map_parallel(end_at_two, [0, 1, 2], _PRELOAD)
    with pytest.raises(UserError, match="a worker's process ended by itself") as caught:
        list(results)
    assert "\n" not in str(caught.value)


def test_interrupt_while_the_server_starts_comes_later() -> None:
    """In a process with one thread, for the system would hand the signal to any other."""
    assert json.loads(run_python("import test_parallel; test_parallel.print_interrupted_start()"))


def print_interrupted_start() -> None:
    """Interrupt this process while the server starts; print whether it went on until then."""
    started: list[bool] = []

    def start() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        started.append(True)

    forkserver.ensure_running = start  # type: ignore[assignment]
    try:
        start_fork_server([])
    except KeyboardInterrupt:
        is_open = signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
        print(json.dumps(started == [True] and is_open))


def test_worker_collects_garbage_as_usual() -> None:
    code = "import test_parallel; test_parallel.print_worker()"
    threshold, num_frozen = json.loads(run_python(code))
    assert threshold == json.loads(run_python("import gc; print(list(gc.get_threshold()))"))
    assert num_frozen > 0


def test_server_of_trainings_has_no_thread_of_its_own() -> None:
    """A process with threads cannot be forked safely."""
    code = "import test_parallel; test_parallel.print_threads()"
    assert json.loads(run_python(code, OMP_NUM_THREADS="1")) == 1


def test_process_that_starts_quickly_says_nothing_at_its_end() -> None:
    """Bindings of compiled libraries tell of leaks when nothing is collected at the end."""
    pytest.importorskip("triton")
    code = "from knowledge_gaps.runtime import quick_server; import torch._dynamo"
    assert run_python(code) == ""


@pytest.mark.parametrize("is_loaded", [False, True])
def test_end_without_collecting_spares_triton(is_loaded: bool) -> None:
    code = (
        "import gc, sys; from knowledge_gaps.execution.quick_start import end_quickly;"
        f"sys.modules.update(dict.fromkeys(['triton'][:{int(is_loaded)}]));"
        "end_quickly(); print(gc.get_freeze_count() > 0)"
    )
    assert run_python(code).strip() == str(not is_loaded)


def test_command_collects_as_usual_while_it_works() -> None:
    code = (
        "import gc; from knowledge_gaps import cli; cli.collect_rarely();"
        "assert gc.get_threshold()[0] > 10_000; cli.collect_as_usual(); print(gc.get_threshold())"
    )
    assert run_python(code) == run_python("import gc; print(gc.get_threshold())")


def test_determinism_does_not_import_the_compiler() -> None:
    code = (
        "import sys, torch; from knowledge_gaps.core.determinism import configure_process;"
        "configure_process(); print(torch.are_deterministic_algorithms_enabled(),"
        "torch.is_deterministic_algorithms_warn_only_enabled(), 'torch._dynamo' in sys.modules)"
    )
    assert run_python(code).split() == ["True", "False", "False"]
