"""One instance's training from outside, without torch: what it depends on, and its Session."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import dump_json
from knowledge_gaps.core.instance import Instance
from knowledge_gaps.models.pool import Member
from knowledge_gaps.study import ClassifierCohort, ClassifierRecipe, GanCohort, GanRecipe, Kind

Row = dict[str, float]  # of the curves, with "step" first


class Session:
    """Connects a training with the process that started it; this one shows it to nobody."""

    def __init__(self, is_stopping: Callable[[], bool] = lambda: False) -> None:
        self.is_stopping = is_stopping  # whether the training should save its state and stop

    def report(self, step: int, row: Row | None) -> None:
        """Tell how many steps are done, and the newest row of the curves if there is one."""


@dataclass(frozen=True)
class TrainingTask:
    """One instance of a cohort to train: all that its result depends on, and nothing else."""

    root: Path
    kind: Kind
    name: str
    instance: Instance
    seed: int
    recipe: GanRecipe | ClassifierRecipe
    cohort: GanCohort | ClassifierCohort
    members: tuple[Member, ...]  # of its chain, of the pool that it is trained against
    data_name: str
    data_sha256: str  # of the prepared training images
    code: str  # fingerprint of the code and versions
    initial_weights_sha256: str | None = None  # of their file; None for a random start
    dev_sha256: str | None = None  # of the dev reals of early stopping; None where it reads none

    @property
    def cohort_path(self) -> str:
        """The cohort as "gans/COHORT" or "classifiers/COHORT"."""
        return f"{self.kind}/{self.name}"

    def describe(self) -> dict[str, Any]:
        """Return what is known before the training, as in meta.json and MLflow."""
        lineage: dict[str, Any] = {
            "data": {"name": self.data_name, "sha256": self.data_sha256},
            "pool": [asdict(member) for member in self.members],
        }
        if self.dev_sha256 is not None:
            lineage["data_dev"] = {"sha256": self.dev_sha256}
        if self.initial_weights_sha256 is not None:
            lineage["initial_weights"] = {"sha256": self.initial_weights_sha256}
        return {
            "architecture": self.recipe.architecture,
            "seed": self.seed,
            "steps": self.recipe.steps,
            "settings": self.recipe.model_dump(mode="json"),
            # an instance does not depend on the number of instances
            "cohort_settings": self.cohort.model_dump(mode="json", exclude={"instances"}),
            "lineage": lineage,
        }

    def compute_identity(self) -> str:
        """Return the sha256 of all that the result depends on, code and versions included."""
        names = {"cohort": self.cohort_path, "instance": str(self.instance), "code": self.code}
        content = {**names, **self.describe()}
        return hashlib.sha256(dump_json(content).encode()).hexdigest()


def count_path_images(recipe: GanRecipe) -> int:
    """Return over how many images the path-length penalty is taken."""
    return max(1, recipe.batch_size // recipe.path_length_shrink)


def check_shares(recipe: GanRecipe | ClassifierRecipe, num_ranks: int) -> None:
    """Check that so many ranks can share the batches of a recipe; raises UserError."""
    batches = {"batch_size": recipe.batch_size}
    if isinstance(recipe, GanRecipe) and recipe.path_length_weight > 0:
        batches["batch_size // path_length_shrink"] = count_path_images(recipe)
    for key, num_images in batches.items():
        if num_images % num_ranks != 0:
            raise UserError(
                f"{key}: {num_images} images found, a multiple of the {num_ranks} processes that "
                "train an instance together is needed"
            )
