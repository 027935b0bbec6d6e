"""Where a study departs from the paper or had to choose, and what its numbers cannot say.

Plain statements for the report's page; what depends on the study is derived from it. A departure in
code carries the word DEVIATION in its docstring or a comment; the ones that bear on results are
listed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from knowledge_gaps.report.formats import format_counts, format_phis, format_title
from knowledge_gaps.study import (
    ClassifierRecipe,
    GanRecipe,
    OptimizerSettings,
    Study,
    TrainingSettings,
)

NOT_GIVEN = "not given in the sources at hand"
LENET_DATASET = "mnist"  # what the packaged LeNet was trained on


@dataclass(frozen=True)
class Deviation:
    """One departure or choice.

    Attributes:
        topic: what it is about.
        paper: what the sources say.
        here: what is done instead.
    """

    topic: str
    paper: str
    here: str


def make_deviations(study: Study) -> tuple[Deviation, ...]:
    """List the departures and choices of a study: its size, its training, its measurements."""
    return (*_list_size(study), *_list_training(study), *_list_measurements(study))


def make_limits(study: Study) -> tuple[str, ...]:
    """List what the numbers of a study cannot say."""
    gans = [cohort.instances for cohort in study.gans.values()]
    classifiers = [cohort.instances for cohort in study.classifiers.values()]
    smallest = min([*gans, *classifiers])
    gan_steps = format_counts(recipe.steps for recipe in study.gan_recipes.values())
    classifier_steps = format_counts(recipe.steps for recipe in study.classifier_recipes.values())
    return (
        f"A cohort has {format_counts(gans)} GANs or {format_counts(classifiers)} classifiers. "
        "That shows that an effect can occur and roughly how large it is, not how often it "
        "occurs: a rare instance that fools everybody, or clusters among classifiers, can be "
        f"missed altogether, most easily where a cohort has no more than {smallest}.",
        "± is the spread over pairs that share generators and classifiers, so the pairs are not "
        "independent. It is no confidence interval (those stand in brackets), and two readings "
        "whose ± overlap may differ, as two whose ± do not overlap may agree with other seeds.",
        f"Training takes {gan_steps} steps for a GAN and {classifier_steps} for a classifier, on "
        "one dataset. That a generator still fails at something does not show that it could not "
        "learn it with more steps, and nothing here speaks to other data, larger images or other "
        "architectures.",
        "A detection rate near 0 at threshold 0.5 on generated images alone cannot tell “the "
        "artefacts are gone” from “the scores have shifted”. The AUC against reals is given beside "
        "it: near 0.5 the classifier no longer separates the two, near 1 it still would at another "
        "threshold, and below 0.5 it takes generated images for more real than reals.",
        "A high detection rate means nothing without the classifier's accuracy on reals; both are "
        "in the table of detection statistics.",
        "Intervals are of instances: all generators of a cohort fool the same classifiers, and all "
        "classifiers of a cohort learnt from the same generators. Another choice of these would "
        "move the numbers further than an interval says, and no reading here measures by how much, "
        "but for mutual fooling.",
        "FID over a limited number of images has a floor above 0: the row “real train split” shows "
        "it. FIDs compare within this report and with reports of the same protocol, not with "
        "published ones.",
        "The level of any number depends on choices that the sources do not give. What may be "
        "compared with the paper is the pattern (what rises, falls or stays), not the level.",
    )


def _list_size(study: Study) -> Iterator[Deviation]:
    yield Deviation(
        "Size of the study",
        "MNIST and FFHQ; cohort sizes " + NOT_GIVEN,
        "the image, step and instance counts of the tables above; every one is a value in "
        "params.yaml",
    )
    if study.report.iterations:
        phis = {study.gans[entry.gans].phi for entry in study.report.iterations} - {0.0}
        yield Deviation(
            "Iterations",
            "five iterations are reported for StyleGAN2 on FFHQ with phi = 0.001; none for MNIST",
            f"the same loss on {format_title(study.data.name)}: "
            f"{len(study.report.iterations)} iterations"
            + (f" with phi = {format_phis(phis)}" if phis else ""),
        )
    yield Deviation(
        "Architectures",
        "“a small DCGAN” and “a vanilla CNN classifier”; layers and widths " + NOT_GIVEN,
        "networks of this repository's own, with the widths of their recipes",
    )


def _list_training(study: Study) -> Iterator[Deviation]:
    recipes = [*study.gan_recipes.items(), *study.classifier_recipes.items()]
    yield Deviation(
        "Optimisers, batch size, length of training",
        NOT_GIVEN,
        "Adam with the settings of the recipes; all instances of a recipe train for the same "
        "number of steps",
    )
    schedules = [(name, _describe_schedules(recipe)) for name, recipe in recipes]
    yield Deviation("Learning-rate schedule", NOT_GIVEN, _list_by_recipe(schedules))
    r1 = [(name, _describe_r1(recipe)) for name, recipe in study.gan_recipes.items()]
    yield Deviation(
        "R1 penalty on the discriminator",
        NOT_GIVEN,
        f"a choice, for the sake of image quality (trials in reports/LOG.md): {_list_by_recipe(r1)}"
        if any(recipe.r1_gamma > 0 for recipe in study.gan_recipes.values())
        else "none",
    )
    yield Deviation(
        "Augmentation of the classifiers' images",
        NOT_GIVEN,
        _describe_translation(study.classifier_recipes),
    )
    truncated = [name for name, cohort in study.classifiers.items() if cohort.truncation < 1]
    yield Deviation(
        "Truncation of the latents that classifiers are trained on",
        "discussed; values " + NOT_GIVEN,
        ", ".join(f"{name}: {study.classifiers[name].truncation:g}" for name in truncated)
        or "none: the generators' own distribution",
    )
    averaged = [name for name, recipe in recipes if recipe.ema_decay is not None]
    kept = "those of the last step"
    if averaged:
        kept += f"; their moving average for recipe {', '.join(averaged)}"
    yield Deviation(
        "Which weights are kept",
        NOT_GIVEN,
        f"{kept}; no instance is chosen or dropped by its result",
    )


def _list_measurements(study: Study) -> Iterator[Deviation]:
    yield Deviation(
        "Which images classifiers are tested on",
        NOT_GIVEN,
        "each generator is sampled once, and all classifiers score these same images, unshifted; "
        "accuracy on reals and AUC are against the real test split",
    )
    foreign = ""
    if study.data.name != LENET_DATASET:
        foreign = (
            f" It has never seen {format_title(study.data.name)}: its features and its ten classes "
            "stay those of digits."
        )
    yield Deviation(
        "FID and the other metrics of quality",
        "protocol and feature extractor of FID " + NOT_GIVEN,
        "features of a small LeNet trained on MNIST digits and kept in the package (wider than "
        "LeNet-5, with ReLU and max pooling), against the real test split. Its scale is not that "
        f"of Inception FID.{foreign}",
    )
    yield Deviation(
        "What ± covers",
        NOT_GIVEN,
        "sample standard deviation (divided by one less than n) over pairs of generator and "
        "classifier",
    )


def _describe_schedules(recipe: TrainingSettings) -> str:
    optimizers = [value for _, value in recipe if isinstance(value, OptimizerSettings)]
    return " and ".join(dict.fromkeys(_describe_schedule(settings) for settings in optimizers))


def _describe_schedule(settings: OptimizerSettings) -> str:
    if settings.schedule == "constant":
        return "constant"
    start = "the start" if settings.decay_from == 0 else f"{settings.decay_from:.0%} of the steps"
    return f"{settings.schedule} fall to 0 from {start} on"


def _describe_r1(recipe: GanRecipe) -> str:
    if recipe.r1_gamma == 0:
        return "none"
    every = "every step" if recipe.r1_interval == 1 else f"every {recipe.r1_interval} steps"
    return f"gamma {recipe.r1_gamma:g}, as an update of its own {every}"


def _describe_translation(recipes: Mapping[str, ClassifierRecipe]) -> str:
    if all(recipe.translation_px == 0 for recipe in recipes.values()):
        return "none"
    shifts = [
        (name, f"up to {recipe.translation_px} px" if recipe.translation_px > 0 else "none")
        for name, recipe in recipes.items()
    ]
    return (
        "in training, every image, real or generated, is shifted at random along both axes "
        f"({_list_by_recipe(shifts)}). It bears on the findings: by the trials in reports/LOG.md "
        "this shift is what makes detection generalise to held-out generators"
    )


def _list_by_recipe(values: Iterable[tuple[str, str]]) -> str:
    return "; ".join(f"{name}: {value}" for name, value in values)
