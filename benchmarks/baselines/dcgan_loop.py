"""A plain PyTorch loop that trains a DCGAN, without anything of this project.

It is PyTorch's DCGAN example with the sizes, the output and the schedule of
`settings/mnist_reduced.yaml`: separate backward passes for reals and generated images, the
generated batch shared by both updates, torch's default threads, float32.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

BATCH_SIZE = 64
LATENT_DIM = 64
CHANNELS_G = (32, 16)
CHANNELS_D = (8, 16)
OVERSHOOT = 1.1
LEARNING_RATE = 5e-4
BETAS = (0.5, 0.999)
LABEL_REAL, LABEL_GENERATED = 1.0, 0.0


def init_weights(module: nn.Module) -> None:
    """Draw the weights as the example does."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


class Generator(nn.Module):
    """From latents [N, 64] to images [N, 1, 28, 28]."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(LATENT_DIM, CHANNELS_G[0] * 7 * 7, bias=False)
        self.layers = nn.Sequential(
            nn.Unflatten(1, (CHANNELS_G[0], 7, 7)),
            nn.BatchNorm2d(CHANNELS_G[0]),
            nn.ReLU(True),
            nn.ConvTranspose2d(CHANNELS_G[0], CHANNELS_G[1], 4, 2, 1, bias=False),
            nn.BatchNorm2d(CHANNELS_G[1]),
            nn.ReLU(True),
            nn.ConvTranspose2d(CHANNELS_G[1], 1, 4, 2, 1),
            nn.Tanh(),
        )
        self.apply(init_weights)

    def forward(self, latents: Tensor) -> Tensor:
        """Return images in [-1, 1]."""
        images: Tensor = self.layers(self.project(latents))
        return (OVERSHOOT * images).clamp(-1, 1)


class Discriminator(nn.Module):
    """From images [N, 1, 28, 28] to logits [N]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, CHANNELS_D[0], 4, 2, 1),
            nn.LeakyReLU(0.2, True),
            nn.Conv2d(CHANNELS_D[0], CHANNELS_D[1], 4, 2, 1, bias=False),
            nn.BatchNorm2d(CHANNELS_D[1]),
            nn.LeakyReLU(0.2, True),
            nn.Flatten(),
        )
        self.head = nn.Linear(CHANNELS_D[1] * 7 * 7, 1)
        self.apply(init_weights)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, positive = real."""
        logits: Tensor = self.head(self.layers(images))
        return logits.squeeze(1)


class Training:
    """Both networks with their optimisers."""

    def __init__(self, steps: int) -> None:
        self.generator, self.discriminator = Generator(), Discriminator()
        self.criterion = nn.BCEWithLogitsLoss()
        networks = self.generator, self.discriminator
        self.optimizer_g, self.optimizer_d = (
            torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, betas=BETAS)
            for network in networks
        )
        self.schedules = [
            torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, 2 - 2 * step / steps))
            for optimizer in (self.optimizer_g, self.optimizer_d)
        ]

    def step(self, reals: Tensor, latents: Tensor) -> dict[str, Tensor]:
        """Update D on reals and generated images, then G; return losses."""
        netG, netD, losses = self.generator, self.discriminator, {}
        labels = torch.full((len(reals),), LABEL_REAL)
        netD.zero_grad()
        loss_real = self.criterion(netD(reals), labels)
        loss_real.backward()
        generated = netG(latents)
        loss_generated = self.criterion(netD(generated.detach()), labels.fill_(LABEL_GENERATED))
        loss_generated.backward()
        self.optimizer_d.step()
        losses["loss_discriminator"] = (loss_real + loss_generated).detach()
        netG.zero_grad()
        loss_g = self.criterion(netD(generated), labels.fill_(LABEL_REAL))
        loss_g.backward()
        self.optimizer_g.step()
        losses["loss_generator"] = loss_g.detach()
        for schedule in self.schedules:
            schedule.step()
        return losses


def train(images: Tensor, steps: int) -> Generator:
    """Train a fresh DCGAN on images float32 [N, 1, 28, 28]."""
    training = Training(steps)
    for _ in range(steps):
        reals = images[torch.randint(len(images), (BATCH_SIZE,))]
        training.step(reals, torch.randn(BATCH_SIZE, LATENT_DIM))
    return training.generator
