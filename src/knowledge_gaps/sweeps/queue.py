"""DVC's experiment queue: what became of experiments, queueing, starting, interrupting.

`dvc exp show --json` knows all of them: those that succeeded, by their commits below the present
one, and those that are queued, running or failed, by the queue's own records.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from knowledge_gaps.core.devices import WORKERS_VARIABLE
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.execution.signals import StopFlag
from knowledge_gaps.study import PARAMS_FILE
from knowledge_gaps.sweeps.dvc_calls import ask_dvc, parse_json, run_dvc
from knowledge_gaps.sweeps.grid import Experiment

_SHOW = ("--wait-for-lock", "exp", "show", "--json")
_SHOW_SEC = 60.0  # it takes seconds
_TRIES = 4
_SETTLE_SEC = 4.0
METRICS_PATH = "reports/metrics.json"
_NOT_INPUTS = ("dvc.lock", "reports/", PARAMS_FILE)  # a run of the study itself writes the first


class State(StrEnum):
    """How far an experiment is."""

    MISSING = "not queued"
    QUEUED = "queued"
    RUNNING = "running"
    FAILED = "failed"
    DONE = "done"


@dataclass(frozen=True)
class Standing:
    """What DVC knows of an experiment.

    Attributes:
        state: how far it is; a running one whose process is gone has failed.
        is_gone: it is such a one, or one that ended a moment ago.
        log: what it said, where that is known.
        metrics: of reports/metrics.json, joined by "."; of an experiment that is done.
    """

    state: State = State.MISSING
    log: Path | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    is_gone: bool = False


def read_standings(root: Path, names: Iterable[str], stop: StopFlag) -> dict[str, Standing]:
    """Ask DVC what became of experiments on top of the present commit.

    Args:
        root: the repository's root.
        names: of the experiments.
        stop: once it is set, DVC is asked once more at most.

    Raises:
        UserError: when DVC cannot say.
    """
    names = list(names)
    for _ in range(_TRIES):  # DVC records the end of an experiment seconds after its process's
        standings = parse_standings(_show(root, stop), names)
        if stop.is_set() or not any(standing.is_gone for standing in standings.values()):
            break
        time.sleep(_SETTLE_SEC)
    return standings


def _show(root: Path, stop: StopFlag) -> Any:
    """Ask DVC for its experiments.

    It stumbles over the folder of an experiment that begins, and may wait for ever for one that
    just ended (DVC 3.67), so it is asked again.
    """
    for _ in range(_TRIES - 1):
        try:
            return parse_json(ask_dvc(root, *_SHOW, timeout_sec=_SHOW_SEC))
        except UserError:
            if stop.is_set():
                break
            time.sleep(_SETTLE_SEC)
    return parse_json(ask_dvc(root, *_SHOW, timeout_sec=_SHOW_SEC))


def parse_standings(shown: Any, names: Iterable[str]) -> dict[str, Standing]:
    """Find experiments in what `dvc exp show --json` says."""
    found = dict.fromkeys(names, Standing())
    for entry in (entry for baseline in shown for entry in baseline["experiments"] or ()):
        if entry["name"] in found:
            found[entry["name"]] = _read_entry(entry)
    return found


def queue_experiment(root: Path, experiment: Experiment, copied: Sequence[str]) -> None:
    """Put an experiment into DVC's queue.

    Args:
        root: the repository's root.
        experiment: what to run.
        copied: paths that git ignores and the experiment's folder needs a copy of.
    """
    changes = [word for change in experiment.describe() for word in ("--set-param", change)]
    copies = [word for path in copied for word in ("--copy-paths", path)]
    name = ["--name", experiment.name]
    ask_dvc(root, "--wait-for-lock", "exp", "run", "--queue", *name, *changes, *copies)


def start_queue(root: Path, max_jobs: int, num_workers: int | None) -> None:
    """See to it that workers of the queue are there; they end when it is empty.

    Args:
        root: the repository's root.
        max_jobs: experiments at the same time.
        num_workers: of each of them; None leaves that to the stages.
    """
    changes = {} if num_workers is None else {WORKERS_VARIABLE: str(num_workers)}
    if run_dvc(root, "queue", "start", "--jobs", str(max_jobs), changes=changes) != 0:
        raise UserError("dvc queue start: failed; `dvc queue status` may tell more")


def forget_failed(root: Path, standings: Mapping[str, Standing]) -> None:
    """Take experiments that failed or were killed out of the queue, to be queued again."""
    failed = [name for name, standing in standings.items() if standing.state is State.FAILED]
    if failed:
        stop_experiments(root, failed)  # which closes the records of those that were killed
        ask_dvc(root, "queue", "remove", *failed)


def stop_queue(root: Path) -> None:
    """Let the queue's workers end after what they run now."""
    run_dvc(root, "queue", "stop")


def stop_experiments(root: Path, names: Sequence[str]) -> None:
    """Interrupt running experiments, as Ctrl-C does; others are left as they are."""
    for name in names:  # one that is not running is an error of the whole call
        run_dvc(root, "queue", "kill", name)


def check_inputs(root: Path) -> None:
    """Refuse inputs that are not committed: an experiment is made of a commit and changed params.

    Raises:
        UserError: names the first of them.
    """
    command = ["git", "status", "--porcelain", "--untracked-files=all"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UserError("git status: failed; experiments need a git repository with a commit")
    paths = [line[3:].strip('"') for line in done.stdout.splitlines()]
    changed = [path for path in paths if not _is_left_aside(path)]
    if changed:
        raise UserError(
            f"{changed[0]}: not committed ({len(changed)} such files); an experiment is recorded "
            "on top of a commit, so commit it first, or add it to .gitignore"
        )


def is_ignored(root: Path, path: str) -> bool:
    """Tell whether git ignores a path, so that an experiment's folder does not have it."""
    done = subprocess.run(["git", "check-ignore", "--quiet", path], cwd=root, check=False)
    return done.returncode == 0


def _is_left_aside(path: str) -> bool:
    return path.startswith(_NOT_INPUTS) or path.endswith(".gitignore")


def _read_entry(entry: Mapping[str, Any]) -> Standing:
    executor = entry["executor"] or {}
    local = executor.get("local") or {}
    log = Path(local["log"]) if local.get("log") else None
    state = executor.get("state")
    if state == "running" and not _is_alive(local.get("pid")):
        return Standing(State.FAILED, log, is_gone=True)
    if state in ("queued", "running", "failed"):
        return Standing(State(state), log)
    data = entry["revs"][0]["data"] or {}
    metrics = data.get("metrics", {}).get(METRICS_PATH, {}).get("data", {})
    return Standing(State.DONE, log, dict(_flatten(metrics)))


def _is_alive(pid: int | None) -> bool:
    """Tell whether a process is there; one that DVC does not know yet is about to start."""
    if pid is None:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _flatten(metrics: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in metrics.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        elif isinstance(value, int | float):
            yield f"{prefix}{name}", float(value)
