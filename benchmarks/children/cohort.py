"""Trains cohorts of a study's folder in a process of its own, and prints what that took as JSON.

    PYTHONPATH=benchmarks python benchmarks/children/cohort.py ROOT gans COHORT --sizes 8

Seconds run from the first worker's first report, so that no import is among them, to the published
directory. Several sizes take turns. Memory is measured instead of seconds, for looking at it takes
time, and in a process that has trained nothing before.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from knowledge_gaps.core.layout import get_cohort_directory
from knowledge_gaps.execution.cohort import train_cohort
from knowledge_gaps.execution.tasks import make_tasks
from knowledge_gaps.study import PARAMS_FILE, Kind, load_study
from knowledge_gaps.training.task import TrainingTask
from measuring.pairs import take_turns
from measuring.usage import Usage


@dataclass
class FirstReport:
    """Notes when anything was reported first."""

    heard_at: float | None = None

    def report(self, instance: int, step: int, row: dict[str, float] | None) -> None:
        """An `execution.progress.Callback`."""
        if self.heard_at is None:
            self.heard_at = time.perf_counter()


@dataclass(frozen=True)
class Trained:
    """What one size cost: seconds, one a turn."""

    size: int
    seconds: list[float]


def time_training(tasks: list[TrainingTask]) -> float:
    """Train a cohort; return its seconds."""
    first = FirstReport()
    forget(tasks)
    train_cohort(tasks, [first.report])
    assert first.heard_at is not None  # every training reports its first step
    return time.perf_counter() - first.heard_at


def forget(tasks: list[TrainingTask]) -> None:
    """Remove the published cohort, whose instances would not be trained again."""
    directory = get_cohort_directory(tasks[0].root, tasks[0].cohort_path)
    shutil.rmtree(directory, ignore_errors=True)


def measure_memory(tasks: list[TrainingTask]) -> int:
    """Train a cohort; return the peak of the memory of this process and its workers."""
    forget(tasks)
    with Usage() as usage:
        train_cohort(tasks, [])
    return usage.peak_bytes


def main() -> None:
    """Train, print."""
    parser = argparse.ArgumentParser(description="Time the training of cohorts.")
    parser.add_argument("root", type=Path)
    parser.add_argument("kind", choices=[kind.value for kind in Kind])
    parser.add_argument("cohort")
    parser.add_argument("--sizes", type=int, nargs="+", required=True, help="instances")
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--memory", action="store_true", help="of one size, instead of seconds")
    options = parser.parse_args()
    study = load_study(options.root / PARAMS_FILE)
    tasks = make_tasks(options.root, study, Kind(options.kind), options.cohort)
    if options.memory:
        [size] = options.sizes
        print(json.dumps({"peak_bytes": measure_memory(tasks[:size])}))
        return
    seconds = take_turns(
        {size: partial(time_training, tasks[:size]) for size in options.sizes},
        options.turns,
    )
    found = [Trained(size, seconds[size]) for size in options.sizes]
    print(json.dumps({"trained": [asdict(each) for each in found]}))


if __name__ == "__main__":
    main()
