"""What a study trains, by its settings, and how much of it is finished, by the files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knowledge_gaps.core import layout
from knowledge_gaps.core.checkpoint import read_metadata
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import read_json
from knowledge_gaps.study import ClassifierRecipe, DataSettings, GanRecipe, Kind, Study
from knowledge_gaps.study.graph import find_recipe, get_cohorts, list_members, sort_nodes

ImageShape = tuple[int, int, int]  # channels, height, width
Recipe = GanRecipe | ClassifierRecipe

# datasets whose size is part of their definition: image shape, and images of both splits
_KNOWN_SETS: dict[str, tuple[ImageShape, int, int]] = dict.fromkeys(
    ("mnist", "fashion-mnist", "kmnist"), ((1, 28, 28), 60_000, 10_000)
)


@dataclass(frozen=True)
class CohortWork:
    """The trainings of a cohort.

    Attributes:
        path: the cohort as "gans/COHORT" or "classifiers/COHORT".
        instances: how many there are.
        recipe: how they are trained.
        frozen: recipes of the pool's members, in their order.
        steps_left: optimiser updates of every instance that is not finished.
    """

    path: str
    instances: int
    recipe: Recipe
    frozen: tuple[Recipe, ...]
    steps_left: tuple[int, ...]


def list_cohorts(root: Path, study: Study) -> list[CohortWork]:
    """List all cohorts, each after those that its pool has members of."""
    found: list[CohortWork] = []
    due: set[str] = set()  # cohorts of which something is left, and all that depends on them
    for path in sort_nodes(study):
        section, _, name = path.partition("/")
        if section == "pools":
            continue
        cohort, recipe = get_cohorts(study, Kind(section))[name], find_recipe(study, path)
        members = [member for member, _ in list_members(study, cohort.pool)]
        expected = {
            "seed": study.study.seed,
            "settings": recipe.model_dump(mode="json"),
            "cohort_settings": cohort.model_dump(mode="json", exclude={"instances"}),
        }
        steps = [_count_steps(root, path, k, expected) for k in range(cohort.instances)]
        left = [recipe.steps - (count if due.isdisjoint(members) else 0) for count in steps]
        if any(left):
            due.add(path)
        frozen = tuple(find_recipe(study, member) for member in members)
        left_over = tuple(count for count in left if count > 0)
        found.append(CohortWork(path, cohort.instances, recipe, frozen, left_over))
    return found


def _count_steps(root: Path, cohort: str, instance: int, expected: dict[str, Any]) -> int:
    """Count the steps that an instance has made, by its meta.json or its resume state."""
    steps = [0]
    states = layout.get_state_directory(root) / "resume" / cohort.replace("/", "-")
    results = [path / "result" for path in states.glob(f"{instance}-*")]
    if (layout.get_cohort_directory(root, cohort) / layout.COHORT_FILE).exists():
        results.append(layout.get_instance_directory(root, cohort, instance))
    for path in (result / layout.META_FILE for result in results):
        meta = read_json(path) if path.exists() else {}
        if all(meta.get(key) == value for key, value in expected.items()):
            steps.append(expected["settings"]["steps"])
    for path in states.glob(f"{instance}-*/state.safetensors"):
        steps.append(json.loads(read_metadata(path)["counters"])["step"])
    return max(steps)


def find_reals(root: Path, study: Study) -> tuple[ImageShape, int | None]:
    """Find the size of the reals, by the settings or, if those are the dataset's, as prepared.

    Returns:
        The shape of an image, and how many there are; None where only `prepare` can count them.

    Raises:
        UserError: when neither tells the shape.
    """
    data, path = study.data, layout.get_prepared_directory(root) / layout.DATASET_FILE
    shape, prepared = find_shape(data), read_json(path) if path.exists() else {}
    if prepared.get("name") == data.name and (not shape or list(shape) == prepared["image_shape"]):
        channels, height, width = prepared["image_shape"]
        return (channels, height, width), prepared["num_train"] + prepared["num_test"]
    if shape is None:
        raise UserError(
            f"data.name: {data.name!r} found, the size of its images is not known; run `dvc repro "
            "prepare` first, or set data.resolution_px and data.channels where the source has them"
        )
    # `prepare` alone counts the files of the reduced sample and folders of images
    is_known = data.name in _KNOWN_SETS and data.source in ("idx", "torchvision")
    num_train, num_test = _KNOWN_SETS[data.name][1:] if is_known else (None, None)
    num_train, num_test = data.num_train or num_train, data.num_test or num_test
    return shape, None if num_train is None or num_test is None else num_train + num_test


def find_shape(data: DataSettings) -> ImageShape | None:
    """Find channels, height and width of an image where the settings alone tell them."""
    if data.resolution_px is not None and data.channels is not None:
        return data.channels, data.resolution_px, data.resolution_px
    return _KNOWN_SETS[data.name][0] if data.name in _KNOWN_SETS else None
