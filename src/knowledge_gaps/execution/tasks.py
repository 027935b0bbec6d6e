"""The tasks of a cohort, from the study and the files that its trainings read."""

from __future__ import annotations

from pathlib import Path

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.layout import TRAIN_IMAGES, get_prepared_directory
from knowledge_gaps.data.store import open_images
from knowledge_gaps.execution.fingerprint import check_fingerprint, compute_fingerprint
from knowledge_gaps.models.pool import read_pool
from knowledge_gaps.study import ClassifierRecipe, GanRecipe, Kind, Study
from knowledge_gaps.study.graph import find_recipe, get_cohorts, need
from knowledge_gaps.training.task import TrainingTask


def make_tasks(
    root: Path, study: Study, kind: Kind, name: str, instance: int | None = None
) -> list[TrainingTask]:
    """Make the tasks of a cohort: of all instances, in order, or of one.

    Raises:
        UserError: for an unknown cohort or instance; when the prepared data or the pool's manifest
            is missing; for other code or versions than the study was checked with.
    """
    need(name, get_cohorts(study, kind), "cohort", kind.value)
    cohort = get_cohorts(study, kind)[name]
    if instance is not None and instance >= cohort.instances:
        raise UserError(
            f"--instance: {instance} found, {kind}/{name} has {cohort.instances}, from 0"
        )
    recipe = find_recipe(study, f"{kind}/{name}")
    members = read_pool(root, cohort.pool)
    data_sha256 = open_images(get_prepared_directory(root) / TRAIN_IMAGES).compute_sha256()
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


def _hash_initial_weights(recipe: GanRecipe | ClassifierRecipe, root: Path) -> str | None:
    if isinstance(recipe, GanRecipe) or recipe.initialisation == "random":
        return None
    # imports torch, which the parent process does without otherwise
    from knowledge_gaps.training.initial_weights import find_initial_weights

    found = find_initial_weights(recipe, root)
    return None if found is None else found.sha256
