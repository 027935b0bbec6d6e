"""What of the study is there already: by DVC, and by the resume states of interrupted trainings.

DVC is asked by its command line, whose JSON is stable where its Python API is not. Where it cannot
answer (it is not installed, or `dvc repro` holds its lock), finished cohorts are taken from what
their meta.json files say of their settings.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knowledge_gaps.planning.inventory import CohortWork
from knowledge_gaps.runtime.dvc_lock import read_stages
from knowledge_gaps.runtime.errors import UserError
from knowledge_gaps.runtime.files import read_json
from knowledge_gaps.runtime.layout import (
    META_FILE,
    get_code_file,
    get_instance_directory,
    get_state_directory,
)
from knowledge_gaps.study import NO_POOL, Study
from knowledge_gaps.training.code import describe_training_code, find_changed_code, hash_note
from knowledge_gaps.training.task import TrainingTask, make_tasks

_STATE_FILE = "state.safetensors"
_IN_CACHE = "in DVC's cache"
_SHOWN_CHANGES = 2

Changes = Mapping[str, list[Any]]


@dataclass(frozen=True)
class Standing:
    """How far a cohort is.

    Attributes:
        steps_left: of every training that is not finished, in the order of the instances.
        note: why something is left although something is there, or where it comes from.
    """

    steps_left: tuple[int, ...]
    note: str = ""


def find_standings(
    root: Path, study: Study, cohorts: list[CohortWork], changes: Changes | None
) -> dict[str, Standing]:
    """Find what is left of each cohort.

    Args:
        root: the repository's root.
        study: the present one.
        cohorts: all, each after those that it stands on.
        changes: of `ask_dvc`; None where DVC could not answer.

    Returns:
        By kind/COHORT. A cohort on top of one that trains anew is left whole.
    """
    standings: dict[str, Standing] = {}
    recorded = {} if changes is None else read_stages(root)
    for work in cohorts:
        stale = [path for path in work.upstream if standings[path].steps_left]
        if stale:
            whole = (work.recipe.steps,) * work.cohort.instances
            standings[work.path] = Standing(whole, f"after {stale[0]}")
            continue
        note = _find_change(root, study, work, changes, recorded)
        if note is None:
            standings[work.path] = Standing(())
        elif note == _IN_CACHE:
            standings[work.path] = Standing((), _IN_CACHE)
        else:
            standings[work.path] = _find_resumable(root, study, work, note)
    return standings


def ask_dvc(root: Path) -> Changes | None:
    """Ask DVC which stages are not up to date.

    Returns:
        What `dvc status --json` says by stage; None where it cannot say.
    """
    command = [sys.executable, "-m", "dvc", "status", "--json"]
    finished = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        return None
    try:
        changes: Changes = json.loads(finished.stdout)
    except ValueError:
        return None
    return changes


def _find_change(
    root: Path,
    study: Study,
    work: CohortWork,
    changes: Changes | None,
    recorded: Mapping[str, Any],
) -> str | None:
    """Say why a cohort is not up to date: None when it is, `_IN_CACHE` when DVC can restore it."""
    if changes is None:
        return None if _is_stored(root, study, work) else ""
    pools, pool = [], work.cohort.pool
    while pool != NO_POOL:
        pools.append(f"pools@{pool}")
        pool = study.pools[pool].extends
    stages = ["prepare", *reversed(pools), f"{work.kind}@{work.name}"]
    found = [classify_changes(changes[stage]) for stage in stages if stage in changes]
    real = [note for note in found if note != _IN_CACHE]
    if real:
        return real[0]
    code = _find_code_change(root, study, work, recorded.get(stages[-1], {}))
    return code or (_IN_CACHE if stages[-1] in changes else None)


def _find_code_change(
    root: Path, study: Study, work: CohortWork, stage: Mapping[str, Any]
) -> str | None:
    """Say which code changed since a cohort was trained; DVC sees it when check has run again."""
    note = get_code_file(root, work.path).relative_to(root).as_posix()
    noted = [dep.get("md5") for dep in stage.get("deps", []) if dep["path"] == note]
    code = describe_training_code(study, work.kind, work.name)
    if not stage or noted == [hash_note(code)]:
        return None
    changed = find_changed_code(root, work.path, code)
    return f"changed: {_join([f'src/{path}' for path in changed]) or 'the code'}"


def classify_changes(entries: list[Any]) -> str:
    """Put what DVC says of a stage into words.

    Only outputs that are deleted here but recorded and cached, below inputs of which nothing but
    the absence is said, can be restored without running anything.

    Args:
        entries: of one stage in `dvc status --json`.

    Returns:
        "in DVC's cache"; "new" for a stage that has never run; "changed: ..." with the first
        inputs that changed, or "new here: ..." where of what is recorded nothing is here, as when
        dvc.lock is another study's.
    """
    inputs: dict[str, Any] = {}
    outputs: dict[str, Any] = {}
    for entry in entries:
        if not isinstance(entry, dict):
            return f"changed: {entry}"
        inputs.update(entry.get("changed deps", {}))
        outputs.update(entry.get("changed outs", {}))
    changed = {name: how for name, how in inputs.items() if how != "deleted"}
    if changed.get("params.yaml") == "new":
        return "new"
    is_here = not outputs or any(how != "deleted" for how in outputs.values())
    if changed:
        names = [name for how in changed.values() if isinstance(how, dict) for name in how]
        names += [name for name, how in changed.items() if not isinstance(how, dict)]
        shown = _join(names)
        return f"changed: {shown}" if is_here else f"new here: dvc.lock records other {shown}"
    if outputs and is_here:
        return "recorded, but not in DVC's cache: pull or train"
    return _IN_CACHE


def _join(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > _SHOWN_CHANGES else ""
    return ", ".join(names[:_SHOWN_CHANGES]) + more


def _is_stored(root: Path, study: Study, work: CohortWork) -> bool:
    """Tell whether models/ holds every instance with the settings that it would have now."""
    for instance in range(work.cohort.instances):
        try:
            meta = read_json(get_instance_directory(root, work.path, instance) / META_FILE)
        except UserError:
            return False
        expected = {
            "seed": study.study.seed,
            "settings": work.recipe.model_dump(mode="json"),
            "cohort_settings": work.cohort.model_dump(mode="json", exclude={"instances"}),
        }
        if any(meta.get(key) != value for key, value in expected.items()):
            return False
    return True


def _find_resumable(root: Path, study: Study, work: CohortWork, note: str) -> Standing:
    """Count what an interrupted run left behind for the same command to resume."""
    steps = work.recipe.steps
    whole = Standing((steps,) * work.cohort.instances, note)
    folder = get_state_directory(root) / "resume" / f"{work.kind}-{work.name}"
    if not folder.exists():
        return whole
    try:
        tasks = make_tasks(root, study, work.kind, work.name)
    except UserError:  # its inputs are not there, so nothing of it can have begun
        return whole
    done = [_count_steps(folder, task) for task in tasks]
    notes = [note] if note else []
    notes += [f"{work.name}/{i} at step {n}" for i, n in enumerate(done) if 0 < n < steps]
    left = tuple(steps - num_steps for num_steps in done if num_steps < steps)
    return Standing(left, "; ".join(notes))


def _count_steps(folder: Path, task: TrainingTask) -> int:
    directory = folder / f"{task.instance}-{task.compute_identity()[:16]}"
    if (directory / "result" / META_FILE).exists():
        return task.recipe.steps
    state_file = directory / _STATE_FILE
    if not state_file.exists():
        return 0
    from knowledge_gaps.runtime.checkpoint import read_metadata  # it imports torch

    try:
        step: int = json.loads(read_metadata(state_file)["counters"])["step"]
    except (KeyError, ValueError, UserError):
        return 0
    return step
