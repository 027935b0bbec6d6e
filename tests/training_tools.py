"""What tests of trainings share: tiny reals, networks, trainers, and a session that stops them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from knowledge_gaps.core.instance import Instance
from knowledge_gaps.data.store import Images
from knowledge_gaps.models.input_spec import GanClassifier
from knowledge_gaps.models.networks import build_classifier, build_discriminator, build_generator
from knowledge_gaps.models.registry import Generator, StyleGenerator
from knowledge_gaps.study import ClassifierRecipe, GanRecipe, OptimizerSettings
from knowledge_gaps.training.batches import Stream
from knowledge_gaps.training.classifier import ClassifierTrainer
from knowledge_gaps.training.gan import Fooling, GanTrainer
from knowledge_gaps.training.state import Curves, collect_state
from knowledge_gaps.training.task import Row
from knowledge_gaps.training.task import Session as QuietSession
from knowledge_gaps.training.trainer import Trainer

SHAPE = (1, 8, 8)
BATCH = 6
ADAM = OptimizerSettings(learning_rate=1e-2, betas=(0.5, 0.999))
STREAM = Stream(0, "gans/test", Instance(0, 0))
NO_FOOLING = Fooling([], 0.0, "sum")
DCGAN = {"latent_dim": 3, "channels": [6]}


class Session(QuietSession):
    """Asks for a stop before a step, or never, and keeps what it is told."""

    def __init__(self, stop_before: int | None = None) -> None:
        self.reports: list[tuple[int, Row | None]] = []
        super().__init__(lambda: self.reports[-1][0] == stop_before)

    def report(self, step: int, row: Row | None) -> None:
        self.reports.append((step, row))


class LinearStyles(StyleGenerator):
    """Two layers of styles, the latents times a scale; images are a linear map of both."""

    latent_dim = 3

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.to_pixels = nn.Linear(6, 64, bias=False)
        self.register_buffer("style_average", torch.zeros(3))

    def map_latents(self, latents: Tensor) -> Tensor:
        return (self.scale * latents)[:, None].expand(-1, 2, -1)

    def synthesize(self, styles: Tensor) -> Tensor:
        images: Tensor = self.to_pixels(styles.flatten(1)).view(-1, *SHAPE)
        return images


class SmallNetwork(nn.Module):
    """One logit an image; without batch statistics, so that two half batches are one whole."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images)
        return logits.squeeze(1)


def make_images(shape: tuple[int, int, int] = SHAPE, lowest: int = 128) -> Images:
    """Draw 40 reals, bright ones unless asked for others."""
    generator = torch.Generator().manual_seed(0)
    size = (40, *shape)
    return torch.randint(lowest, 256, size, dtype=torch.uint8, generator=generator).numpy()


def make_generator(seed: int = 0) -> Generator:
    torch.manual_seed(seed)
    return build_generator("dcgan", DCGAN, SHAPE)


def make_classifier(seed: int = 0) -> GanClassifier:
    """Make a CNN whose running statistics have seen images."""
    torch.manual_seed(seed)
    classifier = build_classifier("cnn", {"channels": [4]}, SHAPE)
    classifier(torch.randn(16, *SHAPE))
    return classifier


def make_gan_trainer(
    fooling: Fooling = NO_FOOLING,
    networks: tuple[Generator, nn.Module] | None = None,
    images: Images | None = None,
    **keys: Any,
) -> GanTrainer:
    """Make a GAN's trainer, of a small DCGAN unless asked for others; keys are its recipe's."""
    usual = {"architecture": "dcgan", "steps": 9, "batch_size": BATCH, "generator_optimizer": ADAM}
    recipe = GanRecipe.model_validate({**usual, "discriminator_optimizer": ADAM, **keys})
    if networks is None:
        networks = make_generator(), build_discriminator("dcgan", DCGAN, SHAPE)
    return GanTrainer(
        *networks, fooling, make_images() if images is None else images, recipe, STREAM
    )


def make_classifier_trainer(
    generators: Sequence[Generator] = (),
    network: nn.Module | None = None,
    truncation: float = 1.0,
    images_dev: Images | None = None,
    **keys: Any,
) -> ClassifierTrainer:
    """Make a classifier's trainer, of a small CNN against two generators unless asked for others.

    The CNN's InputSpec leaves images as they are.
    """
    usual = {"architecture": "cnn", "steps": 9, "batch_size": BATCH, "optimizer": ADAM}
    recipe = ClassifierRecipe.model_validate({**usual, **keys})
    classifier = make_classifier(9)
    return ClassifierTrainer(
        classifier if network is None else GanClassifier(network, classifier.spec),
        generators or [make_generator(seed) for seed in range(2)],
        truncation,
        make_images(),
        recipe,
        STREAM,
        images_dev=images_dev,
    )


def clone_state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def collect(trainer: Trainer) -> dict[str, Tensor]:
    """Copy weights, buffers, optimiser states and scalars."""
    return {name: value.clone() for name, value in collect_state(trainer, Curves()).items()}


def are_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)
