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
from knowledge_gaps.execution.assignment import (
    Assignment,
    get_cohort_state,
    get_published_file,
    hold_lock,
)
from knowledge_gaps.execution.fingerprint import check_fingerprint
from knowledge_gaps.execution.local import Executor, Outcome, run_here, run_local
from knowledge_gaps.execution.progress import Callback
from knowledge_gaps.execution.signals import catch_stop_signals
from knowledge_gaps.training.task import TrainingTask


def train_cohort(
    tasks: Sequence[TrainingTask], callbacks: Sequence[Callback], executor: Executor = run_local
) -> None:
    """Train the instances of a cohort that are missing, and publish its directory.

    Instances that are finished are kept, interrupted ones resume.

    Args:
        tasks: of one cohort, all instances, in order.
        callbacks: called with every instance's progress.
        executor: runs the trainings.

    Raises:
        StoppedError: when the process was told to stop; all states are saved.
        UserError: names every instance that failed, after the others were trained; when other code
            was recorded meanwhile, or another process is training the cohort.
    """
    cohort, lock = tasks[0].cohort_path, get_cohort_state(tasks[0]).with_suffix(".lock")
    entries = [Assignment.of(task) for task in tasks]
    with hold_lock(lock, f"{cohort}: another process is training this cohort"):
        _drop_other_states(entries)
        missing = [entry for entry in entries if entry.find_result() is None]
        for task in tasks:
            if all(task is not entry.task for entry in missing):
                _report_finished(task, callbacks)
        if missing:
            with catch_stop_signals() as stop:
                outcome = executor(missing, callbacks, stop)
            check_outcome(outcome, cohort)
        _publish(entries)


def train_single(
    task: TrainingTask, callbacks: Sequence[Callback], executor: Executor = run_here
) -> None:
    """Train or resume one instance, for `train_cohort` to find it finished.

    Args:
        task: the instance.
        callbacks: called with its progress.
        executor: runs the training.

    Raises:
        StoppedError: when the process was told to stop; the state is saved.
        UserError: when the instance failed, or another process is training it.
    """
    entry = Assignment.of(task)
    if entry.find_result() is None:
        with catch_stop_signals() as stop:
            outcome = executor([entry], callbacks, stop)
        check_outcome(outcome, task.cohort_path)
    _report_finished(task, callbacks)


def check_outcome(outcome: Outcome, cohort: str) -> None:
    """Raise StoppedError or UserError if that is the outcome of a cohort's trainings."""
    if outcome.stopped:
        raise StoppedError(f"{cohort}: state saved, the same command resumes")
    instances = defaultdict(list)
    for instance, text in sorted(outcome.errors.items()):
        instances[text].append(f"{cohort}/{instance}")
    if instances:
        raise UserError("; ".join(f"{', '.join(i)}: {text}" for text, i in instances.items()))


def _report_finished(task: TrainingTask, callbacks: Sequence[Callback]) -> None:
    for callback in callbacks:
        callback(task.instance, task.recipe.steps, None)


def _drop_other_states(entries: Sequence[Assignment]) -> None:
    """Remove the states of trainings that depended on something else than these do."""
    kept = {entry.directory for entry in entries}
    for path in get_cohort_state(entries[0].task).glob("*"):
        if path not in kept:
            shutil.rmtree(path)


def _publish(entries: Sequence[Assignment]) -> None:
    """Put the finished instances together into the cohort's directory, and drop their states."""
    task, metas = entries[0].task, [_find(entry) / META_FILE for entry in entries]
    check_fingerprint(task.root, task.cohort_path, dict(task.code))
    record = {
        entry.directory.name: hash_file(meta) for entry, meta in zip(entries, metas, strict=True)
    }

    def assemble(target: Path) -> None:
        instances = []
        for entry in entries:
            instance = entry.task.instance
            shutil.copytree(_find(entry), target / str(instance))
            instances.append({"instance": instance, "sha256": record[entry.directory.name]})
        manifest = {"format": 1, "kind": task.kind.value, "cohort": task.name}
        write_json(target / COHORT_FILE, {**manifest, "instances": instances})

    publish_directory(get_cohort_directory(task.root, task.cohort_path), assemble)
    write_json(get_published_file(task), record)  # before the states go: see find_result
    shutil.rmtree(get_cohort_state(task), ignore_errors=True)


def _find(entry: Assignment) -> Path:
    found = entry.find_result()
    if found is None:
        raise UserError(f"{entry.task.path}: its finished files were removed by another process")
    return found
