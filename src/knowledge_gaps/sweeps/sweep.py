"""`kgaps sweep`: a study for every combination of values, through DVC's experiment queue.

An experiment's name is made of its parameters, so the same sweep finds what an earlier call has
done or begun. The states of its trainings are kept in the repository, below `.kgaps/experiments`,
where a second try finds them though it runs in another folder.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from knowledge_gaps.core.devices import count_gpus, count_workers
from knowledge_gaps.core.errors import StoppedError, UserError
from knowledge_gaps.core.layout import get_experiment_directory
from knowledge_gaps.core.printing import count_words
from knowledge_gaps.execution.signals import StopFlag
from knowledge_gaps.study import PARAMS_FILE, Study
from knowledge_gaps.sweeps.grid import Experiment, make_grid
from knowledge_gaps.sweeps.guard import run_alone
from knowledge_gaps.sweeps.job import read_lines
from knowledge_gaps.sweeps.queue import (
    Standing,
    State,
    check_inputs,
    forget_failed,
    is_ignored,
    queue_experiment,
    read_standings,
    start_queue,
    stop_experiments,
    stop_queue,
)
from knowledge_gaps.sweeps.table import draw_sweep

_POLL_SEC = 5.0
_TICK_SEC = 0.2
_END_SEC = 60.0  # how long interrupted experiments may take to save their states
_OPEN = (State.QUEUED, State.RUNNING)


def run(
    root: Path,
    study: Study,
    axes: Sequence[str],
    check: Callable[[Study], None],
    max_jobs: int | None = None,
    is_dry: bool = False,
) -> None:
    """Run the experiments of a sweep that are not done yet, and show all of them.

    Args:
        root: the repository's root.
        study: the present one.
        axes: each "KEY=VALUE,VALUE,...".
        check: refuses a study that no stage could run, by a UserError.
        max_jobs: experiments at the same time; None for one a core. On GPUs 1 is all that
            there is.
        is_dry: only print the grid.

    Raises:
        StoppedError: when the process was told to stop; states of trainings are saved.
        UserError: when the sweep makes no sense, or experiments failed.
    """
    check_jobs(max_jobs)
    grid = make_grid(root / PARAMS_FILE, axes, check)
    if is_dry:
        print(draw_sweep(grid, dict.fromkeys((point.name for point in grid), Standing())))
        return
    check_inputs(root)
    copied = [study.data.directory] if is_ignored(root, study.data.directory) else []
    with run_alone(root) as stop:
        num_open = _queue_missing(root, grid, copied, stop)
        standings = _watch(root, grid, share_machine(num_open, max_jobs), stop)
    print(draw_sweep(grid, standings))
    _judge(root, standings)


def _queue_missing(
    root: Path, grid: Sequence[Experiment], copied: Sequence[str], stop: StopFlag
) -> int:
    """Queue what is neither done nor begun; return how many experiments are not done."""
    standings = read_standings(root, [point.name for point in grid], stop)
    _check_stop(stop)
    forget_failed(root, standings)
    missing = [
        point for point in grid if standings[point.name].state in (State.MISSING, State.FAILED)
    ]
    for point in missing:
        _check_stop(stop)
        queue_experiment(root, point, copied)
        print(f"{point.name}: queued", flush=True)
    if not missing:
        print("nothing to queue", flush=True)
    return sum(standing.state is not State.DONE for standing in standings.values())


def _check_stop(stop: StopFlag) -> None:
    if stop.is_set():
        raise StoppedError("not all experiments are queued; the same command goes on")


def _watch(
    root: Path, grid: Sequence[Experiment], share: tuple[int, int | None], stop: StopFlag
) -> dict[str, Standing]:
    """Keep the queue going until no experiment of the sweep is open, and tell what changes."""
    names = [point.name for point in grid]
    jobs, num_workers = share
    before: Mapping[str, Standing] = {}
    while True:
        standings = read_standings(root, names, stop)
        _say_changes(before, standings)
        before = standings
        running = [name for name in names if standings[name].state is State.RUNNING]
        still_open = [name for name in names if standings[name].state in _OPEN]
        if not still_open:
            return standings
        if stop.is_set():
            _stop(root, running, stop)
            left = count_words(len(still_open), "experiment")
            raise StoppedError(f"{left} open; the same command goes on")
        if len(running) < min(jobs, len(still_open)):
            start_queue(root, jobs, num_workers)
        _sleep(stop)


def _stop(root: Path, running: Sequence[str], stop: StopFlag) -> None:
    """Interrupt what runs, and wait until its states are saved."""
    stop_queue(root)
    stop_experiments(root, running)
    until = time.monotonic() + _END_SEC
    while time.monotonic() < until:
        standings = read_standings(root, running, stop)
        if all(standings[name].state is not State.RUNNING for name in running):
            return
        time.sleep(_TICK_SEC)


def check_jobs(max_jobs: int | None) -> None:
    """Refuse experiments side by side on GPUs, each of which would take all of them.

    Raises:
        UserError: names the option.
    """
    if max_jobs is not None and max_jobs > 1 and count_gpus() > 0:
        raise UserError(
            f"--jobs: {max_jobs} found, 1 is needed on a machine with GPUs: every experiment has "
            "all of them, for DVC's queue cannot share them out"
        )


def share_machine(num_open: int, max_jobs: int | None) -> tuple[int, int | None]:
    """Tell how many experiments run at the same time, and with how many workers each.

    Args:
        num_open: experiments that are not done.
        max_jobs: as the user says.

    Returns:
        Experiments at a time, and KGAPS_WORKERS for each; None where GPUs decide as in any run.
    """
    if count_gpus() > 0:
        return 1, None
    cores = count_workers(1 << 30)
    jobs = max(1, min(num_open, max_jobs or cores))
    return jobs, max(1, cores // jobs)


def _sleep(stop: StopFlag) -> None:
    until = time.monotonic() + _POLL_SEC
    while time.monotonic() < until and not stop.is_set():
        time.sleep(_TICK_SEC)


def _say_changes(before: Mapping[str, Standing], now: Mapping[str, Standing]) -> None:
    states = [standing.state for standing in now.values()]
    for name, standing in now.items():
        if name not in before or before[name].state is not standing.state:
            done = f"{states.count(State.DONE)} of {len(states)} done"
            print(f"{name}: {standing.state} ({done})", flush=True)


def _judge(root: Path, standings: Mapping[str, Standing]) -> None:
    """Drop the states of what is done, and raise for what failed."""
    for name, standing in standings.items():
        if standing.state is State.DONE:
            shutil.rmtree(get_experiment_directory(root, name), ignore_errors=True)
    failed = [name for name in standings if standings[name].state is State.FAILED]
    if failed:
        lines = [f"{name}: {_explain(standings[name])}" for name in failed]
        num_all = count_words(len(standings), "experiment")
        first = f"{len(failed)} of {num_all} failed; the same command goes on"
        raise UserError("\n".join([first, *lines]))


def _explain(standing: Standing) -> str:
    lines = read_lines(standing.log) if standing.log is not None else []
    said = [line for line in lines if line.startswith(("kgaps: ", "ERROR: "))]
    return said[0].removeprefix("kgaps: ") if said else "its process ended by itself"
