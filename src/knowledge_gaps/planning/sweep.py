"""`kgaps sweep`: a study for every combination of values, through DVC's experiment queue.

An experiment's name tells its parameters, so the same sweep finds what an earlier call has done or
begun, and in `.kgaps/experiments` the states of its trainings.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from knowledge_gaps.core.errors import StoppedError, UserError
from knowledge_gaps.core.layout import get_experiment_directory, get_state_directory
from knowledge_gaps.core.printing import count_words, draw_table, make_table
from knowledge_gaps.core.signals import StopFlag, catch_stop_signals
from knowledge_gaps.study import PARAMS_FILE, Study, parse_yaml, read_yaml, validate_study

MISSING, DONE = "not queued", "done"  # beside DVC's "queued", "running" and "failed"
_DVC = (sys.executable, "-m", "dvc", "--wait-for-lock")
_SHOW_SEC = 60.0  # DVC 3.67 may wait for ever for an experiment that has just ended
_TRIES = 4  # `dvc exp show` fails over the folder of one that begins or ends
_POLL_SEC = 4.0
_WRITTEN = ("dvc.lock", "reports/", PARAMS_FILE)  # by a run of the study itself

_NAME_KEY = "study.name"  # every experiment's is its own, by which MLflow tells them apart
_NAME_CHARACTERS = 64

States = Mapping[str, str]  # by experiment


@dataclass(frozen=True)
class Experiment:
    """One point of the grid."""

    name: str  # in DVC and MLflow; ends in a hash of the study, so it is the same name again
    values: Mapping[str, Any]  # what differs from params.yaml, by dotted key
    overrides: Sequence[str]  # the same and the name, in the form of DVC's --set-param


def make_grid(
    content: Mapping[str, Any], axes: Sequence[str], check: Callable[[Study], None]
) -> list[Experiment]:
    """Make the product of all lists, the last one running fastest.

    Args:
        content: of params.yaml, the study that is swept.
        axes: each "KEY=VALUE,VALUE,..." with a dotted key of it and values as in YAML.
        check: raises UserError for a study that no stage could run, as this does.
    """
    lists: dict[str, list[Any]] = {}
    for key, listed in map(parse_axis, axes):
        if key in lists:
            raise UserError(f"{key}: given twice in the sweep")
        lists[key] = listed
    grid: list[Experiment] = []
    for point in itertools.product(*lists.values()):
        values = dict(zip(lists, point, strict=True))
        changed, overrides = _apply(content, values)
        try:
            study = validate_study(changed, PARAMS_FILE)
            check(study)
        except UserError as error:
            raise UserError(f"{_describe(values)}: {error}") from error
        name = _make_name(study, values)
        if any(name[-8:] == other.name[-8:] for other in grid):  # the same study, as 1 and 1.0 are
            raise UserError(f"{_describe(values)}: given twice in the sweep")
        grid.append(Experiment(name, values, [*overrides, _describe({_NAME_KEY: name})]))
    return grid


def parse_axis(axis: str) -> tuple[str, list[Any]]:
    """Read "KEY=VALUE,VALUE,...", values as in YAML; raises UserError for another form."""
    key, _, text = axis.partition("=")
    values = parse_yaml(f"[{text}]", axis)
    if not key or not values:
        raise UserError(f"{axis!r} found, KEY=VALUE,VALUE,... is needed")
    if key == _NAME_KEY:
        raise UserError(f"{key}: cannot be swept, every experiment gets a name of its own")
    return key, values


def _apply(content: Mapping[str, Any], values: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """Return the content with changed values, and these for --set-param."""
    changed, overrides = copy.deepcopy(content), []
    for key, value in values.items():
        *sections, last = key.split(".")
        section: Any = changed
        for part in sections:
            section = section.setdefault(part, {})
            if not isinstance(section, dict):
                raise UserError(f"{key}: {part!r} is no section, it is {section!r}")
        plus = "" if last in section else "+"  # DVC's sign for a key that params.yaml leaves out
        overrides.append(plus + _describe({key: value}))
        section[last] = value
    return changed, overrides


def _describe(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={json.dumps(value, default=str)}" for key, value in values.items())


def _make_name(study: Study, values: Mapping[str, Any]) -> str:
    """Make a study's name that tells as much of the values as fits, and a hash of the study."""
    described = json.dumps(study.model_dump(mode="json"), sort_keys=True)
    digest = hashlib.sha256(described.encode()).hexdigest()[:8]
    words = [f"{key.rpartition('.')[2]}-{value}".replace(".", "p") for key, value in values.items()]
    start = re.sub(r"[^A-Za-z0-9_-]+", "-", "-".join([study.study.name, *words]))
    return f"{start[: _NAME_CHARACTERS - len(digest) - 1].rstrip('-_')}-{digest}"


def run(
    root: Path,
    study: Study,
    axes: Sequence[str],
    check: Callable[[Study], None],
    num_jobs: int,
    is_dry: bool,
) -> None:
    """Run the experiments of a sweep that are not done yet, and print all of them.

    So many jobs run side by side; each may use the whole machine. A dry run only prints the grid.
    Raises StoppedError when the process was told to stop, UserError when experiments failed.
    """
    grid = make_grid(read_yaml(root / PARAMS_FILE), axes, check)
    if is_dry:
        print(_draw(grid, {}))
        return
    _check_committed(root)
    with _hold_queue(root), catch_stop_signals() as stop:
        states = read_states(root, grid)
        if any(state != DONE for state in states.values()):
            _queue_missing(root, study.data.directory, grid, states, stop)
            states = _run_queue(root, grid, num_jobs, stop)
    print(_draw(grid, states))
    _conclude(root, states)


@contextmanager
def _hold_queue(root: Path) -> Iterator[None]:
    """Keep another sweep away from DVC's queue, in which both would queue and remove."""
    file = get_state_directory(root) / "sweep.lock"
    file.parent.mkdir(exist_ok=True)
    try:
        with FileLock(file, timeout=0):
            yield
    except Timeout as error:
        raise UserError(f"{file}: another kgaps sweep is running here") from error


def call_dvc(root: Path, *arguments: str, timeout_sec: float | None = None) -> str:
    """Run a command of DVC, out of Ctrl-C's reach; return its output, or raise UserError."""
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


def _run_queue(root: Path, grid: Sequence[Experiment], num_jobs: int, stop: StopFlag) -> States:
    """Keep the queue's workers going until no experiment is open, and print what changes."""
    before: States = {}
    is_stopping = False
    while True:
        states = read_states(root, grid)
        for name, state in states.items():
            if before.get(name) != state:
                print(f"{name}: {state}", flush=True)
        before = states
        running = [name for name, state in states.items() if state == "running"]
        num_open = len(running) + list(states.values()).count("queued")
        if is_stopping and not running:
            raise StoppedError("not all experiments are done; the same command goes on")
        if num_open == 0:
            return states
        if stop.is_set() and not is_stopping:
            is_stopping = True
            call_dvc(root, "queue", "stop")
            with suppress(UserError):  # of those that have ended meanwhile
                call_dvc(root, "queue", "kill", *running)
        elif not is_stopping and len(running) < min(num_jobs, num_open):
            _start_workers(root, num_jobs)  # anew, too: a stop may reach those that start after it
        until = time.monotonic() + _POLL_SEC
        while time.monotonic() < until and not stop.is_set():
            time.sleep(0.2)


def _start_workers(root: Path, num_jobs: int) -> None:
    command, null = [*_DVC, "queue", "start", "--jobs", str(num_jobs)], subprocess.DEVNULL
    # a pipe would stay open in the workers
    if subprocess.run(command, cwd=root, stdout=null, stderr=null, check=False).returncode:
        raise UserError("dvc queue start: failed; `dvc queue status` may tell more")


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
