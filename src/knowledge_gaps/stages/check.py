"""check: refuse a study that cannot run before anything runs.

Its output is the pool without instances, which every pool extends and every baseline stands on: so
all stages wait for this one, and none runs again because of it, for its bytes never change.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from knowledge_gaps.models.registry import (
    GanArchitecture,
    StyleGenerator,
    classifier_architectures,
    gan_architectures,
    parse_settings,
)
from knowledge_gaps.runtime.errors import UserError
from knowledge_gaps.runtime.pool import write_pool
from knowledge_gaps.study import NO_POOL, ClassifierRecipe, GanRecipe, Study
from knowledge_gaps.study.graph import list_members
from knowledge_gaps.training.initial_weights import find_initial_weights


def run(root: Path, study: Study) -> None:
    """Check a study, and write the pool that all stages wait for; raises as `check_study`."""
    check_study(root, study)
    write_pool(root, NO_POOL, ())


def check_study(root: Path, study: Study) -> None:
    """Check recipes against their architectures; names, types and ranges were checked on reading.

    Raises:
        UserError: names the key of params.yaml, what was found and what is allowed.
    """
    for name, gan_recipe in study.gan_recipes.items():
        with _name_key(f"gan_recipes.{name}"):
            _check_gan(gan_recipe)
    for name, classifier_recipe in study.classifier_recipes.items():
        with _name_key(f"classifier_recipes.{name}"):
            _check_classifier(classifier_recipe, root)
    for name in study.classifiers:
        _check_held_out(study, name)


def _check_gan(recipe: GanRecipe) -> None:
    architecture = gan_architectures.get(recipe.architecture)
    parse_settings(architecture, recipe.model)
    if recipe.path_length_weight > 0 and not _has_styles(architecture):
        raise UserError(
            f"path_length_weight: {recipe.path_length_weight} found, {architecture.name!r} has no "
            "styles whose path lengths could be measured: 0.0 is allowed"
        )


def _has_styles(architecture: GanArchitecture) -> bool:
    builder = architecture.build_generator
    return isinstance(builder, type) and issubclass(builder, StyleGenerator)


def _check_classifier(recipe: ClassifierRecipe, root: Path) -> None:
    architecture = classifier_architectures.get(recipe.architecture)
    parse_settings(architecture, recipe.model)
    find_initial_weights(recipe, root)
    if recipe.gradient_checkpointing and not architecture.blocks:
        raise UserError(
            f"gradient_checkpointing: true found, {architecture.name!r} has no blocks whose "
            "activations could be computed again: false is allowed"
        )


def _check_held_out(study: Study, name: str) -> None:
    """Check that early stopping leaves a cohort a generator to be trained on."""
    cohort = study.classifiers[name]
    settings = study.classifier_recipes[cohort.recipe].early_stopping
    num_generators = len(list_members(study, cohort.detects))
    if settings is not None and settings.held_out_generators >= num_generators:
        raise UserError(
            f"params.yaml: classifier_recipes.{cohort.recipe}.early_stopping.held_out_generators: "
            f"{settings.held_out_generators} found, classifiers.{name} has a pool of "
            f"{num_generators} ({cohort.detects!r}): at least one must be left to train on"
        )


@contextmanager
def _name_key(key: str) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise UserError(f"params.yaml: {key}: {error}") from error
