"""Fixed rules that put measurements into words: what fools a classifier, whether that is all there
is to it, and what has collapsed.

A detection rate near 0 says only on which side of the classifier's threshold the images lie. The
area under the ROC curve has no threshold: it says whether the classifier still tells them from
reals.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from knowledge_gaps.statistics.chains import Floats, summarise_pairs

DETECTED_FROM = 0.5  # detection rate from which a generator counts as detected
CHANCE = 0.5  # area under the ROC curve of a classifier that tells nothing apart
GONE_MARGIN = 0.1  # area this near to chance, ends included, carries no usable signal

PRISTINE = "none"  # the perturbation, and the control, that changes nothing
REFERENCE_AUC = 0.8  # from which a reference counts as detected under a perturbation
REGAINED_AUC = 0.1  # that a perturbation brings back; five standard errors at 1,000 images
LEAST_TELLING = 3  # perturbations; one or two could hide the same thing by themselves

EMPTY_CONTRAST = 8.0  # levels of 255; digits have about 77, and the faintest of 24,000 has 33
COLLAPSED_ENTROPY = 0.5  # of the reals'; of ten classes about three are left (10^0.5)
COLLAPSED_MISSING = 0.5  # of the classes
REDUCED_ENTROPY = 0.9  # of the reals'; of ten classes less than eight are left (10^0.9)
REDUCED_RECALL = 0.5  # of the reals'; half of what other reals reach is out of reach

Aucs = Mapping[str, Floats]  # by perturbation [S, ...], the pairs of each of S chains


class Signal(StrEnum):
    """What became of the signal by which a classifier detects generated images."""

    DETECTED = "detected"  # at least half of the images are called generated
    GONE = "gone"  # fooled, and the classifier ranks generated images and reals alike
    SHIFTED = "shifted"  # fooled, but another threshold would tell them apart
    INVERTED = "inverted"  # fooled, and generated images look more real to it than reals
    UNKNOWN = "unknown"  # a number is missing


def classify_signals(
    detection_rates: npt.NDArray[np.float64], aucs: npt.NDArray[np.float64]
) -> npt.NDArray[np.str_]:
    """Say for each pair what became of the classifier's signal: values of `Signal`.

    Args:
        detection_rates: in [0, 1], of any shape; NaN where one is missing.
        aucs: likewise.
    """
    conditions = {
        Signal.UNKNOWN: np.isnan(detection_rates) | np.isnan(aucs),
        Signal.DETECTED: detection_rates >= DETECTED_FROM,
        Signal.GONE: np.abs(aucs - CHANCE) <= GONE_MARGIN,
        Signal.SHIFTED: aucs > CHANCE,
    }
    return np.select([*conditions.values()], [*conditions], default=Signal.INVERTED)


class Collapse(StrEnum):
    """What has become of a generator's diversity, from nothing left to nothing lost."""

    EMPTY = "empty"
    COLLAPSED = "collapsed"
    REDUCED = "reduced"
    INTACT = "intact"


@dataclass(frozen=True)
class Diversity:
    """What the rule reads; without classes, two numbers are None."""

    contrast: float  # mean over images of the standard deviation of their pixels, levels of 255
    class_entropy: float | None  # of the predicted classes, in nats
    missing_share: float | None  # missing classes divided by the number of classes
    recall: float  # share of the reals that lie among the images


def judge_collapse(generated: Diversity, real: Diversity) -> Collapse:
    """Classify a generator's diversity.

    The first of empty, collapsed, reduced and intact that holds, as `describe_rule` words them.
    Images that differ from one another without resembling reals count as reduced. Without classes
    no generator is called collapsed: a low recall alone does not tell a few images from many that
    are unlike reals. The reals are those of the floor.
    """
    entropy, entropy_real = generated.class_entropy or 0.0, real.class_entropy or 0.0
    if generated.contrast < EMPTY_CONTRAST:
        return Collapse.EMPTY
    is_missing = (generated.missing_share or 0.0) >= COLLAPSED_MISSING
    if is_missing or entropy < COLLAPSED_ENTROPY * entropy_real:
        return Collapse.COLLAPSED
    if generated.recall < REDUCED_RECALL * real.recall or entropy < REDUCED_ENTROPY * entropy_real:
        return Collapse.REDUCED
    return Collapse.INTACT


def describe_rule(has_classes: bool = True) -> str:
    """State the rule of `judge_collapse` in a paragraph, a shorter one without classes."""
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


class Gap(StrEnum):
    """What became of the gap that classifiers in a loss detect, asked of held-out ones."""

    VISIBLE = "visible"  # they rank unchanged images apart
    MASKED = "masked"  # they do not, but some perturbation brings it back
    CLOSED = "closed"  # they do not, under any perturbation that lets them detect at all
    UNDECIDED = "undecided"  # none of these
    UNKNOWN = "unknown"  # there is nothing to ask, or a number is missing


def list_telling(reference: Aucs) -> list[str]:
    """List the perturbations under which the reference is still detected; others tell nothing.

    Args:
        reference: areas under the ROC curve, float64 [S, ...], by perturbation.
    """
    means = _average(reference)
    return [name for name in means if name != PRISTINE and means[name] >= REFERENCE_AUC]


def judge_gap(held_out: Aucs, reference: Aucs) -> Gap:
    """Judge a cohort of generators that fool classifiers, as `describe_gap_rule` words it.

    Args:
        held_out: areas under the ROC curve of the pairs of held-out classifiers and these
            generators, float64 [S, ...], by perturbation, that of no change among them.
        reference: likewise of the same classifiers and the generators that are the reference.
    """
    means, references, telling = _average(held_out), _average(reference), list_telling(reference)
    if means.get(PRISTINE, 0.0) >= CHANCE + GONE_MARGIN:
        return Gap.VISIBLE
    asked = (PRISTINE, *telling)
    if PRISTINE not in references or len(references) == 1 or not means.keys() >= {*asked}:
        return Gap.UNKNOWN
    if references[PRISTINE] < REFERENCE_AUC:
        return Gap.UNDECIDED
    regained = max(CHANCE + GONE_MARGIN, means[PRISTINE] + REGAINED_AUC)
    if any(means[name] >= regained for name in telling):
        return Gap.MASKED
    # two pairs on either side of chance are not near it, though their mean is
    is_near = all(_average_chains(np.abs(held_out[name] - CHANCE)) <= GONE_MARGIN for name in asked)
    return Gap.CLOSED if is_near and len(telling) >= LEAST_TELLING else Gap.UNDECIDED


def _average(areas: Aucs) -> dict[str, float]:
    """Average over the pairs of each chain, then over chains, where all are known."""
    known = {name: aucs for name, aucs in areas.items() if aucs.size and np.isfinite(aucs).all()}
    return {name: _average_chains(aucs) for name, aucs in known.items()}


def _average_chains(values: Floats) -> float:
    return float(summarise_pairs(values).mean())


def describe_gap_rule() -> str:
    """State the rule of `judge_gap` in a paragraph."""
    seen, near = CHANCE + GONE_MARGIN, f"within {GONE_MARGIN:g} of {CHANCE:g}"
    return (
        "Asked are the held-out classifiers, by the area under the ROC curve (AUC), a mean over "
        f"the pairs of a chain and then over chains. Visible: it is at least {seen:g} on unchanged "
        "images. A perturbation tells something only if the same classifiers still detect the "
        "reference under it, generators like those that they learnt to detect but held out from "
        f"them, with an AUC of at least {REFERENCE_AUC:g}; others are left out. Masked: below "
        f"{seen:g} on unchanged images, but under a perturbation that tells at least {seen:g} and "
        f"{REGAINED_AUC:g} higher. Closed: "
        f"{near}, by the mean distance of the pairs, on unchanged images and under all "
        f"perturbations that tell, at least {LEAST_TELLING} of them. Undecided: none of these, or "
        "the reference is not detected even on unchanged images. Unknown: a number is missing."
    )
