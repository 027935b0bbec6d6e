"""Integrated gradients of GAN-classifiers, and how far two classifiers agree.

A study's attributions are those of its first GAN cohort of the iterations that fools classifiers:
of the classifier in its loss, and of held-out ones of the same cohort.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import rankdata
from torch import Tensor

from knowledge_gaps.core import layout
from knowledge_gaps.core.devices import find_device
from knowledge_gaps.data.images import to_float
from knowledge_gaps.data.store import open_images
from knowledge_gaps.evaluation.batches import BACKWARD_BATCH, BACKWARD_VALUES, count_scored
from knowledge_gaps.models.frozen import load_classifier
from knowledge_gaps.study import NO_POOL, REALS, Study
from knowledge_gaps.study.graph import list_members

FloatArray = npt.NDArray[np.float64]
_load_classifier = cache(load_classifier)  # once a process
Classifier = Callable[[Tensor], Tensor]

# The baseline, in units of [-1, 1]: the empty image of digits. A photograph has no empty image;
# there attributions say what raised the logit as the image was lit, and black parts get none.
BLACK = -1.0
NUM_STEPS = 32
_MAX_HELD_OUT = 3  # classifiers beside the one in the loss
NUM_EXAMPLES = 8  # images of each set whose attributions are stored
# images of each set, for means and correlations: a share of those that are evaluated
_SHARE, _LEAST_IMAGES, _MOST_IMAGES = 8, 128, 500


class Plan(NamedTuple):
    """What is attributed; empty when no GAN cohort of the iterations fools classifiers."""

    gans: str | None  # the first cohort that fools classifiers
    cohort: str | None  # of the first classifier in its loss
    classifiers: tuple[int, ...]  # instances: that one, then held-out ones
    directories: tuple[Path, ...]  # of these classifiers
    files: Mapping[str, Path]  # images by GAN cohort, generator 0 of each, and of the reals


class Attributions(NamedTuple):
    """Attributions of N images by K classifiers; the first E images are examples."""

    images: npt.NDArray[np.uint8]  # [E, C, H, W]
    attributions: npt.NDArray[np.float32]  # [K, E, C, H, W], in logits
    absolute_sum: FloatArray  # [K, C, H, W], of |attribution| over all N images
    correlations: FloatArray  # [N, K, K], as from `correlate_attributions`


def make_plan(root: Path, study: Study) -> Plan:
    """Choose the GAN cohort, the classifiers and the sets of images."""
    cohorts = [iteration.gans for iteration in study.report.iterations]
    gans = next((name for name in cohorts if study.gans[name].phi > 0), None)
    if gans is None:
        return Plan(None, None, (), (), {})
    members = list_members(study, study.gans[gans].fools)
    path, in_loss = members[0]
    cohort = path.partition("/")[2]
    instances = range(study.classifiers[cohort].instances)
    held_out = [one for one in instances if (path, one) not in members]
    classifiers = (in_loss, *held_out[:_MAX_HELD_OUT])
    directories = tuple(layout.get_instance_directory(root, path, one) for one in classifiers)
    baseline = [cohorts[0]] if study.gans[cohorts[0]].fools == NO_POOL else []
    files = {name: layout.get_samples_file(root, name, 0) for name in (gans, *baseline)}
    files[REALS] = root / layout.PREPARED / layout.TEST_IMAGES
    return Plan(gans, cohort, classifiers, directories, files)


def list_batches(plan: Plan, num_evaluated: int) -> list[tuple[str, range]]:
    """Split every set of images, a share of those evaluated, into batches: name and indices."""
    if plan.gans is None:
        return []
    most = min(_MOST_IMAGES, max(_LEAST_IMAGES, num_evaluated // _SHARE))
    # all classifiers are of one cohort, so they have one input size
    spec = _load_classifier(plan.directories[0]).spec
    size = count_scored(spec, BACKWARD_BATCH, BACKWARD_VALUES)
    images = {name: range(min(most, len(open_images(file)))) for name, file in plan.files.items()}
    return [(n, all_[i : i + size]) for n, all_ in images.items() for i in all_[::size]]


def attribute_batch(batch: tuple[str, range], plan: Plan) -> Attributions:
    """Attribute a batch on this process's device; raises UserError when a file is not whole."""
    (name, index), device = batch, find_device()
    classifiers = [_load_classifier(directory).to(device) for directory in plan.directories]
    images = np.array(open_images(plan.files[name])[index.start : index.stop])
    return attribute_images(images, classifiers, device)


def attribute_images(
    images: npt.NDArray[np.uint8],
    classifiers: Sequence[Classifier],
    device: torch.device | None = None,
) -> Attributions:
    """Attribute the logits of images, uint8 [N, C, H, W], by K frozen classifiers on a device."""
    prepared = to_float(torch.from_numpy(images).to(device))
    attributed = torch.stack([integrate_gradients(one, prepared) for one in classifiers])
    attributions = attributed.cpu().numpy()
    return Attributions(
        images=images[:NUM_EXAMPLES],
        attributions=attributions[:, :NUM_EXAMPLES],
        absolute_sum=np.abs(attributions).sum(axis=1, dtype=np.float64),
        correlations=correlate_attributions(attributions, prepared.cpu().numpy()),
    )


def join_attributions(parts: Sequence[Attributions]) -> Attributions:
    """Join attributions of consecutive batches by the same classifiers."""
    images, attributions, sums, correlations = zip(*parts, strict=True)
    return Attributions(
        np.concatenate(images)[:NUM_EXAMPLES],
        np.concatenate(attributions, axis=1)[:, :NUM_EXAMPLES],
        np.sum(sums, axis=0),
        np.concatenate(correlations),
    )


def integrate_gradients(
    classifier: Classifier, images: Tensor, num_steps: int = NUM_STEPS
) -> Tensor:
    """Attribute the logit of every image to its pixels, by integrated gradients.

    Source: Sundararajan et al. 2017, "Axiomatic attribution for deep networks", eq. 1, along the
    straight line from a black image, as the sum of eq. 3. The gradients are taken at midpoints of
    steps that are even in the root of the line's parameter: a classifier's logit turns most where
    an image is still dim, and there the steps are short.

    Returns logits of the shape of the images, float32 [N, C, H, W] in [-1, 1], positive for "real".
    The sum over an image is its logit less that of the black image, up to the error of the sum.
    """
    path = images - BLACK
    integral = torch.zeros_like(images)
    for step in range(num_steps):
        root = (step + 0.5) / num_steps  # alpha = root^2, d alpha = 2 root d root
        points = (BLACK + root**2 * path).requires_grad_()
        (gradients,) = torch.autograd.grad(classifier(points).sum(), points)
        integral += 2 * root / num_steps * gradients
    return path * integral


def correlate_attributions(
    attributions: npt.NDArray[np.float32], images: npt.NDArray[np.float32]
) -> FloatArray:
    """Correlate the attributions of every two classifiers by rank, image by image.

    Pixels that equal the baseline are left out: their attribution is 0 whatever the classifier,
    and a background in common is no agreement. A colour counts by its channels.

    Returns Spearman's rank correlations, float64 [N, K, K], of attributions [K, N, C, H, W]; NaN
    where a classifier has the same attribution everywhere, or an image less than two pixels that
    are not black.
    """
    num_classifiers, num_images = attributions.shape[:2]
    correlations = np.full((num_images, num_classifiers, num_classifiers), np.nan)
    for index, image in enumerate(images):
        values = attributions[:, index, image != BLACK]  # [K, pixels that are not black]
        if values.shape[1] > 1 and (np.ptp(values, axis=1) > 0).all():
            ranks = rankdata(values, axis=1)
            correlations[index] = np.corrcoef(ranks).reshape(num_classifiers, num_classifiers)
    return correlations
