"""DVC's experiment queue by its command line, whose options and JSON are stable."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import pandas as pd

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.layout import METRICS_FILE

_DVC = (sys.executable, "-m", "dvc", "--wait-for-lock")
_SHOW_SEC = 60.0  # DVC 3.67 may wait for ever for an experiment that has just ended
_TRIES = 4  # `dvc exp show` fails over the folder of one that begins
_SETTLE_SEC = 4.0


class State(StrEnum):
    """How far an experiment is."""

    MISSING = "not queued"
    QUEUED = "queued"
    RUNNING = "running"
    FAILED = "failed"
    DONE = "done"


@dataclass(frozen=True)
class Status:
    """What DVC knows of an experiment.

    Attributes:
        state: how far it is.
        metrics: of reports/metrics.json, keys joined by "."; of an experiment that is done.
        is_gone: its process ended and DVC has not recorded how; it was killed, if that stays so.
    """

    state: State = State.MISSING
    metrics: Mapping[str, float] = field(default_factory=dict)
    is_gone: bool = False


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


def start_workers(root: Path, num_jobs: int, variables: Mapping[str, str]) -> None:
    """Start the queue's workers, as far as they do not run, with changes of the environment."""
    command, env = [*_DVC, "queue", "start", "--jobs", str(num_jobs)], {**os.environ, **variables}
    null = subprocess.DEVNULL  # a pipe would stay open in the workers
    if subprocess.run(command, cwd=root, env=env, stdout=null, stderr=null, check=False).returncode:
        raise UserError("dvc queue start: failed; `dvc queue status` may tell more")


def read_statuses(root: Path, names: Sequence[str]) -> dict[str, Status]:
    """Ask DVC what became of experiments on top of the present commit.

    Raises:
        UserError: when DVC cannot say.
    """
    for tries_left in reversed(range(_TRIES)):
        try:
            printed = call_dvc(root, "exp", "show", "--json", timeout_sec=_SHOW_SEC)
            found = parse_statuses(json.loads(printed.splitlines()[-1]), names)
            if tries_left == 0 or not any(status.is_gone for status in found.values()):
                break
        except UserError:
            if tries_left == 0:
                raise
        time.sleep(_SETTLE_SEC)
    return found


def parse_statuses(shown: Any, names: Sequence[str]) -> dict[str, Status]:
    """Find experiments in what `dvc exp show --json` prints."""
    entries = [entry for baseline in shown for entry in baseline["experiments"] or ()]
    known = {entry["name"]: _read_entry(entry) for entry in entries if entry["name"] in names}
    return {name: known.get(name, Status()) for name in names}


def _read_entry(entry: Mapping[str, Any]) -> Status:
    executor = entry["executor"] or {}
    state, pid = executor.get("state"), (executor.get("local") or {}).get("pid")
    if state == "running" and pid is not None and not _is_alive(pid):
        return Status(State.FAILED, is_gone=True)
    if state in ("queued", "running", "failed"):
        return Status(State(state))
    files = (entry["revs"][0]["data"] or {}).get("metrics", {})
    metrics = files.get(f"reports/{METRICS_FILE}", {}).get("data", {})
    flat = pd.json_normalize(metrics).to_dict("records")[0] if metrics else {}
    numbers = {str(key): value for key, value in flat.items() if isinstance(value, int | float)}
    return Status(State.DONE, numbers)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def kill_experiments(root: Path, names: Sequence[str]) -> None:
    """Interrupt running experiments, as Ctrl-C does, and close the records of those gone."""
    for name in names:
        try:
            call_dvc(root, "queue", "kill", name)
        except UserError:  # it does not run
            continue
