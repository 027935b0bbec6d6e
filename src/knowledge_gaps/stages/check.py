"""check: refuse a study that cannot run, and record the code that trains it.

It writes the pool without instances and the fingerprints, so all other stages wait for it.
"""

from __future__ import annotations

from pathlib import Path

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.printing import count_words
from knowledge_gaps.evaluation.controlling import choose_controls
from knowledge_gaps.evaluation.judging import choose_judges
from knowledge_gaps.evaluation.perturbing import choose_perturbations
from knowledge_gaps.evaluation.registry import find_extractor
from knowledge_gaps.execution.cohort import keep_published
from knowledge_gaps.execution.fingerprint import write_fingerprints
from knowledge_gaps.models import registry
from knowledge_gaps.models.networks import check_networks
from knowledge_gaps.models.pool import write_pool
from knowledge_gaps.planning.plan import find_shape
from knowledge_gaps.study import NO_POOL, ClassifierRecipe, GanRecipe, Kind, Study
from knowledge_gaps.study.graph import get_cohorts, list_instances, list_members
from knowledge_gaps.training.initial_weights import find_initial_weights


def run(root: Path, study: Study) -> None:
    """Check a study and write the first files; raises as `check_study`, `write_fingerprints`."""
    check_study(root, study)
    write_pool(root, NO_POOL, ())
    write_fingerprints(root, study)
    keep_published(root, study)
    counts = []
    for word, cohorts in (("GAN", study.gans), ("classifier", study.classifiers)):
        num_instances = sum(len(list_instances(study, cohort)) for cohort in cohorts.values())
        instances = count_words(num_instances, "instance")
        counts.append(f"{count_words(len(cohorts), f'{word} cohort')} ({instances})")
    print(f"params.yaml: study {study.study.name}: {', '.join(counts)}")


def check_study(root: Path, study: Study) -> None:
    """Check recipes against their architectures, and against the images where their size is known.

    Names, types and ranges were checked on reading. Raises UserError, which names the key.
    """
    find_extractor(study.evaluation)
    choose_judges(study.evaluation)
    choose_perturbations(study.evaluation)
    choose_controls(study.evaluation)
    shape = find_shape(study.data)
    for kind in Kind:
        section = f"{kind.removesuffix('s')}_recipes"
        used = {cohort.recipe for cohort in get_cohorts(study, kind).values()}
        for name, recipe in getattr(study, section).items():
            try:
                _check_recipe(recipe, root)
                if shape is not None and name in used:
                    check_networks(kind, recipe.architecture, recipe.model, shape)
                    _check_augmentation(recipe, min(shape[1:]))
            except UserError as error:
                raise UserError(f"params.yaml: {section}.{name}: {error}") from error
    for name in study.classifiers:
        _check_held_out(study, name)


def _check_recipe(recipe: GanRecipe | ClassifierRecipe, root: Path) -> None:
    if isinstance(recipe, GanRecipe):
        gan = registry.gan_architectures.get(recipe.architecture)
        registry.parse_settings(gan, recipe.model)
        has_styles = isinstance(gan.build_generator, type) and issubclass(
            gan.build_generator, registry.StyleGenerator
        )
        if recipe.path_length_weight > 0 and not has_styles:
            raise UserError(
                f"path_length_weight: {recipe.path_length_weight} found, {gan.name!r} has no "
                "styles whose path lengths could be measured: 0.0 is allowed"
            )
        return
    classifier = registry.classifier_architectures.get(recipe.architecture)
    registry.parse_settings(classifier, recipe.model)
    if recipe.initialisation != "random":
        find_initial_weights(recipe, root)
    if recipe.gradient_checkpointing and not classifier.blocks:
        raise UserError(
            f"gradient_checkpointing: true found, {classifier.name!r} has no blocks whose "
            "activations could be computed again: false is allowed"
        )


def _check_augmentation(recipe: GanRecipe | ClassifierRecipe, side_px: int) -> None:
    for key in ("translation_px", "cutout_px"):
        if getattr(recipe, key, 0) >= side_px:
            raise UserError(
                f"{key}: {getattr(recipe, key)} found, the images' shorter side is {side_px} px: "
                "less is needed for anything to be left of them"
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
