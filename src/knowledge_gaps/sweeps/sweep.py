"""`kgaps sweep`: a study for every combination of values, through DVC's experiment queue.

An experiment's name tells its parameters, so the same sweep finds what an earlier call has done or
begun. The states of its trainings are kept in `.kgaps/experiments` of the repository, where a
second try finds them though it runs in another folder.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from knowledge_gaps.core.errors import StoppedError, UserError
from knowledge_gaps.core.layout import get_experiment_directory
from knowledge_gaps.core.printing import count_words, draw_table, make_table
from knowledge_gaps.core.signals import StopFlag, catch_stop_signals
from knowledge_gaps.study import PARAMS_FILE, Study, read_yaml
from knowledge_gaps.sweeps.grid import Experiment, make_grid

MISSING, DONE = "not queued", "done"  # beside DVC's "queued", "running" and "failed"
_DVC = (sys.executable, "-m", "dvc", "--wait-for-lock")
_SHOW_SEC = 60.0  # DVC 3.67 may wait for ever for an experiment that has just ended
_TRIES = 4  # `dvc exp show` fails over the folder of one that begins or ends
_POLL_SEC = 4.0
_WRITTEN = ("dvc.lock", "reports/", PARAMS_FILE)  # by a run of the study itself

States = Mapping[str, str]  # by experiment


def run(
    root: Path,
    study: Study,
    axes: Sequence[str],
    check: Callable[[Study], None],
    num_jobs: int,
    is_dry: bool,
) -> None:
    """Run the experiments of a sweep that are not done yet, and print all of them.

    Args:
        root: the repository's root.
        study: the present one.
        axes: each "KEY=VALUE,VALUE,...".
        check: raises UserError for a study that no stage could run.
        num_jobs: experiments side by side; each may use the whole machine.
        is_dry: only print the grid.

    Raises:
        StoppedError: when the process was told to stop; states of trainings are saved.
        UserError: when the sweep cannot be run, or experiments failed.
    """
    grid = make_grid(read_yaml(root / PARAMS_FILE), axes, check)
    if is_dry:
        print(_draw(grid, {}))
        return
    _check_committed(root)
    with catch_stop_signals() as stop:
        states = read_states(root, grid)
        if any(state != DONE for state in states.values()):
            _queue_missing(root, study.data.directory, grid, states, stop)
            _run_queue(root, grid, num_jobs, stop)
            states = read_states(root, grid)
    print(_draw(grid, states))
    _conclude(root, states)


def call_dvc(root: Path, *arguments: str, timeout_sec: float | None = None) -> str:
    """Run a command of DVC, out of Ctrl-C's reach; return its standard output.

    Raises:
        UserError: when it fails, with DVC's own message, or takes too long.
    """
    try:
        done = subprocess.run(
            [*_DVC, *arguments],
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_sec,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(f"dvc: no answer within {timeout_sec:g} s; try again") from error
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        told = said[0].removeprefix("ERROR: ") if said else f"exit code {done.returncode}"
        raise UserError(f"dvc {' '.join(arguments)}: {told}")
    return done.stdout


def read_states(root: Path, grid: Sequence[Experiment]) -> States:
    """Ask DVC what became of experiments on top of the present commit; raises UserError."""
    for tries_left in reversed(range(_TRIES)):
        try:
            printed = call_dvc(root, "exp", "show", "--json", timeout_sec=_SHOW_SEC)
            break
        except UserError:
            if tries_left == 0:
                raise
            time.sleep(_POLL_SEC)
    shown: Any = json.loads(printed.splitlines()[-1])
    entries = [entry for baseline in shown for entry in baseline["experiments"] or ()]
    found = {entry["name"]: (entry["executor"] or {}).get("state") for entry in entries}
    open_states = ("queued", "running", "failed")
    states = {name: state if state in open_states else DONE for name, state in found.items()}
    return {point.name: states.get(point.name, MISSING) for point in grid}


def _check_committed(root: Path) -> None:
    """Refuse changes that an experiment's name, commit and parameters would not show."""
    command = ["git", "status", "--porcelain", "--untracked-files=all"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UserError("git status: failed; experiments need a git repository with a commit")
    for path in (line[3:].strip('"') for line in done.stdout.splitlines()):
        if not path.startswith(_WRITTEN) and not path.endswith(".gitignore"):
            raise UserError(f"{path}: not committed; commit it first, or add it to .gitignore")


def _queue_missing(
    root: Path, data: str, grid: Sequence[Experiment], states: States, stop: StopFlag
) -> None:
    """Queue what is neither done nor begun; data that git ignores is copied."""
    failed = [name for name, state in states.items() if state == "failed"]
    if failed:
        call_dvc(root, "queue", "remove", *failed)
    ignored = subprocess.run(["git", "check-ignore", "--quiet", data], cwd=root, check=False)
    copied = ["--copy-paths", data] if ignored.returncode == 0 else []
    for point in grid:
        if stop.is_set():
            raise StoppedError("not all experiments are queued; the same command goes on")
        if states[point.name] in (MISSING, "failed"):
            changes = [word for change in point.overrides for word in ("--set-param", change)]
            call_dvc(root, "exp", "run", "--queue", "--name", point.name, *changes, *copied)
            print(f"{point.name}: queued", flush=True)


def _run_queue(root: Path, grid: Sequence[Experiment], num_jobs: int, stop: StopFlag) -> None:
    """Run all that is queued and show its logs; Ctrl-C reaches DVC's workers through its queue."""
    command = [*_DVC, "exp", "run", "--run-all", "--jobs", str(num_jobs)]
    with subprocess.Popen(command, cwd=root, start_new_session=True) as process:
        while process.poll() is None and not stop.is_set():
            time.sleep(0.2)
        process.terminate()
    if stop.is_set():
        call_dvc(root, "queue", "stop")
        names = [name for name, state in read_states(root, grid).items() if state == "running"]
        with suppress(UserError):  # of those that have ended meanwhile
            call_dvc(root, "queue", "kill", *names)
        while "running" in read_states(root, grid).values():
            time.sleep(_POLL_SEC)
        raise StoppedError("not all experiments are done; the same command goes on")


def _conclude(root: Path, states: States) -> None:
    """Remove the states of trainings of what is done, and raise UserError for what is not."""
    for name, state in states.items():
        if state == DONE:
            shutil.rmtree(get_experiment_directory(root, name), ignore_errors=True)
    left = [name for name, state in states.items() if state != DONE]
    if left:
        num_all = count_words(len(states), "experiment")
        raise UserError(
            f"{len(left)} of {num_all} not done: {', '.join(left)}; `dvc queue logs NAME` says "
            "why, the same command goes on"
        )


def _draw(grid: Sequence[Experiment], states: States) -> str:
    """Draw a table of the experiments' values and states."""
    table = make_table()
    table.add_column("experiment", no_wrap=True)  # to be copied into `dvc exp apply`
    for head in (*grid[0].values, "state"):
        table.add_column(head, overflow="fold")
    for point in grid:
        values = [str(value) for value in point.values.values()]
        table.add_row(point.name, *values, states.get(point.name, MISSING))
    return draw_table(table)
