"""A plain PyTorch loop that trains a DCGAN, without anything of this project.

It is PyTorch's DCGAN example with the sizes of `settings/mnist_reduced.yaml` and that recipe's
lazy R1: separate backward passes for reals and generated images, the generated batch shared by
both updates, torch's default threads, float32.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

BATCH_SIZE = 64
LATENT_DIM = 64
CHANNELS = (32, 16)
LEARNING_RATE = 2e-3
BETAS = (0.5, 0.999)
R1_GAMMA = 3.0
R1_EVERY = 16
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
        self.project = nn.Linear(LATENT_DIM, CHANNELS[0] * 7 * 7, bias=False)
        self.layers = nn.Sequential(
            nn.Unflatten(1, (CHANNELS[0], 7, 7)),
            nn.BatchNorm2d(CHANNELS[0]),
            nn.ReLU(True),
            nn.ConvTranspose2d(CHANNELS[0], CHANNELS[1], 4, 2, 1, bias=False),
            nn.BatchNorm2d(CHANNELS[1]),
            nn.ReLU(True),
            nn.ConvTranspose2d(CHANNELS[1], 1, 4, 2, 1),
            nn.Tanh(),
        )
        self.apply(init_weights)

    def forward(self, latents: Tensor) -> Tensor:
        """Return images in [-1, 1]."""
        images: Tensor = self.layers(self.project(latents))
        return images


class Discriminator(nn.Module):
    """From images [N, 1, 28, 28] to logits [N]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, CHANNELS[1], 4, 2, 1),
            nn.LeakyReLU(0.2, True),
            nn.Conv2d(CHANNELS[1], CHANNELS[0], 4, 2, 1, bias=False),
            nn.BatchNorm2d(CHANNELS[0]),
            nn.LeakyReLU(0.2, True),
            nn.Flatten(),
        )
        self.head = nn.Linear(CHANNELS[0] * 7 * 7, 1)
        self.apply(init_weights)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, positive = real."""
        logits: Tensor = self.head(self.layers(images))
        return logits.squeeze(1)


class Training:
    """Both networks with their optimisers."""

    def __init__(self) -> None:
        self.generator, self.discriminator = Generator(), Discriminator()
        self.criterion = nn.BCEWithLogitsLoss()
        self.optimizer_g = torch.optim.Adam(
            self.generator.parameters(), lr=LEARNING_RATE, betas=BETAS
        )
        # the discriminator's is corrected for its lazy regulariser, as in StyleGAN2
        share = R1_EVERY / (R1_EVERY + 1)
        self.optimizer_d = torch.optim.Adam(
            self.discriminator.parameters(),
            lr=LEARNING_RATE * share,
            betas=(BETAS[0] ** share, BETAS[1] ** share),
        )

    def step(self, index: int, reals: Tensor, latents: Tensor) -> dict[str, Tensor]:
        """Update D on reals and generated images, by R1 every 16 steps, then G; return losses."""
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
        if index % R1_EVERY == 0:
            losses["r1_penalty"] = self.regularise(reals)
        netG.zero_grad()
        loss_g = self.criterion(netD(generated), labels.fill_(LABEL_REAL))
        loss_g.backward()
        self.optimizer_g.step()
        losses["loss_generator"] = loss_g.detach()
        return losses

    def regularise(self, reals: Tensor) -> Tensor:
        """Update D by R1; return the penalty."""
        self.discriminator.zero_grad()
        reals = reals.detach().requires_grad_(True)
        logits = self.discriminator(reals)
        (gradient,) = torch.autograd.grad(logits.sum(), reals, create_graph=True)
        penalty = gradient.square().sum(dim=(1, 2, 3)).mean()
        (R1_GAMMA / 2 * R1_EVERY * penalty).backward()
        self.optimizer_d.step()
        return penalty.detach()


def train(images: Tensor, steps: int) -> Generator:
    """Train a fresh DCGAN on images float32 [N, 1, 28, 28]."""
    training = Training()
    for index in range(steps):
        reals = images[torch.randint(len(images), (BATCH_SIZE,))]
        training.step(index, reals, torch.randn(BATCH_SIZE, LATENT_DIM))
    return training.generator
