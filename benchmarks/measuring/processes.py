"""Processes that are measured from outside, each with the environment that a user would give it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).resolve().parents[1]
REPOSITORY = BENCHMARKS.parent
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # the shell's; a user has torch's default


@dataclass(frozen=True)
class Answer:
    """What a process said on its last line, and how long it took by the clock, start included."""

    content: dict[str, Any]
    wall_sec: float


def make_environment(**changes: str) -> dict[str, str]:
    """Return this process's environment without what decides threads, workers or tracking."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in _THREADS and not name.startswith(("DVC_", "GIT_", "KGAPS_", "MLFLOW_"))
    }
    return {
        **kept,
        "PYTHONPATH": str(REPOSITORY / "src"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "KGAPS_TRACKING": "off",
        **changes,
    }


def run_script(script: str, *arguments: object) -> Answer:
    """Run a script of `benchmarks` that prints a JSON object on its last line."""
    environment = make_environment(PYTHONPATH=f"{REPOSITORY / 'src'}{os.pathsep}{BENCHMARKS}")
    command = [sys.executable, str(BENCHMARKS / script), *map(str, arguments)]
    start = time.perf_counter()
    out = run(command, REPOSITORY, environment)
    wall_sec = time.perf_counter() - start
    content: dict[str, Any] = json.loads(out.splitlines()[-1])
    return Answer(content, wall_sec)


def run_kgaps(root: Path, *arguments: str) -> str:
    """Run the project's command line in a study's folder; return what it said."""
    return run([sys.executable, "-m", "knowledge_gaps", *arguments], root, make_environment())


def run(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> str:
    """Run a command that has to succeed; return its standard output.

    Raises:
        RuntimeError: when it fails, with what it said.
    """
    finished = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if finished.returncode != 0:
        said = (finished.stdout + finished.stderr)[-2000:]
        raise RuntimeError(f"{' '.join(command)} ended with {finished.returncode}:\n{said}")
    return finished.stdout
