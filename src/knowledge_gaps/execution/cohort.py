"""A cohort from its tasks to its published directory.

An executor trains the instances that are missing (`knowledge_gaps.execution.local`); one process
at a time holds the cohort's lock, and puts the finished instances together. Nothing that happens
here changes an instance's bytes.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from knowledge_gaps.core.errors import StoppedError, UserError
from knowledge_gaps.core.files import hash_file, publish_directory, write_json
from knowledge_gaps.core.layout import COHORT_FILE, META_FILE, get_cohort_directory
from knowledge_gaps.core.signals import catch_stop_signals
from knowledge_gaps.execution.assignment import (
    Assignment,
    get_cohort_file,
    get_cohort_state,
    hold_lock,
)
from knowledge_gaps.execution.fingerprint import check_fingerprint
from knowledge_gaps.execution.local import Executor, Outcome, run_local
from knowledge_gaps.execution.progress import Callback
from knowledge_gaps.training.task import TrainingTask


def train_cohort(
    tasks: Sequence[TrainingTask], callbacks: Sequence[Callback], executor: Executor = run_local
) -> None:
    """Train the instances of a cohort that are missing, and publish its directory.

    Args:
        tasks: of one cohort, all instances, in order.
        callbacks: called with every instance's progress.
        executor: runs the trainings.

    Raises:
        StoppedError: as `train_instances`.
        UserError: as `train_instances`; when other code was recorded meanwhile, or another process
            is training the cohort.
    """
    lock, cohort = get_cohort_file(tasks[0], ".lock"), tasks[0].cohort_path
    with hold_lock(lock, f"{cohort}: another process is training this cohort"):
        kept = {Assignment.of(task).directory for task in tasks}
        for path in get_cohort_state(tasks[0]).glob("*"):
            if path not in kept:  # of trainings that depended on something else
                shutil.rmtree(path)
        train_instances(tasks, callbacks, executor)
        _publish([Assignment.of(task) for task in tasks])


def train_instances(
    tasks: Sequence[TrainingTask], callbacks: Sequence[Callback], executor: Executor = run_local
) -> None:
    """Train instances of a cohort, for `train_cohort` to find them finished.

    Finished ones are kept, interrupted ones resume.

    Args:
        tasks: of one cohort.
        callbacks: called with every instance's progress.
        executor: runs the trainings.

    Raises:
        StoppedError: when the process was told to stop; all states are saved.
        UserError: names every instance that failed, after the others were trained.
    """
    missing = []
    for entry in map(Assignment.of, tasks):
        if entry.find_result() is None:
            missing.append(entry)
        else:
            for callback in callbacks:
                callback(entry.task.instance, entry.task.recipe.steps, None)
    if missing:
        with catch_stop_signals() as stop:
            outcome = executor(missing, callbacks, stop)
        check_outcome(outcome, tasks[0].cohort_path)


def check_outcome(outcome: Outcome, cohort: str) -> None:
    """Raise StoppedError or UserError if that is the outcome of a cohort's trainings."""
    if outcome.stopped:
        raise StoppedError(f"{cohort}: state saved, the same command resumes")
    instances = defaultdict(list)
    for instance, text in sorted(outcome.errors.items()):
        instances[text].append(f"{cohort}/{instance}")
    if instances:
        raise UserError("; ".join(f"{', '.join(i)}: {text}" for text, i in instances.items()))


def _publish(entries: Sequence[Assignment]) -> None:
    """Put the finished instances together into the cohort's directory, and drop their states."""
    task, results = entries[0].task, [entry.find_result() for entry in entries]
    check_fingerprint(task.root, task.cohort_path, dict(task.code))
    instances, record = [], {}

    def assemble(target: Path) -> None:
        for entry, result in zip(entries, results, strict=True):
            assert result is not None  # train_instances raised otherwise
            instance = entry.task.instance
            shutil.copytree(result, target / str(instance))
            sha256 = hash_file(target / str(instance) / META_FILE)
            instances.append({"instance": instance, "sha256": sha256})
            record[entry.directory.name] = sha256
        manifest = {"format": 1, "kind": task.kind.value, "cohort": task.name}
        write_json(target / COHORT_FILE, {**manifest, "instances": instances})

    publish_directory(get_cohort_directory(task.root, task.cohort_path), assemble)
    write_json(get_cohort_file(task, ".json"), record)  # before the states go: see find_result
    shutil.rmtree(get_cohort_state(task), ignore_errors=True)
