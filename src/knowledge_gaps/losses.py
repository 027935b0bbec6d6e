"""The losses of the paper as pure functions of logits, written for minimisation.

D and C of the paper are probabilities of "real"; here they are logits, float [N], so that
-log sigmoid(l) = softplus(-l) stays finite. Every function returns a scalar, a mean over the batch,
where nothing else is said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

LABEL_REAL = 1
LABEL_GENERATED = 0


def compute_discriminator_loss(logits_real: Tensor, logits_generated: Tensor) -> Tensor:
    """Discriminator's loss, -log D(x) - log(1 - D(G(w))) (Goodfellow et al. 2014, eq. 1)."""
    return F.softplus(-logits_real).mean() + F.softplus(logits_generated).mean()


def compute_adversarial_loss(logits_generated: Tensor) -> Tensor:
    """Generator's non-saturating loss, -log D(G(w)) (Goodfellow et al. 2014, section 3)."""
    return F.softplus(-logits_generated).mean()


def compute_fooling_loss(logits_by_classifier: Sequence[Tensor]) -> Tensor:
    """Fooling term of the paper, -sum_k log C_k(G(w)), over at least one frozen classifier."""
    return torch.stack([F.softplus(-logits).mean() for logits in logits_by_classifier]).sum()


def weigh_generator_loss(adversarial: Tensor, fooling: Tensor, phi: float, form: str) -> Tensor:
    """Weigh the generator's two terms, both scalars, with phi at least 0.

    Source: "sum" is the paper's fool-all loss, adversarial + phi * fooling; "weighted" its MNIST
    form, 1/(1+phi) * adversarial + phi/(1+phi) * fooling.
    """
    if form == "sum":
        return adversarial + phi * fooling
    if form == "weighted":
        return adversarial / (1 + phi) + fooling * (phi / (1 + phi))
    raise ValueError(f"form is {form!r}, 'sum' or 'weighted' is needed")


def compute_classifier_loss(logits_real: Tensor, logits_generated: Tensor) -> Tensor:
    """Binary cross-entropy of a GAN-classifier, both halves with equal weight."""
    return 0.5 * compute_discriminator_loss(logits_real, logits_generated)


def compute_r1_penalty(images_real: Tensor, logits_real: Tensor) -> Tensor:
    """Mean squared 2-norm of the discriminator's gradient at reals, to be weighted by gamma / 2.

    Images [N, C, H, W] require grad, and logits [N] are computed from them.

    Source: Mescheder, Geiger & Nowozin 2018, eq. 9.
    """
    (gradient,) = torch.autograd.grad(logits_real.sum(), images_real, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()


def compute_path_lengths(images: Tensor, styles: Tensor, noise: Tensor) -> Tensor:
    """Path lengths |J_w^T y| [N]: how far an image moves for a step of its styles, along y.

    Images [N, C, H, W] are computed from styles [N, L, W]; the noise, as the images, is standard
    normal. y is the noise divided by sqrt(H W), and the square root is of a mean over the layers.
    With that scale the paper's weight of the penalty, ln 2 / (r^2 (ln r - ln 2)), is 2 at every
    resolution r.

    Source: Karras et al. 2020, section 3.2, eq. 4 and appendix B.
    """
    height, width = images.shape[2:]
    seen = (images * noise).sum() / math.sqrt(height * width)
    with torch.autocast(images.device.type, enabled=False):  # or parts would be in half precision
        (gradient,) = torch.autograd.grad(seen, styles, create_graph=True)
    return gradient.square().sum(dim=2).mean(dim=1).sqrt()


def average_path_lengths(mean: Tensor, lengths: Tensor, decay: float) -> Tensor:
    """Carry the moving average of path lengths, a of eq. 4 and 0 at first, on by one batch."""
    return mean.lerp(lengths.detach().mean(), 1 - decay)


def compute_path_length_penalty(lengths: Tensor, mean: Tensor) -> Tensor:
    """Mean squared distance of path lengths [N] from their average (Karras et al. 2020, eq. 4)."""
    return (lengths - mean).square().mean()
