"""What a GAN-classifier looks at: integrated gradients, and how far two classifiers agree.

Pure functions of frozen classifiers and images. Which classifiers look at which images is known
by `knowledge_gaps.stages.attributions`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import rankdata
from torch import Tensor

from knowledge_gaps.data.images import to_float

FloatArray = npt.NDArray[np.float64]
Classifier = Callable[[Tensor], Tensor]

# The baseline, in units of [-1, 1]. Of digits it is the empty image. A photograph has no empty
# image; black stays the baseline there, so that one rule holds for all data: attributions say what
# made the logit rise as the image was lit, and black parts of a photograph get none.
BLACK = -1.0
NUM_STEPS = 32


@dataclass(frozen=True)
class Look:
    """What K classifiers look at in N images, of which the first ones are kept as examples.

    Attributes:
        images: uint8 [E, C, H, W], the examples.
        attributions: float32 [K, E, C, H, W], in logits.
        logits: float32 [K, E], positive = real.
        absolute_sum: float64 [K, C, H, W], of |attribution| over all N images.
        correlations: float64 [N, K, K], as from `correlate_attributions`.
        largest_gap: in logits, of all attributions from being complete.
    """

    images: npt.NDArray[np.uint8]
    attributions: npt.NDArray[np.float32]
    logits: npt.NDArray[np.float32]
    absolute_sum: FloatArray
    correlations: FloatArray
    largest_gap: float


def look_at(
    images: npt.NDArray[np.uint8],
    classifiers: Sequence[Classifier],
    num_examples: int,
    device: torch.device | None = None,
) -> Look:
    """Let classifiers look at images.

    Args:
        images: uint8 [N, C, H, W].
        classifiers: K frozen ones, from images float32 in [-1, 1] to logits float32 [N].
        num_examples: how many of the first images are kept with their attributions, from 0.
        device: of the classifiers; None for the CPU.
    """
    prepared = to_float(torch.from_numpy(images).to(device))
    attributed = [integrate_gradients(classifier, prepared) for classifier in classifiers]
    gaps = [
        measure_gaps(classifier, prepared, one)
        for classifier, one in zip(classifiers, attributed, strict=True)
    ]
    attributions = torch.stack(attributed).cpu().numpy()
    return Look(
        images=images[:num_examples],
        attributions=attributions[:, :num_examples],
        logits=_score_examples(classifiers, prepared[:num_examples]),
        absolute_sum=np.abs(attributions).sum(axis=1, dtype=np.float64),
        correlations=correlate_attributions(attributions, prepared.cpu().numpy()),
        largest_gap=float(torch.stack(gaps).abs().max()),
    )


def join_looks(looks: Sequence[Look]) -> Look:
    """Join what the same classifiers saw in the parts of a set, in order."""
    return Look(
        images=np.concatenate([look.images for look in looks]),
        attributions=np.concatenate([look.attributions for look in looks], axis=1),
        logits=np.concatenate([look.logits for look in looks], axis=1),
        absolute_sum=np.sum([look.absolute_sum for look in looks], axis=0),
        correlations=np.concatenate([look.correlations for look in looks]),
        largest_gap=max(look.largest_gap for look in looks),
    )


def integrate_gradients(
    classifier: Classifier, images: Tensor, num_steps: int = NUM_STEPS
) -> Tensor:
    """Attribute the logit of every image to its pixels, by integrated gradients.

    Source: Sundararajan et al. 2017, "Axiomatic attribution for deep networks", eq. 1, along the
    straight line from a black image, as the sum of eq. 3. The gradients are taken at midpoints of
    steps that are even in the root of the line's parameter: a classifier's logit turns most where
    an image is still dim, and there the steps are short.

    Args:
        classifier: frozen; from images to logits float32 [N], positive = real.
        images: float32 [N, C, H, W] in [-1, 1].
        num_steps: of the sum that stands for the integral.

    Returns:
        Logits, float32 [N, C, H, W]; positive where a pixel speaks for "real". The sum over an
        image is its logit less that of the black image, up to the error of the sum.
    """
    path = images - BLACK
    integral = torch.zeros_like(images)
    for step in range(num_steps):
        root = (step + 0.5) / num_steps  # alpha = root^2, d alpha = 2 root d root
        points = (BLACK + root**2 * path).requires_grad_()
        (gradients,) = torch.autograd.grad(classifier(points).sum(), points)
        integral += 2 * root / num_steps * gradients
    return path * integral


@torch.no_grad()
def measure_gaps(classifier: Classifier, images: Tensor, attributions: Tensor) -> Tensor:
    """Measure how far attributions are from complete.

    Source: Sundararajan et al. 2017, proposition 1 (completeness).

    Args:
        classifier: as for `integrate_gradients`.
        images: float32 [N, C, H, W].
        attributions: of these images, of the same shape.

    Returns:
        Logits, float32 [N]: sum of the attributions, less the logit's rise from the black image.
    """
    black = torch.full_like(images[:1], BLACK)
    return attributions.sum(dim=(1, 2, 3)) - (classifier(images) - classifier(black))


def correlate_attributions(
    attributions: npt.NDArray[np.float32], images: npt.NDArray[np.float32]
) -> FloatArray:
    """Correlate the attributions of every two classifiers by rank, image by image.

    Pixels that equal the baseline are left out: their attribution is 0 whatever the classifier,
    and a background in common is no agreement. A colour counts by its channels.

    Args:
        attributions: float32 [K, N, C, H, W], of K classifiers.
        images: float32 [N, C, H, W] in [-1, 1].

    Returns:
        Spearman's rank correlations, float64 [N, K, K]; NaN where a classifier has the same
        attribution everywhere, or an image less than two pixels that are not black.
    """
    num_classifiers, num_images = attributions.shape[:2]
    correlations = np.full((num_images, num_classifiers, num_classifiers), np.nan)
    for index, image in enumerate(images):
        values = attributions[:, index, image != BLACK]  # [K, pixels that are not black]
        if values.shape[1] > 1 and (np.ptp(values, axis=1) > 0).all():
            ranks = rankdata(values, axis=1)
            correlations[index] = np.corrcoef(ranks).reshape(num_classifiers, num_classifiers)
    return correlations


@torch.no_grad()
def _score_examples(classifiers: Sequence[Classifier], images: Tensor) -> npt.NDArray[np.float32]:
    """Return the logits float32 [K, E] of images [E, C, H, W]; not every network takes none."""
    if len(images) == 0:
        return np.empty((len(classifiers), 0), np.float32)
    scores: npt.NDArray[np.float32] = (
        torch.stack([classifier(images) for classifier in classifiers]).cpu().numpy()
    )
    return scores
