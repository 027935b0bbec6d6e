"""The GAN loop against plain loops that share nothing with it but the numbers drawn.

The plain loops are written as a textbook would: binary cross-entropy on probabilities, Adam without
fusion, no Accelerator. After a few steps the weights must agree to float32's rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import nn

from knowledge_gaps.study import OptimizerSettings
from knowledge_gaps.training.batches import draw_latents, draw_reals
from knowledge_gaps.training.gan import Fooling
from training_tools import (
    STREAM,
    LinearStyles,
    SmallNetwork,
    make_classifier,
    make_gan_trainer,
    make_images,
)

STEPS = 6
BATCH = 12
ADAM = OptimizerSettings(learning_rate=1e-3, betas=(0.5, 0.999))
RECIPE = {"batch_size": BATCH, "generator_optimizer": ADAM, "discriminator_optimizer": ADAM}
# float32 rounding, amplified by Adam's division where a gradient is near 0; wrong signs, a missing
# term or a stale weight are off by the size of a whole step, 1e-3
ATOL = 2e-5


def compare(ours: Iterable[nn.Module], plain: Iterable[nn.Module]) -> None:
    for network, other in zip(ours, plain, strict=True):
        found, expected = network.state_dict(), other.state_dict()
        torch.testing.assert_close(found, expected, rtol=0, atol=ATOL)


def train_plainly(
    generator: nn.Module, discriminator: nn.Module, classifiers: list[Any], phi: float, form: str
) -> None:
    bce = nn.BCELoss()
    adam_g = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.5, 0.999))
    adam_d = torch.optim.Adam(discriminator.parameters(), lr=1e-3, betas=(0.5, 0.999))
    images = make_images()
    for step in range(STEPS):
        reals = draw_reals(STREAM, images, BATCH, step, 0).float() / 127.5 - 1
        generated = generator(draw_latents(STREAM, BATCH, 3, step, 0))
        ones, zeros = torch.ones(BATCH), torch.zeros(BATCH)
        loss_d = bce(torch.sigmoid(discriminator(reals)), ones)
        loss_d = loss_d + bce(torch.sigmoid(discriminator(generated.detach())), zeros)
        adam_d.zero_grad()
        loss_d.backward()
        adam_d.step()
        log_d = torch.log(torch.sigmoid(discriminator(generated))).mean()
        log_c = sum(torch.log(torch.sigmoid(c(generated))).mean() for c in classifiers)
        if form == "sum":
            loss_g = -(log_d + phi * log_c)
        else:
            loss_g = -(log_d / (1 + phi) + phi / (1 + phi) * log_c)
        adam_g.zero_grad()
        loss_g.backward()
        adam_g.step()


@pytest.mark.parametrize(
    ("num_classifiers", "phi", "form"),
    [(0, 0.0, "sum"), (1, 0.5, "sum"), (3, 0.5, "sum"), (1, 10.0, "weighted")],
    ids=["baseline", "memoryless", "multi-instance", "weighted"],
)
def test_gan_loop_equals_plain_loop(num_classifiers: int, phi: float, form: str) -> None:
    classifiers: list[Any] = [make_classifier(seed).eval() for seed in range(num_classifiers)]
    trainer = make_gan_trainer(Fooling(copy.deepcopy(classifiers), phi, form), **RECIPE)
    ours = list(trainer.modules.values())
    plain = copy.deepcopy(ours)
    for step in range(STEPS):
        trainer.run_step(step)
    train_plainly(*plain, classifiers, phi, form)
    compare(ours, plain)


def test_gradient_accumulation_equals_whole_batch() -> None:
    """Two micro-steps are one step of plain gradients, for D, for R1 and for G."""
    gamma, interval = 2.0, 2
    torch.manual_seed(4)
    networks = LinearStyles(), SmallNetwork()
    plain_generator, plain_discriminator = copy.deepcopy(networks)
    images = make_images()
    lazy = {"gradient_accumulation_steps": 2, "r1_gamma": gamma, "r1_interval": interval}
    trainer = make_gan_trainer(networks=networks, **RECIPE, **lazy)
    for step in range(STEPS):
        trainer.run_step(step)

    c = interval / (interval + 1)  # the correction of a lazily regularised optimiser
    adam_g = torch.optim.Adam(plain_generator.parameters(), lr=1e-3, betas=(0.5, 0.999))
    adam_d = torch.optim.Adam(
        plain_discriminator.parameters(), lr=1e-3 * c, betas=(0.5**c, 0.999**c)
    )
    softplus = nn.functional.softplus
    for step in range(STEPS):
        draws = [draw_reals(STREAM, images, BATCH, step, micro) for micro in range(2)]
        reals = (torch.cat(draws).float() / 127.5 - 1).requires_grad_(True)
        latents = torch.cat([draw_latents(STREAM, BATCH, 3, step, micro) for micro in range(2)])
        loss = softplus(-plain_discriminator(reals)).mean()
        loss = loss + softplus(plain_discriminator(plain_generator(latents).detach())).mean()
        adam_d.zero_grad()
        loss.backward()
        adam_d.step()
        if step % interval == 0:
            (slope,) = torch.autograd.grad(
                plain_discriminator(reals).sum(), reals, create_graph=True
            )
            penalty = gamma / 2 * interval * slope.flatten(1).square().sum(1).mean()
            adam_d.zero_grad()
            penalty.backward()
            adam_d.step()
        adam_g.zero_grad()
        softplus(-plain_discriminator(plain_generator(latents))).mean().backward()
        adam_g.step()
    compare(networks, (plain_generator, plain_discriminator))
