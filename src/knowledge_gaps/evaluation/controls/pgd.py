"""Projected gradient descent: an attack on each image, by the loss that fooling GANs minimise.

Source: Madry et al. 2018, "Towards deep learning models resistant to adversarial attacks", section
2.1, with the L-infinity ball, and the step of their section 5, 2.5 epsilon / steps. It starts from
the image and not from a random point of the ball, so nothing is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from knowledge_gaps.data.images import to_float, to_uint8
from knowledge_gaps.data.store import Images
from knowledge_gaps.evaluation.batches import count_scored, split_images
from knowledge_gaps.evaluation.controlling import Control, Given
from knowledge_gaps.losses import compute_fooling_loss
from knowledge_gaps.models.input_spec import GanClassifier

NUM_STEPS = 20
_STEP = 2.5 / NUM_STEPS  # of epsilon, so that every point of the ball is within reach
_LEVEL = 1 / 127.5  # of 255, in units of [-1, 1]
# classifiers clamp images to [-1, 1], without a slope at the ends, where most pixels of a digit are
_INSIDE = 1 - 2**-20


def attack(images: Images, given: Given, distortion: int) -> Images:
    """Move images, uint8 [N, C, H, W], to where the classifiers in the loss call them real.

    No value moves further than the distortion, in levels of 255. At least one classifier is given.
    """
    size = min(count_scored(each.spec, has_gradients=True) for each in given.classifiers)
    parts = (
        _attack_batch(batch, given.classifiers, distortion * _LEVEL)
        for batch in split_images(images, size)
    )
    return np.concatenate(list(parts))


def _attack_batch(batch: Images, classifiers: Sequence[GanClassifier], epsilon: float) -> Images:
    device = next(classifiers[0].parameters()).device
    start = to_float(torch.from_numpy(batch).to(device))
    lowest, highest = (start - epsilon).clamp_(min=-1), (start + epsilon).clamp_(max=1)
    points = start
    for _ in range(NUM_STEPS):
        inner = (points * _INSIDE).requires_grad_()
        loss = compute_fooling_loss([classifier(inner) for classifier in classifiers])
        (gradient,) = torch.autograd.grad(loss, inner)
        # x <- Proj(x - alpha sgn(grad L)): the loss is one to be made small here
        points = torch.clamp(points - _STEP * epsilon * gradient.sign(), lowest, highest)
    return to_uint8(points).cpu().numpy()


CONTROL = Control(attack, distortions=(2, 4, 8, 16, 32, 64))
