"""Integrated gradients of GAN-classifiers, and how far two classifiers agree.

A study's attributions are those of its first GAN cohort of the iterations that fools classifiers:
of the classifier in its loss, and of held-out ones of the same cohort, all of the first chain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import rankdata
from torch import Tensor

from knowledge_gaps.core import layout
from knowledge_gaps.core.devices import find_device
from knowledge_gaps.core.instance import FIRST_CHAIN, Instance
from knowledge_gaps.data.images import to_float
from knowledge_gaps.data.store import Images, open_images
from knowledge_gaps.evaluation.batches import count_scored, split_images
from knowledge_gaps.models.frozen import load_classifier
from knowledge_gaps.models.input_spec import GanClassifier
from knowledge_gaps.readings.cohorts import find_baseline, find_fooling
from knowledge_gaps.study import REALS, Study
from knowledge_gaps.study.graph import list_members

FloatArray = npt.NDArray[np.float64]

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
    classifiers: tuple[int, ...]  # indices in the first chain: that one, then held-out ones
    directories: tuple[Path, ...]  # of these classifiers
    num_images: int  # of each set, at most
    files: Mapping[str, Path]  # images by GAN cohort, generator 0 of each, and of the reals


class Attributions(NamedTuple):
    """Attributions of N images by K classifiers; the first E images are examples."""

    images: npt.NDArray[np.uint8]  # [E, C, H, W]
    attributions: npt.NDArray[np.float32]  # [K, E, C, H, W], in logits
    means: FloatArray  # [K, C, H, W], of |attribution| over all N images
    correlations: FloatArray  # [N, K, K], as from `correlate_attributions`


def make_plan(root: Path, study: Study) -> Plan:
    """Choose the GAN cohort, the classifiers and the sets of images."""
    gans = find_fooling(study)
    if gans is None:
        return Plan(None, None, (), (), 0, {})
    members = list_members(study, study.gans[gans].fools)
    path, in_loss = members[0]
    cohort = path.partition("/")[2]
    indices = range(study.classifiers[cohort].instances)
    held_out = [index for index in indices if (path, index) not in members]
    classifiers = (in_loss, *held_out[:_MAX_HELD_OUT])
    directories = tuple(
        layout.get_instance_directory(root, path, Instance(FIRST_CHAIN, index))
        for index in classifiers
    )
    shown = [name for name in (gans, find_baseline(study)) if name is not None]
    files = {name: layout.get_samples_file(root, name, Instance(FIRST_CHAIN, 0)) for name in shown}
    files[REALS] = root / layout.PREPARED / layout.TEST_IMAGES
    num_images = min(_MOST_IMAGES, max(_LEAST_IMAGES, study.evaluation.num_images // _SHARE))
    return Plan(gans, cohort, classifiers, directories, num_images, files)


def attribute_set(file: Path, plan: Plan) -> Attributions:
    """Attribute a file of images on this process's device.

    Raises UserError when a checkpoint or the file is missing or altered.
    """
    classifiers = [load_classifier(directory).to(find_device()) for directory in plan.directories]
    return attribute_images(open_images(file), classifiers, plan.num_images)


def attribute_images(
    images: Images, classifiers: Sequence[GanClassifier], num_images: int | None = None
) -> Attributions:
    """Attribute the logits of the first images, or all, by K frozen classifiers of one cohort."""
    size = count_scored(classifiers[0].spec, has_gradients=True)  # one cohort has one input size
    device = next(classifiers[0].parameters()).device
    examples, sums, correlations = [], [], []
    for batch in split_images(images, size, num_images):
        prepared = to_float(torch.from_numpy(batch).to(device))
        attributed = torch.stack([integrate_gradients(one, prepared) for one in classifiers])
        attributions = attributed.cpu().numpy()
        examples.append(attributions[:, :NUM_EXAMPLES].copy())  # a view would keep all of them
        sums.append(np.abs(attributions).sum(axis=1, dtype=np.float64))
        correlations.append(correlate_attributions(attributions, prepared.cpu().numpy()))
    joined = np.concatenate(correlations)
    return Attributions(
        images=next(split_images(images, NUM_EXAMPLES)),
        attributions=np.concatenate(examples, axis=1)[:, :NUM_EXAMPLES],
        means=np.sum(sums, axis=0) / len(joined),
        correlations=joined,
    )


def integrate_gradients(
    classifier: GanClassifier, images: Tensor, num_steps: int = NUM_STEPS
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
