"""`kgaps sweep`: a study for every combination of values, each an experiment of DVC.

An experiment's name tells its parameters, so the same sweep finds what an earlier call has done,
and in `.kgaps/experiments` the states of the trainings that it has begun.
"""

from __future__ import annotations

import copy
import fcntl
import hashlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knowledge_gaps.core.errors import StoppedError, UserError
from knowledge_gaps.core.layout import get_experiment_directory, get_state_directory
from knowledge_gaps.core.printing import count_words
from knowledge_gaps.core.signals import StopFlag, catch_stop_signals
from knowledge_gaps.study import PARAMS_FILE, Study, parse_yaml, read_yaml, validate_study

_DVC = (sys.executable, "-m", "dvc", "--wait-for-lock")
_POLL_SEC = 0.5
_WRITTEN = ("dvc.lock", "reports/", PARAMS_FILE)  # by a run of the study itself

_NAME_KEY = "study.name"  # every experiment's is its own, by which MLflow tells them apart
_NAME_CHARACTERS = 64


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
    root: Path, study: Study, axes: Sequence[str], check: Callable[[Study], None], is_dry: bool
) -> None:
    """Run the experiments of a sweep that are not done yet, one after the other, and print all.

    A dry run only prints the grid. Raises StoppedError when the process was told to stop, UserError
    when experiments failed.
    """
    grid = make_grid(read_yaml(root / PARAMS_FILE), axes, check)
    if is_dry:
        print(_draw(grid, {}))
        return
    _check_committed(root)
    states: dict[str, str] = {}
    with _hold_lock(root) as lock, catch_stop_signals() as stop:
        done = list_done(root)
        for point in grid:
            if stop.is_set():
                break
            is_done = point.name in done or run_experiment(root, study, point, lock, stop)
            states[point.name] = "done" if is_done else "failed"
            if is_done:
                shutil.rmtree(get_experiment_directory(root, point.name), ignore_errors=True)
        if stop.is_set():
            raise StoppedError("not all experiments are done; the same command goes on")
    print(_draw(grid, states))
    if failed := [name for name, state in states.items() if state == "failed"]:
        num_all = count_words(len(grid), "experiment")
        raise UserError(f"{len(failed)} of {num_all} failed: {', '.join(failed)}")


@contextmanager
def _hold_lock(root: Path) -> Iterator[int]:
    """Keep other sweeps away; a DVC that outlives this process inherits the lock, a descriptor."""
    path = get_state_directory(root) / "sweep.lock"
    path.parent.mkdir(exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"{path}: another kgaps sweep is running here") from error
        yield file.fileno()


def list_done(root: Path) -> list[str]:
    """List DVC's experiments on top of the present commit by name; raises UserError."""
    command = [*_DVC, "exp", "list", "--name-only"]
    done = subprocess.run(
        command, cwd=root, capture_output=True, text=True, check=False, start_new_session=True
    )
    if done.returncode != 0:
        raise UserError(f"dvc exp list: {' '.join(done.stderr.split())}")
    return done.stdout.splitlines()


def run_experiment(root: Path, study: Study, point: Experiment, lock: int, stop: StopFlag) -> bool:
    """Run an experiment in a folder of its own, and return whether it succeeded.

    Data that git ignores is copied there. When it is stopped, its trainings save their states.
    """
    changes = [word for change in point.overrides for word in ("--set-param", change)]
    data = study.data.directory
    ignored = subprocess.run(["git", "check-ignore", "--quiet", data], cwd=root, check=False)
    copied = ["--copy-paths", data] if ignored.returncode == 0 else []
    print(f"sweep: {point.name}", flush=True)
    command = [*_DVC, "exp", "run", "--temp", "--name", point.name, *changes, *copied]
    # a process group of its own: DVC ignores Ctrl-C while a stage runs, which ends by itself
    process = subprocess.Popen(command, cwd=root, start_new_session=True, pass_fds=[lock])
    while process.poll() is None and not stop.is_set():
        time.sleep(_POLL_SEC)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
    return process.wait() == 0


def _check_committed(root: Path) -> None:
    """Refuse changes that an experiment's name, commit and parameters would not show."""
    command = ["git", "status", "--porcelain", "--untracked-files=all"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UserError("git status: failed; experiments need a git repository with a commit")
    for path in (line[3:].strip('"') for line in done.stdout.splitlines()):
        if not path.startswith(_WRITTEN) and not path.endswith(".gitignore"):
            raise UserError(f"{path}: not committed; commit it first, or add it to .gitignore")


def _draw(grid: Sequence[Experiment], states: Mapping[str, str]) -> str:
    """List experiments, by the names that `dvc exp apply` takes, with values and states."""
    rows = [(point.name, states.get(point.name, "not run"), point.values) for point in grid]
    return "\n".join(f"{name}  {state}  {_describe(values)}" for name, state, values in rows)
