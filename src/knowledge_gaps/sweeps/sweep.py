"""`kgaps sweep`: a study for every combination of values, through DVC's experiment queue.

An experiment's name tells its parameters, so the same sweep finds what an earlier call has done or
begun. The states of its trainings are kept in `.kgaps/experiments` of the repository, where a
second try finds them though it runs in another folder.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout

from knowledge_gaps.core.devices import WORKERS_VARIABLE, count_gpus, count_workers
from knowledge_gaps.core.errors import StoppedError, UserError
from knowledge_gaps.core.layout import get_experiment_directory, get_state_directory
from knowledge_gaps.core.printing import count_words, draw_table, make_table
from knowledge_gaps.core.signals import StopFlag, catch_stop_signals
from knowledge_gaps.study import PARAMS_FILE, Study
from knowledge_gaps.sweeps.grid import Experiment, make_grid
from knowledge_gaps.sweeps.queue import (
    State,
    Status,
    call_dvc,
    kill_experiments,
    read_statuses,
    start_workers,
)

SHOWN_METRICS = 6
_POLL_SEC = 5.0
_WRITTEN = ("dvc.lock", "reports/", PARAMS_FILE)  # by a run of the study itself

Statuses = Mapping[str, Status]


def run(
    root: Path,
    study: Study,
    axes: Sequence[str],
    check: Callable[[Study], None],
    max_jobs: int | None = None,
    is_dry: bool = False,
) -> None:
    """Run the experiments of a sweep that are not done yet, and print all of them.

    Args:
        root: the repository's root.
        study: the present one.
        axes: each "KEY=VALUE,VALUE,...".
        check: raises UserError for a study that no stage could run.
        max_jobs: experiments side by side; None for one a core. On GPUs 1 is all that there is.
        is_dry: only print the grid.

    Raises:
        StoppedError: when the process was told to stop; states of trainings are saved.
        UserError: when the sweep cannot be run, or experiments failed.
    """
    if (max_jobs or 1) > 1 and count_gpus() > 0:
        raise UserError(
            f"--jobs: {max_jobs} found, 1 is needed on a machine with GPUs: every experiment has "
            "all of them, for DVC's queue cannot share them out"
        )
    grid = make_grid(root / PARAMS_FILE, axes, check)
    statuses: Statuses = {point.name: Status() for point in grid}
    if not is_dry:
        _check_committed(root)
        lock_file = get_state_directory(root) / "sweep.lock"
        lock_file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(lock_file, timeout=5), catch_stop_signals() as stop:
                num_open = _queue_missing(root, study, grid, stop)
                statuses = _wait(root, list(statuses), share_machine(num_open, max_jobs), stop)
        except Timeout as error:
            raise UserError(f"{lock_file}: another kgaps sweep is running here") from error
    print(draw_sweep(grid, statuses))
    _conclude(root, statuses)


def _check_committed(root: Path) -> None:
    """Refuse changes that an experiment's name, commit and parameters would not show."""
    command = ["git", "status", "--porcelain", "--untracked-files=all"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UserError("git status: failed; experiments need a git repository with a commit")
    for path in (line[3:].strip('"') for line in done.stdout.splitlines()):
        if not path.startswith(_WRITTEN) and not path.endswith(".gitignore"):
            raise UserError(f"{path}: not committed; commit it first, or add it to .gitignore")


def _queue_missing(root: Path, study: Study, grid: Sequence[Experiment], stop: StopFlag) -> int:
    """Queue what is neither done nor begun; return how many experiments are not done."""
    statuses = read_statuses(root, [point.name for point in grid])
    failed = [name for name, status in statuses.items() if status.state is State.FAILED]
    if failed:
        kill_experiments(root, failed)
        call_dvc(root, "queue", "remove", *failed)
    data = study.data.directory
    ignored = subprocess.run(["git", "check-ignore", "--quiet", data], cwd=root, check=False)
    copied = ["--copy-paths", data] if ignored.returncode == 0 else []
    waiting = (State.MISSING, State.FAILED)
    missing = [point for point in grid if statuses[point.name].state in waiting]
    for point in missing:
        if stop.is_set():
            raise StoppedError("not all experiments are queued; the same command goes on")
        changes = [word for change in point.overrides for word in ("--set-param", change)]
        call_dvc(root, "exp", "run", "--queue", "--name", point.name, *changes, *copied)
        print(f"{point.name}: queued", flush=True)
    if not missing:
        print("nothing to queue", flush=True)
    return sum(status.state is not State.DONE for status in statuses.values())


def share_machine(num_open: int, max_jobs: int | None) -> tuple[int, dict[str, str]]:
    """Tell how many of the open experiments run side by side, and the environment of each."""
    if count_gpus() > 0:
        return 1, {}
    cores = count_workers(1 << 30)
    jobs = max(1, min(num_open, max_jobs or cores))
    return jobs, {WORKERS_VARIABLE: str(max(1, cores // jobs))}


def _wait(
    root: Path, names: Sequence[str], share: tuple[int, dict[str, str]], stop: StopFlag
) -> Statuses:
    """Keep the queue's workers going until no experiment is open, and print what changes."""
    before: Statuses = {}
    is_stopping = False
    while True:
        statuses = read_statuses(root, names)
        for name, status in statuses.items():
            if name not in before or before[name].state is not status.state:
                print(f"{name}: {status.state}", flush=True)
        before = statuses
        states = [status.state for status in statuses.values()]
        running = [name for name in names if statuses[name].state is State.RUNNING]
        num_open = len(running) + states.count(State.QUEUED)
        if is_stopping and not running:
            left = count_words(len(states) - states.count(State.DONE), "experiment")
            raise StoppedError(f"{left} not done; the same command goes on")
        if num_open == 0:
            return statuses
        if stop.is_set() and not is_stopping:
            is_stopping = True
            call_dvc(root, "queue", "stop")
            kill_experiments(root, running)
        elif not is_stopping and len(running) < min(share[0], num_open):
            start_workers(root, *share)
        until = time.monotonic() + _POLL_SEC
        while time.monotonic() < until and not stop.is_set():
            time.sleep(0.2)


def _conclude(root: Path, statuses: Statuses) -> None:
    """Remove the states of what is done, and raise UserError for what failed."""
    for name, status in statuses.items():
        if status.state is State.DONE:
            shutil.rmtree(get_experiment_directory(root, name), ignore_errors=True)
    failed = [name for name, status in statuses.items() if status.state is State.FAILED]
    if failed:
        num_all = count_words(len(statuses), "experiment")
        raise UserError(
            f"{len(failed)} of {num_all} failed: {', '.join(failed)}; `dvc queue logs NAME` says "
            "why, the same command goes on"
        )


def draw_sweep(grid: Sequence[Experiment], statuses: Statuses) -> str:
    """Draw a table of the experiments' values, states and some of the metrics that differ."""
    found = pd.DataFrame([dict(statuses[point.name].metrics) for point in grid])
    num_values = found.dropna(how="all").nunique(dropna=False)
    # a metric that only repeats a swept value is left out
    repeated = tuple(f".{'.'.join(key.split('.')[-2:])}" for key in grid[0].values)
    differing = [m for m, n in num_values.items() if n > 1 and not str(m).endswith(repeated)]
    table = make_table()
    table.add_column("experiment", no_wrap=True)  # to be copied into `dvc exp apply`
    for head in (*grid[0].values, "state", *differing[:SHOWN_METRICS]):
        table.add_column(str(head), overflow="fold")
    for point in grid:
        status = statuses[point.name]
        metrics = (status.metrics.get(str(name)) for name in differing[:SHOWN_METRICS])
        shown = ["" if value is None else f"{value:.4g}" for value in metrics]
        values = [str(value) for value in point.values.values()]
        table.add_row(point.name, *values, str(status.state), *shown)
    more = len(differing) - SHOWN_METRICS
    note = f"\n\n{more} more differ: `dvc exp show --only-changed`" if more > 0 else ""
    return draw_table(table) + note
