"""check: refuse a study that cannot run before anything runs, and record the code that trains it.

It writes the pool without instances, which every pool extends and every baseline is trained
against, and the fingerprints of all cohorts and stages; so all stages wait for this one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.printing import count_words
from knowledge_gaps.evaluation.registry import get_extractor
from knowledge_gaps.execution.fingerprint import write_fingerprints
from knowledge_gaps.models.networks import check_networks
from knowledge_gaps.models.pool import write_pool
from knowledge_gaps.models.registry import (
    StyleGenerator,
    classifier_architectures,
    gan_architectures,
    parse_settings,
)
from knowledge_gaps.planning.inventory import find_shape
from knowledge_gaps.study import (
    NO_POOL,
    ClassifierRecipe,
    GanRecipe,
    Kind,
    Study,
)
from knowledge_gaps.study.graph import list_members
from knowledge_gaps.training.initial_weights import find_initial_weights


def run(root: Path, study: Study) -> None:
    """Check a study and write the first files; raises as `check_study`, `write_fingerprints`."""
    check_study(root, study)
    write_pool(root, NO_POOL, ())
    write_fingerprints(root, study)
    counts = []
    for word, cohorts in (("GAN", study.gans), ("classifier", study.classifiers)):
        num_instances = sum(cohort.instances for cohort in cohorts.values())
        instances = count_words(num_instances, "instance")
        counts.append(f"{count_words(len(cohorts), f'{word} cohort')} ({instances})")
    print(f"params.yaml: study {study.study.name}: {', '.join(counts)}")


def check_study(root: Path, study: Study) -> None:
    """Check recipes against their architectures, and against the images where their size is known.

    Names, types and ranges were checked on reading.

    Raises:
        UserError: names the key of params.yaml, what was found and what is allowed.
    """
    get_extractor(study.evaluation.extractor)
    shape = find_shape(study.data)
    used_gan = {cohort.recipe for cohort in study.gans.values()}
    used_classifier = {cohort.recipe for cohort in study.classifiers.values()}
    for name, gan in study.gan_recipes.items():
        with _name_key(f"gan_recipes.{name}"):
            _check_gan(gan)
            if shape is not None and name in used_gan:
                check_networks(Kind.GANS, gan.architecture, gan.model, shape)
    for name, classifier in study.classifier_recipes.items():
        with _name_key(f"classifier_recipes.{name}"):
            _check_classifier(classifier, root)
            if shape is not None and name in used_classifier:
                check_networks(Kind.CLASSIFIERS, classifier.architecture, classifier.model, shape)
                _check_augmentation(classifier, min(shape[1:]))
    for name in study.classifiers:
        _check_held_out(study, name)


def _check_gan(recipe: GanRecipe) -> None:
    architecture = gan_architectures.get(recipe.architecture)
    parse_settings(architecture, recipe.model)
    builder = architecture.build_generator
    has_styles = isinstance(builder, type) and issubclass(builder, StyleGenerator)
    if recipe.path_length_weight > 0 and not has_styles:
        raise UserError(
            f"path_length_weight: {recipe.path_length_weight} found, {architecture.name!r} has no "
            "styles whose path lengths could be measured: 0.0 is allowed"
        )


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
