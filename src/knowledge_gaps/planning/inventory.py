"""What a study trains, by its settings alone: cohorts in their order, and the reals' size.

No torch, and nothing that depends on the machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import read_json
from knowledge_gaps.core.layout import DATASET_FILE, get_prepared_directory
from knowledge_gaps.study import (
    ClassifierCohort,
    ClassifierRecipe,
    DataSettings,
    GanCohort,
    GanRecipe,
    Kind,
    Study,
)
from knowledge_gaps.study.graph import find_recipe, get_cohorts, list_members, sort_nodes

ImageShape = tuple[int, int, int]  # channels, height, width

# datasets whose size is part of their definition: image shape, training and test images
_KNOWN_SETS: dict[str, tuple[ImageShape, int, int]] = dict.fromkeys(
    ("mnist", "fashion-mnist", "kmnist"), ((1, 28, 28), 60_000, 10_000)
)


@dataclass(frozen=True)
class Reals:
    """The reals' size.

    Attributes:
        shape: channels, height, width of an image.
        num_train: training images; None where only `prepare` can count them.
        num_test: test images, likewise.
    """

    shape: ImageShape
    num_train: int | None
    num_test: int | None

    @property
    def image_bytes(self) -> int:
        """Bytes of a stored image."""
        return prod(self.shape)

    @property
    def stored_bytes(self) -> int | None:
        """Bytes of all of them; None where they are not counted yet."""
        if self.num_train is None or self.num_test is None:
            return None
        return (self.num_train + self.num_test) * self.image_bytes


@dataclass(frozen=True)
class CohortWork:
    """A cohort's share of the work.

    Attributes:
        kind: of the cohort.
        name: of the cohort.
        cohort: its entry in the study.
        recipe: how its instances are trained.
        upstream: cohorts whose instances stand in its pool, as kind/COHORT.
        frozen: recipes of the pool's instances, in their order.
    """

    kind: Kind
    name: str
    cohort: GanCohort | ClassifierCohort
    recipe: GanRecipe | ClassifierRecipe
    upstream: tuple[str, ...]
    frozen: tuple[GanRecipe | ClassifierRecipe, ...]

    @property
    def path(self) -> str:
        """The cohort as "gans/COHORT" or "classifiers/COHORT"."""
        return f"{self.kind}/{self.name}"

    @property
    def images_shown(self) -> int:
        """Reals that one training draws, as `images_seen` in its meta.json counts them."""
        recipe = self.recipe
        return recipe.steps * recipe.batch_size * recipe.gradient_accumulation_steps


def list_cohorts(study: Study) -> list[CohortWork]:
    """List all cohorts, each after those that it stands on."""
    return list(_list_cohorts(study))


def find_reals(root: Path, study: Study) -> Reals:
    """Find the size of the reals: as prepared, where that is the study's dataset, or as set.

    Raises:
        UserError: when neither tells the shape of an image.
    """
    path = get_prepared_directory(root) / DATASET_FILE
    prepared = read_json(path) if path.exists() else {}
    data = study.data
    if prepared.get("name") == data.name and _fits(data, prepared["image_shape"]):
        channels, height, width = prepared["image_shape"]
        return Reals((channels, height, width), prepared["num_train"], prepared["num_test"])
    shape = find_shape(data)
    if shape is None:
        raise UserError(
            f"data.name: nothing tells the size of the images of {data.name!r}; run `dvc repro "
            "prepare` first, or set data.resolution_px and data.channels where the source has them"
        )
    # the files of the sample alone know how many they hold
    is_counted = data.name in _KNOWN_SETS and data.source in ("idx", "torchvision")
    _, num_train, num_test = _KNOWN_SETS[data.name] if is_counted else (shape, None, None)
    return Reals(shape, data.num_train or num_train, data.num_test or num_test)


def find_shape(data: DataSettings) -> ImageShape | None:
    """Find channels, height and width of an image where the settings alone tell them."""
    if data.resolution_px is not None and data.channels is not None:
        return data.channels, data.resolution_px, data.resolution_px
    return _KNOWN_SETS[data.name][0] if data.name in _KNOWN_SETS else None


def _fits(data: DataSettings, shape: list[int]) -> bool:
    """Tell whether prepared images can be those of the settings, which may have changed since."""
    channels, height, width = shape
    return data.channels in (None, channels) and (
        data.resolution_px is None or (height, width) == (data.resolution_px,) * 2
    )


def _list_cohorts(study: Study) -> Iterator[CohortWork]:
    for node in sort_nodes(study):
        section, _, name = node.partition("/")
        if section == Kind.GANS or section == Kind.CLASSIFIERS:
            kind = Kind(section)
            cohort = get_cohorts(study, kind)[name]
            members = [path for path, _ in list_members(study, cohort.pool)]
            yield CohortWork(
                kind=kind,
                name=name,
                cohort=cohort,
                recipe=find_recipe(study, node),
                upstream=tuple(dict.fromkeys(members)),
                frozen=tuple(find_recipe(study, path) for path in members),
            )
