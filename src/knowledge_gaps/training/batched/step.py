"""One step of all instances: the phases of `knowledge_gaps.training.phases`, stacked.

Networks run under vmap, losses are the same functions of logits, and the frozen classifiers, which
all instances share, see all generated images at once. Nothing in a step waits for the device or
decides by a value, so it can be captured once and replayed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch.func import vmap

from knowledge_gaps.data.images import to_float
from knowledge_gaps.losses import (
    compute_adversarial_loss,
    compute_discriminator_loss,
    compute_fooling_loss,
    weigh_generator_loss,
)
from knowledge_gaps.study import GanRecipe
from knowledge_gaps.training.batched.stack import GanStack
from knowledge_gaps.training.phases import DISCRIMINATOR, GENERATOR, Fooling

Logged = dict[str, Tensor]  # scalars of all instances by name, [K] each


class BatchedStep:
    """Updates the networks of all instances once.

    Args:
        stack: whose weights are updated.
        fooling: with classifiers on the device.
        recipe: weights and intervals.
        autocast: makes the context of the recipe's precision.
    """

    def __init__(
        self,
        stack: GanStack,
        fooling: Fooling,
        recipe: GanRecipe,
        autocast: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self._stack, self._fooling = stack, fooling
        self._recipe, self._autocast = recipe, autocast

    def is_regularised(self, step: int) -> bool:
        """Tell whether a step has the lazy R1 phase."""
        return self._recipe.r1_gamma > 0 and step % self._recipe.r1_interval == 0

    def run(self, latents: Tensor, reals: Tensor) -> Logged:
        """Make a step without the R1 phase.

        Args:
            latents: float32 [K, N, latent_dim].
            reals: uint8 [K, N, C, H, W].
        """
        images_real, images_generated = to_float(reals), self._generate(latents)
        logged = self._update_discriminator(images_real, images_generated)
        return {**logged, **self._update_generator(images_generated)}

    def run_regularised(self, latents: Tensor, reals: Tensor) -> Logged:
        """Make a step with the R1 phase; arguments as of `run`."""
        images_real, images_generated = to_float(reals), self._generate(latents)
        logged = self._update_discriminator(images_real, images_generated)
        logged.update(self._regularise(images_real))
        return {**logged, **self._update_generator(images_generated)}

    def _generate(self, latents: Tensor) -> Tensor:
        with self._autocast():
            images = self._stack.generator(latents)
        return images.float()

    def _update_discriminator(self, images_real: Tensor, images_generated: Tensor) -> Logged:
        discriminator = self._stack.discriminator
        with self._autocast():
            losses = vmap(compute_discriminator_loss)(
                discriminator(images_real), discriminator(images_generated.detach())
            )
        self._update(DISCRIMINATOR, losses)
        return {"loss_discriminator": losses.detach()}

    def _regularise(self, images_real: Tensor) -> Logged:
        images_real = images_real.detach().requires_grad_(True)
        logits = self._stack.discriminator(images_real)
        # an instance's logits depend on no other's images: `losses.compute_r1_penalty` of each
        (gradient,) = torch.autograd.grad(logits.sum(), images_real, create_graph=True)
        penalties = gradient.square().sum(dim=(2, 3, 4)).mean(dim=1)
        weight = self._recipe.r1_gamma / 2 * self._recipe.r1_interval
        self._update(DISCRIMINATOR, weight * penalties)
        return {"r1_penalty": penalties.detach()}

    def _update_generator(self, images_generated: Tensor) -> Logged:
        fooling = self._fooling
        with self._autocast():
            adversarial = vmap(compute_adversarial_loss)(
                self._stack.discriminator(images_generated)
            )
            losses, logged = adversarial, {"loss_generator": adversarial.detach()}
            if fooling.classifiers:
                flat, shape = images_generated.flatten(0, 1), images_generated.shape[:2]
                logits = [network(flat).unflatten(0, shape) for network in fooling.classifiers]
                fooled = vmap(compute_fooling_loss)(logits)
                losses = weigh_generator_loss(adversarial, fooled, fooling.phi, fooling.form)
                logged["loss_fooling"] = fooled.detach()
        self._update(GENERATOR, losses)
        return logged

    def _update(self, name: str, losses: Tensor) -> None:
        self._stack.optimizers[name].update(losses, self._recipe.max_gradient_norm)
