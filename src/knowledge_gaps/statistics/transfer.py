"""Transfer: how far GANs shift held-out classifiers, for how far they shift those in their loss.

No threshold enters: a shift is in units of each classifier's own separation of reals from the
generators that it was trained to detect. So a transfer compares classifiers whose scores have
other scales and thresholds, where a detection rate depends on which side of 0.5 it falls.
"""

from __future__ import annotations

import math

import numpy as np

from knowledge_gaps.statistics.chains import Floats, summarise_pairs

MIN_SHIFT = 0.25  # of a classifier in the loss; below it nothing was fooled that could transfer


def compute_shifts(real: Floats, fooling: Floats, own: Floats) -> Floats:
    """Compute how far GANs shift a classifier's scores towards those of reals.

    The shift is 1 - (real - fooling) / (real - own). It does not change when all scores of a
    classifier are shifted or scaled.

    Args:
        real: medians of the scores (logits, larger is more real) of held-out reals.
        fooling: those of the GANs that are asked about.
        own: those of generators of the cohort that the classifier was trained to detect, held out
            from it where there are such. All three broadcast, for example [S, 1, m], [S, n, m]
            and [S, 1, m] of S chains with n GANs and m classifiers.

    Returns:
        Of the broadcast shape, without bounds: 0 where GANs are scored as those that the classifier
        was trained to detect, below 0 where they are told from reals more clearly, 1 where they are
        scored as reals, above 1 as more real than reals. NaN where a median is, and where a
        classifier does not separate its own (real - own is not positive).
    """
    separation = real - own
    is_separate = separation > 0
    shifts: Floats = 1 - (real - fooling) / np.where(is_separate, separation, math.nan)
    return shifts


def compute_transfer(in_loss: Floats, held_out: Floats, min_shift: float = MIN_SHIFT) -> Floats:
    """Compute the transfer of every chain: mean held-out shift over mean in-loss shift.

    Args:
        in_loss: [S, ...], shifts of pairs whose classifier is in the GAN's loss, see
            `compute_shifts`; NaN elsewhere, and left out.
        held_out: [S, ...], likewise of pairs whose classifier took no part in the GAN's training.
        min_shift: positive; the least mean in-loss shift that a ratio is formed of.

    Returns:
        [S], without bounds: 1 where held-out classifiers are shifted as far as those in the loss,
        0 where they are not shifted, below 0 where they detect the GANs more clearly than those
        that they were trained on. NaN for a chain without one of the two, or whose in-loss shift
        is below `min_shift`: a manipulation that failed has no transfer.
    """
    shift_in_loss, shift_held_out = summarise_pairs(in_loss), summarise_pairs(held_out)
    is_fooled = shift_in_loss >= min_shift
    transfer: Floats = shift_held_out / np.where(is_fooled, shift_in_loss, math.nan)
    return transfer
