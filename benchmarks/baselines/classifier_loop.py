"""A plain PyTorch loop that trains a GAN-classifier, without this project.

Reals against samples of frozen generators, with the sizes of `settings/mnist_reduced.yaml`:
generated images are rounded to 256 levels as stored ones are, and the learning rate falls along a
cosine. torch's default threads, float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from baselines.dcgan_loop import LATENT_DIM, Generator

BATCH_SIZE = 64  # reals, and as many generated images
CHANNELS = (16, 32)
LEARNING_RATE = 2e-3
BETAS = (0.9, 0.999)


class Classifier(nn.Module):
    """From images [N, 1, 28, 28] to logits [N], positive = real."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, CHANNELS[0], 3, 2, 1, bias=False),
            nn.BatchNorm2d(CHANNELS[0]),
            nn.ReLU(True),
            nn.Conv2d(CHANNELS[0], CHANNELS[1], 3, 2, 1, bias=False),
            nn.BatchNorm2d(CHANNELS[1]),
            nn.ReLU(True),
            nn.Flatten(),
        )
        self.head = nn.Linear(CHANNELS[1] * 7 * 7, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.head(self.layers(images))
        return logits.squeeze(1)


@torch.no_grad()
def sample(generators: Sequence[Generator], latents: Tensor) -> Tensor:
    """Let the generators share latents evenly; round their images to the levels of stored ones."""
    shares = latents.tensor_split(len(generators))
    images = torch.cat([network(part) for network, part in zip(generators, shares, strict=True)])
    return ((images + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1


class Training:
    """A classifier with its optimiser and schedule."""

    def __init__(self, steps: int) -> None:
        self.classifier = Classifier()
        self.criterion = nn.BCEWithLogitsLoss()
        self.labels = torch.cat([torch.ones(BATCH_SIZE), torch.zeros(BATCH_SIZE)])
        self.optimizer = torch.optim.Adam(
            self.classifier.parameters(), lr=LEARNING_RATE, betas=BETAS
        )
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, steps)

    def step(self, images: Tensor) -> Tensor:
        """Update on 64 reals and 64 generated images, float32 [128, 1, 28, 28]; return the loss."""
        self.optimizer.zero_grad()
        loss = self.criterion(self.classifier(images), self.labels)
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        detached: Tensor = loss.detach()
        return detached


def train(images: Tensor, generators: Sequence[Generator], steps: int) -> Classifier:
    """Train a fresh classifier on images float32 [N, 1, 28, 28]."""
    training = Training(steps)
    for _ in range(steps):
        reals = images[torch.randint(len(images), (BATCH_SIZE,))]
        generated = sample(generators, torch.randn(BATCH_SIZE, LATENT_DIM))
        training.step(torch.cat([reals, generated]))
    return training.classifier


def load_generator(path: Path) -> Generator:
    """Load a frozen generator."""
    generator = Generator()
    generator.load_state_dict(load_file(path))
    return generator.eval()
