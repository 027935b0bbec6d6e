"""What one instance's training depends on, all of it and nothing else; it crosses processes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knowledge_gaps.core.files import dump_json
from knowledge_gaps.core.layout import TRAIN_IMAGES, get_prepared_directory
from knowledge_gaps.data.store import open_images
from knowledge_gaps.execution.fingerprint import Fingerprint, compute_fingerprint
from knowledge_gaps.models.pool import Member, read_pool
from knowledge_gaps.study import (
    ClassifierCohort,
    ClassifierRecipe,
    GanCohort,
    GanRecipe,
    Kind,
    Study,
)
from knowledge_gaps.study.graph import find_recipe, get_cohorts


@dataclass(frozen=True)
class TrainingTask:
    """One instance to train.

    Attributes:
        root: the repository's root.
        kind: of the cohort.
        name: of the cohort.
        instance: index in the cohort.
        seed: the study's.
        recipe: how it is trained.
        cohort: the cohort's entry in the study.
        members: the pool that it is trained against.
        data_name: name of the dataset.
        data_sha256: of the prepared training images.
        code: fingerprint of the code and versions.
        initial_weights_sha256: of the file that the weights come from; None for a random start.
    """

    root: Path
    kind: Kind
    name: str
    instance: int
    seed: int
    recipe: GanRecipe | ClassifierRecipe
    cohort: GanCohort | ClassifierCohort
    members: tuple[Member, ...]
    data_name: str
    data_sha256: str
    code: Fingerprint
    initial_weights_sha256: str | None = None

    @property
    def cohort_path(self) -> str:
        """The cohort as "gans/COHORT" or "classifiers/COHORT"."""
        return f"{self.kind}/{self.name}"

    def describe(self) -> dict[str, Any]:
        """Say what is known before the training; meta.json has it, and MLflow shows it live."""
        return {
            "architecture": self.recipe.architecture,
            "seed": self.seed,
            "steps": self.recipe.steps,
            "settings": self.recipe.model_dump(mode="json"),
            # how many instances stand beside this one is no part of it
            "cohort_settings": self.cohort.model_dump(mode="json", exclude={"instances"}),
            "lineage": self.describe_lineage(),
        }

    def describe_lineage(self) -> dict[str, Any]:
        """What went in, by content hash."""
        lineage: dict[str, Any] = {
            "data": {"name": self.data_name, "sha256": self.data_sha256},
            "pool": [
                {"cohort": member.cohort, "instance": member.instance, "sha256": member.sha256}
                for member in self.members
            ],
        }
        if self.initial_weights_sha256 is not None:
            lineage["initial_weights"] = {"sha256": self.initial_weights_sha256}
        return lineage

    def compute_identity(self) -> str:
        """Hash all that the result depends on, the code and torch included: the resume key."""
        content = {
            "cohort": self.cohort_path,
            "instance": self.instance,
            **self.describe(),
            "code": self.code,
        }
        return hashlib.sha256(dump_json(content).encode()).hexdigest()


def make_tasks(root: Path, study: Study, kind: Kind, name: str) -> list[TrainingTask]:
    """Make the tasks of all instances of a cohort.

    Raises:
        UserError: when the prepared data or the pool's manifest is missing.
    """
    cohort = get_cohorts(study, kind)[name]
    recipe = find_recipe(study, f"{kind}/{name}")
    members = read_pool(root, cohort.pool)
    data_sha256 = open_images(get_prepared_directory(root) / TRAIN_IMAGES).compute_sha256()
    code = compute_fingerprint(study, kind, name)
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
            initial_weights_sha256=_hash_initial_weights(recipe, root),
        )
        for instance in range(cohort.instances)
    ]


def _hash_initial_weights(recipe: GanRecipe | ClassifierRecipe, root: Path) -> str | None:
    if isinstance(recipe, GanRecipe) or recipe.initialisation == "random":
        return None
    # torch is imported only where there are weights to look for
    from knowledge_gaps.training.initial_weights import find_initial_weights

    found = find_initial_weights(recipe, root)
    return None if found is None else found.sha256
