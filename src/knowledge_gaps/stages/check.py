"""check: refuse a study that cannot run before anything runs, and note the code that trains it.

Its outputs are the pool without instances, which every pool extends and every baseline stands on,
so that all stages wait for this one; and a file for each cohort with the code that trains it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.execution.fingerprint import write_fingerprints
from knowledge_gaps.models.networks import check_networks
from knowledge_gaps.models.pool import write_pool
from knowledge_gaps.models.registry import (
    GanArchitecture,
    ImageShape,
    StyleGenerator,
    classifier_architectures,
    gan_architectures,
    parse_settings,
)
from knowledge_gaps.planning.inventory import find_shape
from knowledge_gaps.study import (
    NO_POOL,
    ClassifierCohort,
    ClassifierRecipe,
    GanCohort,
    GanRecipe,
    Kind,
    Study,
)
from knowledge_gaps.study.graph import list_members
from knowledge_gaps.training.initial_weights import find_initial_weights


def run(root: Path, study: Study) -> None:
    """Check a study, write what all stages wait for, and say what the study trains; raises as
    `check_study` and `write_fingerprints`.
    """
    check_study(root, study)
    write_pool(root, NO_POOL, ())
    write_fingerprints(root, study)
    trained = (
        _count_cohorts("GAN", list(study.gans.values())),
        _count_cohorts("classifier", list(study.classifiers.values())),
    )
    print(f"params.yaml: study {study.study.name}: {', '.join(trained)}")


def _count_cohorts(kind: str, cohorts: Sequence[GanCohort | ClassifierCohort]) -> str:
    num_instances = sum(cohort.instances for cohort in cohorts)
    cohort_word = "cohort" if len(cohorts) == 1 else "cohorts"
    instance_word = "instance" if num_instances == 1 else "instances"
    return f"{len(cohorts)} {kind} {cohort_word} ({num_instances} {instance_word})"


def check_study(root: Path, study: Study) -> None:
    """Check recipes against their architectures, and against the images where their size is known.

    Names, types and ranges were checked on reading.

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
    shape = find_shape(study.data)
    if shape is not None:
        _check_sizes(study, shape)


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


def _check_sizes(study: Study, shape: ImageShape) -> None:
    """Check that the networks of every recipe in use can be built for the dataset's images, and
    give images of their shape or one logit an image.

    Else the first cohort of such a recipe would say so hours after the study was begun, or train
    on logits that do not belong to their images.
    """
    for name in dict.fromkeys(cohort.recipe for cohort in study.gans.values()):
        with _name_key(f"gan_recipes.{name}"):
            gan = study.gan_recipes[name]
            check_networks(Kind.GANS, gan.architecture, gan.model, shape)
    for name in dict.fromkeys(cohort.recipe for cohort in study.classifiers.values()):
        with _name_key(f"classifier_recipes.{name}"):
            recipe = study.classifier_recipes[name]
            check_networks(Kind.CLASSIFIERS, recipe.architecture, recipe.model, shape)
            _check_augmentation(recipe, min(shape[1:]))


def _check_augmentation(recipe: ClassifierRecipe, side_px: int) -> None:
    for key in ("translation_px", "cutout_px"):
        if getattr(recipe, key) >= side_px:
            raise UserError(
                f"{key}: {getattr(recipe, key)} found, the images' shorter side is {side_px} px: "
                "less is needed for anything to be left of them"
            )


@contextmanager
def _name_key(key: str) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise UserError(f"params.yaml: {key}: {error}") from error
