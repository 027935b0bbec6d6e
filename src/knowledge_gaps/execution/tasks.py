"""The tasks of a cohort, from the study and the files that its trainings read."""

from __future__ import annotations

from pathlib import Path

from knowledge_gaps.core.layout import TRAIN_IMAGES, get_prepared_directory
from knowledge_gaps.data.store import open_images
from knowledge_gaps.execution.fingerprint import compute_fingerprint
from knowledge_gaps.models.pool import read_pool
from knowledge_gaps.study import ClassifierRecipe, GanRecipe, Kind, Study
from knowledge_gaps.study.graph import find_recipe, get_cohorts
from knowledge_gaps.training.task import TrainingTask


def make_tasks(root: Path, study: Study, kind: Kind, name: str) -> list[TrainingTask]:
    """Make the tasks of all instances of a cohort, in order.

    Raises:
        UserError: when the prepared data or the pool's manifest is missing.
    """
    cohort = get_cohorts(study, kind)[name]
    recipe = find_recipe(study, f"{kind}/{name}")
    members = read_pool(root, cohort.pool)
    data_sha256 = open_images(get_prepared_directory(root) / TRAIN_IMAGES).compute_sha256()
    code = compute_fingerprint(study, kind, name)
    weights_sha256 = _hash_initial_weights(recipe, root)
    return [
        TrainingTask(
            root=root,
            kind=kind,
            name=name,
            instance=instance,
            seed=study.study.seed,
            recipe=recipe,
            cohort=cohort,
            members=members,
            data_name=study.data.name,
            data_sha256=data_sha256,
            code=code,
            initial_weights_sha256=weights_sha256,
        )
        for instance in range(cohort.instances)
    ]


def _hash_initial_weights(recipe: GanRecipe | ClassifierRecipe, root: Path) -> str | None:
    if isinstance(recipe, GanRecipe) or recipe.initialisation == "random":
        return None
    # imports torch, which the parent process does without otherwise
    from knowledge_gaps.training.initial_weights import find_initial_weights

    found = find_initial_weights(recipe, root)
    return None if found is None else found.sha256
