"""What follows from a study alone: its cohorts, and how architectures and extractor are called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from knowledge_gaps.core.instance import Instance
from knowledge_gaps.readings.formats import format_title
from knowledge_gaps.statistics.rules import PRISTINE
from knowledge_gaps.study import NO_POOL, Study, TrainingSettings
from knowledge_gaps.study.graph import find_cohort, list_instances, list_members

Name = tuple[str, Instance]  # cohort without its kind, instance


class ControlPlan(NamedTuple):
    """Whose images controls change, and who scores them; of all chains."""

    gans: str  # the first cohort of the iterations that fools classifiers, to be compared with
    sources: list[Name]  # generators whose images are changed: no classifier was trained on them
    classifiers: list[Name]  # of the cohorts with a classifier in the loss of these GANs
    in_loss: list[Name]  # those of them that are


class Classes(NamedTuple):
    """The classes that an extractor tells apart: whose they are, and how many where that is known
    without the reals.
    """

    words: str
    num: int | None


_CLASSES = {
    "lenet": Classes("the LeNet's ten classes", 10),
    "lenet_on_reals": Classes("the classes of the study's own LeNet", None),
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


def find_fooling(study: Study) -> str | None:
    """Return the first GAN cohort of the iterations that fools classifiers, or None."""
    cohorts = (iteration.gans for iteration in study.report.iterations)
    return next((name for name in cohorts if study.gans[name].phi > 0), None)


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


def list_fooling(study: Study) -> list[str]:
    """List the GAN cohorts that are trained to fool classifiers."""
    return [name for name, cohort in study.gans.items() if cohort.phi > 0]


def list_references(study: Study, classifiers: str) -> list[Name]:
    """List the generators like those that a classifier cohort learnt to detect: the instances of
    the same cohorts that are held out from it.
    """
    detected = list_members(study, study.classifiers[classifiers].detects)
    return [
        (path.partition("/")[2], instance)
        for path in dict.fromkeys(path for path, _ in detected)
        for instance in list_instances(study, find_cohort(study, path))
        if (path, instance.number) not in detected
    ]


def list_perturbed_pairs(study: Study) -> list[tuple[Name, Name]]:
    """List the pairs of a generator and a classifier that are asked again on perturbed images.

    They are those of every classifier cohort that GANs are trained to fool, with these GANs and
    with its references.
    """
    generators: dict[str, dict[Name, None]] = {}  # by classifier cohort, in order
    for gans in list_fooling(study):
        fooling = [(gans, each) for each in list_instances(study, study.gans[gans])]
        for name in list_fooled(study, gans):
            found = generators.setdefault(name, dict.fromkeys(list_references(study, name)))
            found |= dict.fromkeys(fooling)
    return [
        (generator, (name, instance))
        for name, found in generators.items()
        for generator in found
        for instance in list_instances(study, study.classifiers[name])
        if instance.chain == generator[1].chain
    ]


def plan_controls(study: Study) -> ControlPlan | None:
    """Plan the controls; None where no cohort of the iterations fools classifiers, where these were
    trained on all generators of their kind, and where all classifiers of their cohorts are fooled.
    """
    if (gans := find_fooling(study)) is None:
        return None
    names = list(dict.fromkeys(list_fooled(study, gans)))
    detected = [one for n in names for one in list_members(study, study.classifiers[n].detects)]
    sources = [
        (name, instance)
        for name, instance in list_references(study, names[0])
        if (f"gans/{name}", instance.number) not in detected
    ]
    classifiers = [(n, one) for n in names for one in list_instances(study, study.classifiers[n])]
    pool = list_members(study, study.gans[gans].fools)
    in_loss = [one for one in classifiers if (f"classifiers/{one[0]}", one[1].number) in pool]
    if not sources or len(in_loss) == len(classifiers):
        return None
    return ControlPlan(gans, sources, classifiers, in_loss)


def list_controlled(
    study: Study, controls: Mapping[str, Sequence[int]]
) -> list[tuple[str, int, Name, Name]]:
    """List what is scored: control, distortion, generator and classifier, of one chain.

    Controls come with their distortions. Those that change nothing have the GANs that fool
    classifiers, too.
    """
    if (plan := plan_controls(study)) is None:
        return []
    fooling = [(plan.gans, each) for each in list_instances(study, study.gans[plan.gans])]
    return [
        (name, distortion, generator, classifier)
        for name, distortions in controls.items()
        for distortion in distortions
        for generator in [*plan.sources, *(fooling if name == PRISTINE else [])]
        for classifier in plan.classifiers
        if classifier[1].chain == generator[1].chain
    ]
