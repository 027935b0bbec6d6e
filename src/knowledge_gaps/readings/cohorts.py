"""What a study says of the cohorts that a reading is made of; no table is read."""

from __future__ import annotations

from collections.abc import Iterable

from knowledge_gaps.study import NO_POOL, Kind, Study
from knowledge_gaps.study.graph import list_members, split_detected


def find_baseline(study: Study) -> str | None:
    """Return the GAN cohort of iteration 0, or None when there is none without classifiers."""
    if not study.report.iterations:
        return None
    cohort = study.report.iterations[0].gans
    return cohort if study.gans[cohort].fools == NO_POOL else None


def count_fooled(study: Study, gans: str) -> int:
    """Count the classifiers in the loss of a GAN cohort."""
    return len(list_members(study, study.gans[gans].fools))


def count_detected(study: Study, gans: str, classifiers: str) -> int:
    """Count the generators of a GAN cohort that classifiers were trained on.

    The pool's last ones are left out where they only decide when the training stops.
    """
    trained_on, _ = split_detected(study, classifiers)
    return sum(member == f"{Kind.GANS}/{gans}" for member, _ in trained_on)


def list_fooled(study: Study, gans: str) -> list[str]:
    """List the classifier cohort of each classifier that GANs are trained to fool."""
    members = list_members(study, study.gans[gans].fools)
    return [cohort.partition("/")[2] for cohort, _ in members]


def get_gan(study: Study, gans: str) -> str:
    """Return the architecture of a GAN cohort."""
    return study.gan_recipes[study.gans[gans].recipe].architecture


def get_classifiers(study: Study, cohorts: Iterable[str]) -> frozenset[str]:
    """Return the architectures of classifier cohorts."""
    recipes = [study.classifier_recipes[study.classifiers[name].recipe] for name in cohorts]
    return frozenset(recipe.architecture for recipe in recipes)
