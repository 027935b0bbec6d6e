"""The losses of the paper as pure functions of logits, written for minimisation.

D and C of the paper are probabilities of "real"; here they are logits, so that
-log sigmoid(l) = softplus(-l) stays finite. Every function takes float tensors and returns a
scalar; nothing here knows a network, an optimiser or a device.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

LABEL_REAL = 1
LABEL_GENERATED = 0


def compute_discriminator_loss(logits_real: Tensor, logits_generated: Tensor) -> Tensor:
    """Discriminator's loss, -log D(x) - log(1 - D(G(w))), means over the batch.

    Source: Goodfellow et al. 2014, eq. 1.

    Args:
        logits_real: [N] of reals.
        logits_generated: [M] of generated images.
    """
    return F.softplus(-logits_real).mean() + F.softplus(logits_generated).mean()


def compute_adversarial_loss(logits_generated: Tensor) -> Tensor:
    """Generator's non-saturating loss, -log D(G(w)), mean over the batch.

    Source: Goodfellow et al. 2014, section 3; first term of every generator loss of the paper.

    Args:
        logits_generated: [N], the discriminator's for generated images.
    """
    return F.softplus(-logits_generated).mean()


def compute_fooling_loss(logits_by_classifier: Sequence[Tensor]) -> Tensor:
    """Fooling term, -sum_k log C_k(G(w)), mean over the batch.

    Fool-all, memoryless and multi-instance differ only in which classifiers are in the list.

    Source: the sum in the paper's fool-all and multi-instance losses.

    Args:
        logits_by_classifier: one tensor [N] for each frozen classifier; at least one.
    """
    return torch.stack([F.softplus(-logits).mean() for logits in logits_by_classifier]).sum()


def weigh_generator_loss(adversarial: Tensor, fooling: Tensor, phi: float, form: str) -> Tensor:
    """Weigh the generator's two terms.

    Source: "sum" is the paper's fool-all loss, adversarial + phi * fooling; "weighted" its MNIST
    form, 1/(1+phi) * adversarial + phi/(1+phi) * fooling.

    Args:
        adversarial: scalar.
        fooling: scalar.
        phi: at least 0, finite.
        form: "sum" or "weighted".

    Raises:
        ValueError: for any other form.
    """
    if form == "sum":
        return adversarial + phi * fooling
    if form == "weighted":
        return adversarial / (1 + phi) + fooling * (phi / (1 + phi))
    raise ValueError(f"form is {form!r}, 'sum' or 'weighted' is needed")


def compute_classifier_loss(logits_real: Tensor, logits_generated: Tensor) -> Tensor:
    """Binary cross-entropy of a GAN-classifier, both halves with equal weight.

    Args:
        logits_real: [N] of reals.
        logits_generated: [M] of generated images.
    """
    return 0.5 * compute_discriminator_loss(logits_real, logits_generated)


def compute_r1_penalty(images_real: Tensor, logits_real: Tensor) -> Tensor:
    """Mean squared 2-norm of the discriminator's gradient at reals, to be weighted by gamma / 2.

    Source: Mescheder, Geiger & Nowozin 2018, eq. 9.

    Args:
        images_real: [N, C, H, W] that requires grad.
        logits_real: [N], computed from `images_real`.
    """
    (gradient,) = torch.autograd.grad(logits_real.sum(), images_real, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()
