"""Whether a generator has collapsed: a word by a rule without judgement.

What the rule looks at is measured by `knowledge_gaps.evaluation.quality`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

EMPTY_CONTRAST = 8.0  # levels of 255; digits have about 77, and the faintest of 24,000 has 33
COLLAPSED_ENTROPY = 0.5  # of the reals'; of ten classes about three are left (10^0.5)
COLLAPSED_MISSING = 0.5  # of the classes
REDUCED_ENTROPY = 0.9  # of the reals'; of ten classes less than eight are left (10^0.9)
REDUCED_RECALL = 0.5  # of the reals'; half of what other reals reach is out of reach


class Collapse(StrEnum):
    """What has become of a generator's diversity, from nothing left to nothing lost."""

    EMPTY = "empty"
    COLLAPSED = "collapsed"
    REDUCED = "reduced"
    INTACT = "intact"


@dataclass(frozen=True)
class Diversity:
    """What the verdict looks at.

    Attributes:
        contrast: mean over images of the standard deviation of their pixels, in levels of 255.
        class_entropy: of the predicted classes, in nats; None without classes.
        missing_share: missing classes divided by the number of classes, in [0, 1]; None without
            classes.
        recall: share of the reals that lie among the images, in [0, 1].
    """

    contrast: float
    class_entropy: float | None
    missing_share: float | None
    recall: float


def judge_collapse(generated: Diversity, real: Diversity) -> Collapse:
    """Say what has become of a generator's diversity.

    The first that holds:
        empty: the mean contrast of the images is below 8 of 255 levels: blank sheets.
        collapsed: the class entropy is below half the reals', or at least half of the classes are
            missing: one image, or a few, again and again.
        reduced: the class entropy is below 0.9 of the reals', or recall is below half the reals':
            there is diversity, but much of what reals show does not come up any more. Images that
            differ from one another without resembling reals are here too.
        intact: none of these. It says nothing about realism.

    Where the extractor knows no classes, contrast and recall alone are looked at, and nobody is
    called collapsed: a recall near 0 is that of one image again and again, and also that of images
    that differ from one another without resembling reals. Both are reduced then.

    Args:
        generated: of a generator's images.
        real: of the floor, which is as many reals of the train split; it is intact by itself.
    """
    if generated.contrast < EMPTY_CONTRAST:
        return Collapse.EMPTY
    has_many_missing = (
        generated.missing_share is not None and generated.missing_share >= COLLAPSED_MISSING
    )
    if has_many_missing or _has_lower_entropy(generated, real, COLLAPSED_ENTROPY):
        return Collapse.COLLAPSED
    has_low_recall = generated.recall < REDUCED_RECALL * real.recall
    if has_low_recall or _has_lower_entropy(generated, real, REDUCED_ENTROPY):
        return Collapse.REDUCED
    return Collapse.INTACT


def describe_rule(has_classes: bool = True) -> str:
    """Say the rule of `judge_collapse` in a paragraph, with its numbers.

    Args:
        has_classes: whether the study's extractor knows classes.
    """
    if not has_classes:
        return (
            f"Empty: the standard deviation of an image's pixels is below {EMPTY_CONTRAST:g} of "
            f"255 levels on average. Reduced: recall is below {REDUCED_RECALL:.0%} of the floor's. "
            "Intact: neither, which says nothing about realism. No generator is called collapsed: "
            "that takes an extractor with classes."
        )
    return (
        f"Empty: the standard deviation of an image's pixels is below {EMPTY_CONTRAST:g} of 255 "
        "levels on average. Collapsed: the class entropy is below "
        f"{COLLAPSED_ENTROPY:.0%} of the reals', or at least {COLLAPSED_MISSING:.0%} of the "
        f"classes are missing. Reduced: the class entropy is below {REDUCED_ENTROPY:.0%} of the "
        f"reals', or recall is below {REDUCED_RECALL:.0%} of the floor's. Intact: none of these, "
        "which says nothing about realism."
    )


def _has_lower_entropy(generated: Diversity, real: Diversity, share: float) -> bool:
    """Tell whether the class entropy is below a share of the reals'; never without classes."""
    if generated.class_entropy is None or real.class_entropy is None:
        return False
    return generated.class_entropy < share * real.class_entropy
