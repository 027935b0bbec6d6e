"""What a study chose for the training of its networks, in words, where the sources are silent.

The settings themselves are in `knowledge_gaps.report.page.recipes`; here is what they amount to. A
choice that no recipe makes is left out, but for those that every training has to make.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from knowledge_gaps.report.setting import CNN, STYLEGAN2, has_gan
from knowledge_gaps.study import (
    ClassifierRecipe,
    GanRecipe,
    OptimizerSettings,
    Study,
    TrainingSettings,
)


@dataclass(frozen=True)
class Choice:
    """One choice; nothing in the sources speaks against it.

    Attributes:
        topic: what it is about.
        paper: what the sources say of it, before "not given"; empty for nothing.
        here: what was chosen.
    """

    topic: str
    paper: str
    here: str


def list_training(study: Study) -> Iterator[Choice]:
    """List the choices of a study's trainings, of GANs and classifiers."""
    recipes = [*study.gan_recipes.items(), *study.classifier_recipes.items()]
    yield Choice("Optimisers, batch size, length of training", "", _describe_length(study))
    schedules = [(name, _describe_schedules(recipe)) for name, recipe in recipes]
    yield Choice("Learning-rate schedule", "", _list_by_recipe(schedules))
    yield from _list_regularisers(study)
    yield Choice(
        "Augmentation of the classifiers' images", "", _describe_shifts(study.classifier_recipes)
    )
    yield from _list_changes(study)
    yield from _list_starts(study.classifier_recipes)
    truncated = [name for name, cohort in study.classifiers.items() if cohort.truncation < 1]
    yield Choice(
        "Truncation of the images that classifiers are trained on",
        "discussed; values",
        ", ".join(f"{name}: {study.classifiers[name].truncation:g}" for name in truncated)
        or "none: the generators' own distribution",
    )
    averaged = [name for name, recipe in recipes if recipe.ema_decay is not None]
    kept = "those of the last step"
    if averaged:
        kept += f"; their moving average for recipe {', '.join(averaged)}"
    yield Choice(
        "Which weights are kept", "", f"{kept}; no instance is chosen or dropped by its result"
    )


def _describe_length(study: Study) -> str:
    words = "Adam with the settings of the recipes; all instances of a recipe train for the same "
    stopping = [
        (name, f"{stop.held_out_generators} generator{'s' if stop.held_out_generators > 1 else ''}")
        for name, recipe in study.classifier_recipes.items()
        if (stop := recipe.early_stopping) is not None
    ]
    if not stopping:
        return words + "number of steps"
    return (
        f"{words}number of steps, but that classifiers stop when their accuracy no longer rises on "
        f"generators kept out of their training for it ({_list_by_recipe(stopping)}); the weights "
        "of the best look are the result"
    )


def _list_regularisers(study: Study) -> Iterator[Choice]:
    recipes = study.gan_recipes
    r1 = [(name, _describe_r1(recipe)) for name, recipe in recipes.items()]
    # the trials were of DCGAN
    trials = ", for the sake of image quality (trials in reports/LOG.md)"
    why = "" if has_gan(study, STYLEGAN2) else trials
    yield Choice(
        "R1 penalty on the discriminator",
        "",
        f"a choice{why}: {_list_by_recipe(r1)}"
        if any(recipe.r1_gamma > 0 for recipe in recipes.values())
        else "none",
    )
    lengths = [
        (name, f"weight {recipe.path_length_weight:g}, every {recipe.path_length_interval} steps")
        for name, recipe in recipes.items()
        if recipe.path_length_weight > 0
    ]
    if lengths:
        yield Choice("Path-length penalty on the generator", "", _list_by_recipe(lengths))
    if has_gan(study, STYLEGAN2):
        yield Choice(
            "A step of StyleGAN2",
            "",
            "without gradient accumulation, discriminator and generator share one generated batch, "
            "made before the discriminator's update; a path-length penalty is taken against the "
            "mean of the steps before; groups of the minibatch standard deviation are neighbours",
        )


def _list_changes(study: Study) -> Iterator[Choice]:
    """List what is done to images beyond shifts, and the precision of the arithmetic."""
    recipes: dict[str, TrainingSettings] = {**study.gan_recipes, **study.classifier_recipes}
    mirrored = [name for name, recipe in recipes.items() if recipe.mirror]
    if mirrored:
        yield Choice(
            "Mirrored images",
            "",
            f"half of the images of a training batch, by chance, for recipe {', '.join(mirrored)}",
        )
    cut = [
        (name, f"{recipe.cutout_px} px")
        for name, recipe in study.classifier_recipes.items()
        if recipe.cutout_px > 0
    ]
    if cut:
        yield Choice("Squares cut out of the classifiers' images", "", _list_by_recipe(cut))
    half = [
        (name, recipe.mixed_precision)
        for name, recipe in recipes.items()
        if recipe.mixed_precision != "no"
    ]
    if half:
        yield Choice("Precision of the arithmetic", "", f"mixed: {_list_by_recipe(half)}")


def _list_starts(recipes: Mapping[str, ClassifierRecipe]) -> Iterator[Choice]:
    """Say what weights classifiers start from, where there are published ones."""
    starts = [
        (name, "ImageNet" if recipe.initialisation == "imagenet" else "drawn at random")
        for name, recipe in recipes.items()
        if recipe.architecture != CNN
    ]
    if starts:
        yield Choice("Weights that classifiers start from", "", _list_by_recipe(starts))


def _describe_schedules(recipe: TrainingSettings) -> str:
    optimizers = [value for _, value in recipe if isinstance(value, OptimizerSettings)]
    return " and ".join(dict.fromkeys(_describe_schedule(settings) for settings in optimizers))


def _describe_schedule(settings: OptimizerSettings) -> str:
    if settings.schedule == "constant":
        return "constant"
    start = "the start" if settings.decay_from == 0 else f"{settings.decay_from:.0%} of the steps"
    if settings.schedule == "step":
        return f"divided by ten after each third of the way from {start} on"
    return f"{settings.schedule} fall to 0 from {start} on"


def _describe_r1(recipe: GanRecipe) -> str:
    if recipe.r1_gamma == 0:
        return "none"
    every = "every step" if recipe.r1_interval == 1 else f"every {recipe.r1_interval} steps"
    return f"gamma {recipe.r1_gamma:g}, as an update of its own {every}"


def _describe_shifts(recipes: Mapping[str, ClassifierRecipe]) -> str:
    if all(recipe.translation_px == 0 for recipe in recipes.values()):
        return "none"
    shifts = [
        (name, f"up to {recipe.translation_px} px" if recipe.translation_px > 0 else "none")
        for name, recipe in recipes.items()
    ]
    words = (
        "in training, every image, real or generated, is shifted at random along both axes "
        f"({_list_by_recipe(shifts)})"
    )
    if any(recipe.architecture != CNN for recipe in recipes.values()):
        return words
    return (
        f"{words}. It bears on the findings: by the trials in reports/LOG.md this shift is what "
        "makes detection generalise to held-out generators"
    )


def _list_by_recipe(values: Iterable[tuple[str, str]]) -> str:
    return "; ".join(f"{name}: {value}" for name, value in values)
