"""A cohort from its tasks to its published directory, by one process at a time."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from knowledge_gaps.core import layout
from knowledge_gaps.core.errors import StoppedError, UserError
from knowledge_gaps.core.files import (
    hash_file,
    link_files,
    publish_directory,
    read_json,
    write_json,
)
from knowledge_gaps.core.instance import Instance
from knowledge_gaps.core.signals import catch_stop_signals
from knowledge_gaps.execution.assignment import (
    Assignment,
    Callback,
    hold_lock,
    name_training,
)
from knowledge_gaps.execution.fingerprint import check_fingerprint, compute_fingerprint
from knowledge_gaps.execution.parallel import Executor, run_local
from knowledge_gaps.models.pool import read_pool
from knowledge_gaps.study import ClassifierRecipe, GanRecipe, Kind, Study
from knowledge_gaps.study.graph import find_recipe, get_cohorts, list_instances, list_members, need


def make_tasks(
    root: Path, study: Study, kind: Kind, name: str, instance: Instance | None = None
) -> list[Assignment]:
    """Make the tasks of a cohort: of all instances, in order, or of one.

    Raises UserError for unknown names, missing inputs and other code than `check` recorded.
    """
    need(name, get_cohorts(study, kind), "cohort", kind.value)
    cohort = get_cohorts(study, kind)[name]
    instances = list_instances(study, cohort)
    if instance is not None and instance not in instances:
        last = f"{instances[-1]} is the last of {kind}/{name}"
        raise UserError(f"--instance: {instance} found, {last}, which counts from 0/0")
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
        instance=Instance(0, 0),
        seed=study.study.seed,
        recipe=recipe,
        cohort=cohort,
        members=(),
        data_name=study.data.name,
        data_sha256=hash_file(root / layout.PREPARED / layout.TRAIN_IMAGES),
        code=code,
        initial_weights_sha256=weights_sha256,
        dev_sha256=_hash_dev(root, study, recipe),
    )
    members = defaultdict(list)  # by chain
    for member in read_pool(root, cohort.pool):
        members[member.chain].append(member)
    asked = instances if instance is None else [instance]
    needed = len(list_members(study, cohort.pool))
    for chain in {each.chain for each in asked}:
        if (found := len(members[chain])) != needed:
            file = layout.get_pool_file(root, cohort.pool)
            raise UserError(f"{file}: chain {chain} has {found} of {needed} members; run dvc repro")
    return [replace(first, instance=each, members=tuple(members[each.chain])) for each in asked]


def _hash_dev(root: Path, study: Study, recipe: GanRecipe | ClassifierRecipe) -> str | None:
    """Hash the dev reals where early stopping reads them."""
    is_stopped = isinstance(recipe, ClassifierRecipe) and recipe.early_stopping is not None
    if not is_stopped or study.data.num_dev is None:
        return None
    return hash_file(root / layout.PREPARED / layout.DEV_IMAGES)


def train_cohort(
    tasks: Sequence[Assignment], callback: Callback, executor: Executor = run_local
) -> None:
    """Train the instances of a cohort (all, in order) that are missing, and publish its directory.

    Raises as `train_instances`, and UserError when another process is training the cohort.
    """
    lock, cohort = tasks[0].get_lock("cohort"), tasks[0].cohort_path
    with hold_lock(lock, f"{cohort}: another process is training this cohort"):
        for path in tasks[0].cohort_state.glob("*"):
            is_asked = path in {task.directory for task in tasks}
            if not is_asked and not (path / layout.RESULT / layout.META_FILE).exists():
                shutil.rmtree(path)  # the state of a training by other settings
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
        if task.is_finished:
            callback(task.instance, task.recipe.steps, None)
        else:
            missing.append(task)
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
    """Put the finished instances together into the cohort's directory."""
    first = tasks[0]
    check_fingerprint(first.root, first.cohort_path, first.code)

    def assemble(target: Path) -> None:
        instances = []
        for task in tasks:
            copy = target / str(task.instance)
            link_files(task.result, copy)
            sha256, (chain, index) = hash_file(copy / layout.META_FILE), task.instance
            instances.append({"chain": chain, "instance": index, "sha256": sha256})
        manifest = {"format": 2, "kind": first.kind.value, "cohort": first.name}
        write_json(target / layout.COHORT_FILE, {**manifest, "instances": instances})

    publish_directory(layout.get_cohort_directory(first.root, first.cohort_path), assemble)


def keep_published(root: Path, study: Study) -> None:
    """Keep published instances as finished trainings, before DVC removes a cohort that is due.

    So another number of chains or instances trains only those that are new, in a clone as well.
    What is not whole is left out.
    """
    for kind in Kind:
        for name, cohort in get_cohorts(study, kind).items():
            for instance in list_instances(study, cohort):
                published = layout.get_instance_directory(root, f"{kind}/{name}", instance)
                meta = _read_meta(published)
                training = name_training(instance, meta.get("identity", ""))
                target = layout.get_trainings(root, kind, name) / training / layout.RESULT
                if meta and not target.exists() and _is_whole(published, meta["files"]):
                    publish_directory(target, partial(link_files, published))


def _read_meta(directory: Path) -> dict[str, Any]:
    """Read an instance's meta.json; empty where there is none, or one that is damaged."""
    try:
        meta = read_json(directory / layout.META_FILE)
    except UserError:
        return {}
    return meta if {"identity", "files"} <= meta.keys() else {}


def _is_whole(directory: Path, hashes: Mapping[str, str]) -> bool:
    """Tell whether the files of an instance are those that its meta.json lists."""
    names = {path.name for path in directory.iterdir()} - {layout.META_FILE}
    return names == set(hashes) and all(
        hash_file(directory / name) == hashes[name] for name in names
    )
