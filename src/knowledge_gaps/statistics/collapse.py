"""Whether a generator has collapsed, by a fixed rule."""

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
    """What the rule reads.

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
    """Classify a generator's diversity.

    The first that holds:
        empty: the mean contrast of the images is below 8 of 255 levels: blank images.
        collapsed: the class entropy is below half the reals', or at least half of the classes are
            missing: one image, or a few, again and again.
        reduced: the class entropy is below 0.9 of the reals', or recall is below half the reals':
            much of what reals show does not come up. Images that differ from one another without
            resembling reals are here too.
        intact: none of these. It says nothing about realism.

    Where the extractor has no classes, only contrast and recall are used and no generator is
    called collapsed: a low recall alone does not tell a few images from many unlike reals.

    Args:
        generated: of a generator's images.
        real: of the floor, which is as many reals of the train split; it is intact by itself.
    """

    def has_entropy_below(share: float) -> bool:
        if generated.class_entropy is None or real.class_entropy is None:
            return False
        return generated.class_entropy < share * real.class_entropy

    missing_share = 0.0 if generated.missing_share is None else generated.missing_share
    if generated.contrast < EMPTY_CONTRAST:
        return Collapse.EMPTY
    if missing_share >= COLLAPSED_MISSING or has_entropy_below(COLLAPSED_ENTROPY):
        return Collapse.COLLAPSED
    if generated.recall < REDUCED_RECALL * real.recall or has_entropy_below(REDUCED_ENTROPY):
        return Collapse.REDUCED
    return Collapse.INTACT


def describe_rule(has_classes: bool = True) -> str:
    """State the rule of `judge_collapse` in a paragraph; shorter for an extractor without classes.

    Args:
        has_classes: whether the study's extractor knows classes.
    """
    empty = (
        f"Empty: the standard deviation of an image's pixels is below {EMPTY_CONTRAST:g} of 255 "
        "levels on average."
    )
    low_recall = f"recall is below {REDUCED_RECALL:.0%} of the floor's"
    if not has_classes:
        return (
            f"{empty} Reduced: {low_recall}. Intact: neither, which says nothing about realism. "
            "No generator is called collapsed: that takes an extractor with classes."
        )
    return (
        f"{empty} Collapsed: the class entropy is below {COLLAPSED_ENTROPY:.0%} of the reals', or "
        f"at least {COLLAPSED_MISSING:.0%} of the classes are missing. Reduced: the class entropy "
        f"is below {REDUCED_ENTROPY:.0%} of the reals', or {low_recall}. Intact: none of these, "
        "which says nothing about realism."
    )
