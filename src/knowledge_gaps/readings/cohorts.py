"""What follows from a study alone: its cohorts, and how architectures and extractor are called."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from knowledge_gaps.readings.formats import format_title
from knowledge_gaps.study import NO_POOL, Study, TrainingSettings
from knowledge_gaps.study.graph import list_members


class Classes(NamedTuple):
    """The classes that an extractor tells apart: whose they are, and how many."""

    words: str
    num: int


_CLASSES = {
    "lenet": Classes("the LeNet's ten classes", 10),
    "inception": Classes("the Inception's 1,008 classes", 1008),
}


def find_classes(study: Study) -> Classes | None:
    """Return the classes of the study's extractor; None without, and without class entropy."""
    return _CLASSES.get(study.evaluation.extractor)


def find_baseline(study: Study) -> str | None:
    """Return the GAN cohort of iteration 0, or None when there is none without classifiers."""
    if not study.report.iterations:
        return None
    cohort = study.report.iterations[0].gans
    return cohort if study.gans[cohort].fools == NO_POOL else None


def list_fooled(study: Study, gans: str) -> list[str]:
    """List the classifier cohort of each classifier that GANs are trained to fool."""
    members = list_members(study, study.gans[gans].fools)
    return [cohort.partition("/")[2] for cohort, _ in members]


def list_table_cohorts(study: Study) -> list[str]:
    """List the GAN cohorts of the tables of iterations and architectures."""
    report = study.report
    tables = report.iterations, report.memoryless, report.memory, report.architectures
    return list(dict.fromkeys(entry.gans for table in tables for entry in table))


def get_classifiers(study: Study, cohorts: Iterable[str]) -> frozenset[str]:
    """Return the architectures of classifier cohorts."""
    recipes = (study.classifiers[name].recipe for name in cohorts)
    return frozenset(study.classifier_recipes[recipe].architecture for recipe in recipes)


def describe_architecture(recipe: TrainingSettings) -> str:
    """Name the architecture of a recipe, such as "ResNet-50 at 1/8 width"."""
    divisor = recipe.model.get("width_divisor", 1)
    return format_title(recipe.architecture) + ("" if divisor == 1 else f" at 1/{divisor} width")


def describe_classifiers(study: Study, cohort: str) -> str:
    """Name the architecture of a classifier cohort."""
    return describe_architecture(study.classifier_recipes[study.classifiers[cohort].recipe])


def has_styles(study: Study) -> bool:
    """Say whether a recipe of GANs is of StyleGAN2."""
    return any(recipe.architecture == "stylegan2" for recipe in study.gan_recipes.values())
