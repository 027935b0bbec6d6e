"""The two loops against plain loops that share nothing with them but the numbers drawn.

The plain loops are written as a textbook would: binary cross-entropy on probabilities, Adam without
fusion, no Accelerator. After a few steps the weights must agree to float32's rounding.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from knowledge_gaps.data.store import ImageStore, hold_images
from knowledge_gaps.models.architectures.cnn import Cnn, CnnSettings, make_input_spec
from knowledge_gaps.models.architectures.dcgan import (
    DcganDiscriminator,
    DcganGenerator,
    DcganSettings,
)
from knowledge_gaps.models.input_spec import GanClassifier
from knowledge_gaps.models.registry import Generator
from knowledge_gaps.study import ClassifierRecipe, GanRecipe, OptimizerSettings
from knowledge_gaps.training.batches import Stream, draw_latents, draw_reals, split_evenly
from knowledge_gaps.training.classifier import ClassifierTrainer
from knowledge_gaps.training.gan import Fooling, GanTrainer
from knowledge_gaps.training.ranks import build_accelerator

SHAPE = (1, 28, 28)
STEPS = 6
BATCH = 12
STREAM = Stream(seed=3, cohort="gans/parity", instance=1)
ADAM = OptimizerSettings(learning_rate=1e-3, betas=(0.5, 0.999))
# float32 rounding, amplified by Adam's division where a gradient is near 0; wrong signs, a missing
# term or a stale weight are off by the size of a whole step, 1e-3
ATOL = 2e-5


def make_images() -> ImageStore:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (64, *SHAPE), dtype=torch.uint8, generator=generator)
    return hold_images(images.numpy())


def make_gan() -> tuple[DcganGenerator, DcganDiscriminator]:
    torch.manual_seed(1)
    settings = DcganSettings(latent_dim=8, channels=[8, 4])
    return DcganGenerator(settings, SHAPE), DcganDiscriminator(settings, SHAPE)


def make_classifiers(number: int) -> list[GanClassifier]:
    torch.manual_seed(2)
    settings = CnnSettings(channels=[4, 8])
    spec = make_input_spec(settings, SHAPE)
    return [GanClassifier(Cnn(settings, SHAPE), spec).eval() for _ in range(number)]


class SmallGenerator(Generator):
    """Without batch statistics, so that two half batches are one whole."""

    latent_dim = 8

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 784), nn.Tanh(), nn.Unflatten(1, SHAPE))

    def forward(self, latents: Tensor) -> Tensor:
        images: Tensor = self.layers(latents)
        return images


class SmallDiscriminator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.Tanh(), nn.Linear(16, 1))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images)
        return logits.squeeze(1)


def train_plainly(
    generator: nn.Module,
    discriminator: nn.Module,
    classifiers: list[GanClassifier],
    phi: float,
    form: str,
) -> None:
    bce = nn.BCELoss()
    adam_g = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.5, 0.999))
    adam_d = torch.optim.Adam(discriminator.parameters(), lr=1e-3, betas=(0.5, 0.999))
    images = make_images()
    for step in range(STEPS):
        reals = draw_reals(STREAM, images, BATCH, step, 0).float() / 127.5 - 1
        generated = generator(draw_latents(STREAM, BATCH, 8, step, 0))
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
    generator, discriminator = make_gan()
    plain_generator, plain_discriminator = copy.deepcopy((generator, discriminator))
    classifiers = make_classifiers(num_classifiers)
    recipe = GanRecipe(
        architecture="dcgan",
        steps=STEPS,
        batch_size=BATCH,
        generator_optimizer=ADAM,
        discriminator_optimizer=ADAM,
    )
    trainer = GanTrainer(
        generator,
        discriminator,
        Fooling(copy.deepcopy(classifiers), phi, form),
        make_images(),
        recipe,
        STREAM,
        build_accelerator(0),
    )
    for step in range(STEPS):
        trainer.run_step(step)
    train_plainly(plain_generator, plain_discriminator, classifiers, phi, form)
    for ours, plain in ((generator, plain_generator), (discriminator, plain_discriminator)):
        for name, value in plain.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], value, rtol=0, atol=ATOL)


def test_classifier_loop_equals_plain_loop() -> None:
    generators = [make_gan()[0].eval() for _ in range(2)]
    (classifier,) = make_classifiers(1)
    plain = copy.deepcopy(classifier).train()
    recipe = ClassifierRecipe(architecture="cnn", steps=STEPS, batch_size=BATCH, optimizer=ADAM)
    images = make_images()
    trainer = ClassifierTrainer(
        classifier,
        copy.deepcopy(generators),
        1.0,
        images,
        recipe,
        STREAM,
        build_accelerator(0),
    )
    for step in range(STEPS):
        trainer.run_step(step)
    adam = torch.optim.Adam(plain.parameters(), lr=1e-3, betas=(0.5, 0.999))
    for step in range(STEPS):
        reals = draw_reals(STREAM, images, BATCH, step, 0).float() / 127.5 - 1
        generated = []
        for index, count in enumerate(split_evenly(BATCH, 2, step)):
            latents = draw_latents(STREAM, count, 8, step, 0, index)
            with torch.no_grad():
                levels = ((generators[index](latents) + 1) * 127.5).round().clamp(0, 255)
            generated.append(levels / 127.5 - 1)
        labels = torch.cat([torch.ones(BATCH), torch.zeros(BATCH)])
        probability = torch.sigmoid(plain(torch.cat([reals, *generated])))
        loss = nn.functional.binary_cross_entropy(probability, labels)
        adam.zero_grad()
        loss.backward()
        adam.step()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(classifier.state_dict()[name], value, rtol=0, atol=ATOL)


def test_gradient_accumulation_equals_whole_batch() -> None:
    """Two micro-steps are one step of plain gradients, for D, for R1 and for G."""
    gamma, interval = 2.0, 2
    recipe = GanRecipe(
        architecture="none",
        steps=STEPS,
        batch_size=BATCH,
        gradient_accumulation_steps=2,
        r1_gamma=gamma,
        r1_interval=interval,
        generator_optimizer=ADAM,
        discriminator_optimizer=ADAM,
    )
    torch.manual_seed(4)
    generator, discriminator = SmallGenerator(), SmallDiscriminator()
    plain_generator, plain_discriminator = copy.deepcopy((generator, discriminator))
    images = make_images()
    fooling = Fooling([], 0.0, "sum")
    trainer = GanTrainer(
        generator, discriminator, fooling, images, recipe, STREAM, build_accelerator(0, "no", 2)
    )
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
        latents = torch.cat([draw_latents(STREAM, BATCH, 8, step, micro) for micro in range(2)])
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
    for ours, plain in ((generator, plain_generator), (discriminator, plain_discriminator)):
        for name, value in plain.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], value, rtol=0, atol=ATOL)
