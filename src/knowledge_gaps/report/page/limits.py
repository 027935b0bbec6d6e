"""What the numbers of a study cannot say, as plain statements for the report's page."""

from __future__ import annotations

from knowledge_gaps.readings.formats import format_counts
from knowledge_gaps.study import Study


def make_limits(study: Study, distance: str) -> tuple[str, ...]:
    """List what the numbers of a study cannot say.

    Args:
        study: what was run.
        distance: as from `formats.format_distance`.
    """
    gans = [cohort.instances for cohort in study.gans.values()]
    classifiers = [cohort.instances for cohort in study.classifiers.values()]
    smallest = min([*gans, *classifiers])
    gan_steps = format_counts(recipe.steps for recipe in study.gan_recipes.values())
    classifier_steps = format_counts(recipe.steps for recipe in study.classifier_recipes.values())
    stops = any(recipe.early_stopping is not None for recipe in study.classifier_recipes.values())
    at_most = "at most " if stops else ""
    others = "architectures beyond these" if study.report.architectures else "other architectures"
    return (
        f"A cohort has {format_counts(gans)} GANs or {format_counts(classifiers)} classifiers. "
        "That shows that an effect can occur and roughly how large it is, not how often it "
        "occurs: a rare instance that fools everybody, or clusters among classifiers, can be "
        f"missed altogether, most easily where a cohort has no more than {smallest}.",
        "± is the spread over pairs that share generators and classifiers, so the pairs are not "
        "independent. It is no confidence interval (those stand in brackets), and two readings "
        "whose ± overlap may differ, as two whose ± do not overlap may agree with other seeds.",
        f"Training takes {gan_steps} steps for a GAN and {at_most}{classifier_steps} for a "
        "classifier, on one dataset. That a generator still fails at something does not show that "
        "it could not learn it with more steps, and nothing here speaks to other data, larger "
        f"images or {others}.",
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
        f"{distance} over a limited number of images has a floor above 0: the row “real train "
        f"split” shows it. {distance}s compare within this report and with reports of the same "
        "protocol, not with published ones.",
        "The level of any number depends on choices that the sources do not give. What may be "
        "compared with the paper is the pattern (what rises, falls or stays), not the level.",
    )
