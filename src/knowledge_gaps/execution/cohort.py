"""A cohort from its tasks to its published directory, by one process at a time."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from knowledge_gaps.core import layout
from knowledge_gaps.core.errors import StoppedError, UserError
from knowledge_gaps.core.files import hash_file, publish_directory, write_json
from knowledge_gaps.core.signals import catch_stop_signals
from knowledge_gaps.execution.assignment import Assignment, Callback, hold_lock
from knowledge_gaps.execution.fingerprint import check_fingerprint, compute_fingerprint
from knowledge_gaps.execution.parallel import Executor, run_local
from knowledge_gaps.models.pool import read_pool
from knowledge_gaps.study import ClassifierRecipe, Kind, Study
from knowledge_gaps.study.graph import find_recipe, get_cohorts, need


def make_tasks(
    root: Path, study: Study, kind: Kind, name: str, instance: int | None = None
) -> list[Assignment]:
    """Make the tasks of a cohort: of all instances, in order, or of one.

    Raises UserError for unknown names, missing inputs and other code than `check` recorded.
    """
    need(name, get_cohorts(study, kind), "cohort", kind.value)
    cohort = get_cohorts(study, kind)[name]
    if instance is not None and instance >= cohort.instances:
        raise UserError(
            f"--instance: {instance} found, {kind}/{name} has {cohort.instances}, from 0"
        )
    recipe, weights_sha256 = find_recipe(study, f"{kind}/{name}"), None
    code = compute_fingerprint(study, kind, name)
    check_fingerprint(root, f"{kind}/{name}", code)
    if isinstance(recipe, ClassifierRecipe) and recipe.initialisation != "random":
        # imports torch, which the parent process does without otherwise
        from knowledge_gaps.training.initial_weights import find_initial_weights

        _, weights_sha256 = find_initial_weights(recipe, root)
    first = Assignment(
        root=root,
        kind=kind,
        name=name,
        instance=0,
        seed=study.study.seed,
        recipe=recipe,
        cohort=cohort,
        members=read_pool(root, cohort.pool),
        data_name=study.data.name,
        data_sha256=hash_file(root / layout.PREPARED / layout.TRAIN_IMAGES),
        code=code,
        initial_weights_sha256=weights_sha256,
    )
    indices = range(cohort.instances) if instance is None else [instance]
    return [replace(first, instance=index) for index in indices]


def train_cohort(
    tasks: Sequence[Assignment], callback: Callback, executor: Executor = run_local
) -> None:
    """Train the instances of a cohort (all, in order) that are missing, and publish its directory.

    Raises as `train_instances`, and UserError when another process is training the cohort.
    """
    lock, cohort = tasks[0].get_cohort_file(".lock"), tasks[0].cohort_path
    with hold_lock(lock, f"{cohort}: another process is training this cohort"):
        for path in tasks[0].cohort_state.glob("*"):
            if path not in {task.directory for task in tasks}:  # it depended on something else
                shutil.rmtree(path)
        train_instances(tasks, callback, executor)
        _publish(tasks)


def train_instances(
    tasks: Sequence[Assignment], callback: Callback, executor: Executor = run_local
) -> None:
    """Train missing instances of a cohort, for `train_cohort` to find them finished.

    Raises StoppedError, all states saved, and UserError, which names every instance that failed
    after the others were trained.
    """
    missing, cohort = [], tasks[0].cohort_path
    for task in tasks:
        if task.find_result() is None:
            missing.append(task)
        else:
            callback(task.instance, task.recipe.steps, None)
    if not missing:
        return
    try:
        with catch_stop_signals() as stop:
            errors = executor(missing, callback, stop)
    except StoppedError as error:
        raise StoppedError(f"{cohort}: state saved, the same command resumes") from error
    instances = defaultdict(list)
    for instance, text in sorted(errors.items()):
        instances[text].append(f"{cohort}/{instance}")
    if instances:
        raise UserError("; ".join(f"{', '.join(i)}: {text}" for text, i in instances.items()))


def _publish(tasks: Sequence[Assignment]) -> None:
    """Put the finished instances together into the cohort's directory, and drop their states."""
    first, record = tasks[0], {}
    check_fingerprint(first.root, first.cohort_path, first.code)

    def assemble(target: Path) -> None:
        instances = []
        for task in tasks:
            result, copy = task.find_result(), target / str(task.instance)
            assert result is not None  # train_instances raised otherwise
            shutil.copytree(result, copy)
            record[task.directory.name] = hash_file(copy / layout.META_FILE)
            instances.append({"instance": task.instance, "sha256": record[task.directory.name]})
        manifest = {"format": 1, "kind": first.kind.value, "cohort": first.name}
        write_json(target / layout.COHORT_FILE, {**manifest, "instances": instances})

    publish_directory(layout.get_cohort_directory(first.root, first.cohort_path), assemble)
    write_json(first.get_cohort_file(".json"), record)  # before the states go: see find_result
    shutil.rmtree(first.cohort_state, ignore_errors=True)
