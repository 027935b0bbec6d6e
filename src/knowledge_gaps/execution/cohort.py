"""A cohort from its tasks to its published directory, by one process at a time."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from knowledge_gaps.core.errors import StoppedError, UserError
from knowledge_gaps.core.files import hash_file, publish_directory, write_json
from knowledge_gaps.core.layout import (
    COHORT_FILE,
    META_FILE,
    PREPARED,
    TRAIN_IMAGES,
    get_cohort_directory,
)
from knowledge_gaps.core.signals import catch_stop_signals
from knowledge_gaps.execution.assignment import (
    Assignment,
    Callback,
    get_cohort_file,
    get_cohort_state,
    hold_lock,
)
from knowledge_gaps.execution.fingerprint import check_fingerprint, compute_fingerprint
from knowledge_gaps.execution.parallel import Executor, run_local
from knowledge_gaps.models.pool import read_pool
from knowledge_gaps.study import ClassifierRecipe, GanRecipe, Kind, Study
from knowledge_gaps.study.graph import find_recipe, get_cohorts, need
from knowledge_gaps.training.task import TrainingTask


def make_tasks(
    root: Path, study: Study, kind: Kind, name: str, instance: int | None = None
) -> list[TrainingTask]:
    """Make the tasks of a cohort: of all instances, in order, or of one.

    Raises UserError for unknown names, missing inputs and other code than `check` recorded.
    """
    need(name, get_cohorts(study, kind), "cohort", kind.value)
    cohort = get_cohorts(study, kind)[name]
    if instance is not None and instance >= cohort.instances:
        raise UserError(
            f"--instance: {instance} found, {kind}/{name} has {cohort.instances}, from 0"
        )
    recipe = find_recipe(study, f"{kind}/{name}")
    members = read_pool(root, cohort.pool)
    data_sha256 = hash_file(root / PREPARED / TRAIN_IMAGES)
    code = compute_fingerprint(study, kind, name)
    check_fingerprint(root, f"{kind}/{name}", code)
    weights_sha256 = _hash_initial_weights(recipe, root)
    return [
        TrainingTask(
            root=root,
            kind=kind,
            name=name,
            instance=index,
            seed=study.study.seed,
            recipe=recipe,
            cohort=cohort,
            members=members,
            data_name=study.data.name,
            data_sha256=data_sha256,
            code=code,
            initial_weights_sha256=weights_sha256,
        )
        for index in (range(cohort.instances) if instance is None else [instance])
    ]


def train_cohort(
    tasks: Sequence[TrainingTask], callbacks: Sequence[Callback], executor: Executor = run_local
) -> None:
    """Train the instances of a cohort (all, in order) that are missing, and publish its directory.

    Raises as `train_instances`, and UserError when another process is training the cohort.
    """
    lock, cohort = get_cohort_file(tasks[0], ".lock"), tasks[0].cohort_path
    with hold_lock(lock, f"{cohort}: another process is training this cohort"):
        entries = [Assignment(task) for task in tasks]
        kept = {entry.directory for entry in entries}
        for path in get_cohort_state(tasks[0]).glob("*"):
            if path not in kept:  # of trainings that depended on something else
                shutil.rmtree(path)
        train_instances(tasks, callbacks, executor)
        _publish(entries)


def train_instances(
    tasks: Sequence[TrainingTask], callbacks: Sequence[Callback], executor: Executor = run_local
) -> None:
    """Train missing instances of a cohort, for `train_cohort` to find them finished.

    Raises StoppedError, all states saved, and UserError, which names every instance that failed
    after the others were trained.
    """
    missing, cohort = [], tasks[0].cohort_path
    for entry in map(Assignment, tasks):
        if entry.find_result() is None:
            missing.append(entry)
        else:
            for callback in callbacks:
                callback(entry.task.instance, entry.task.recipe.steps, None)
    if not missing:
        return
    try:
        with catch_stop_signals() as stop:
            errors = executor(missing, callbacks, stop)
    except StoppedError as error:
        raise StoppedError(f"{cohort}: state saved, the same command resumes") from error
    instances = defaultdict(list)
    for instance, text in sorted(errors.items()):
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


def _hash_initial_weights(recipe: GanRecipe | ClassifierRecipe, root: Path) -> str | None:
    if isinstance(recipe, GanRecipe) or recipe.initialisation == "random":
        return None
    # imports torch, which the parent process does without otherwise
    from knowledge_gaps.training.initial_weights import find_initial_weights

    found = find_initial_weights(recipe, root)
    return None if found is None else found.sha256
