"""Small StyleGAN2 networks for the tests of its parts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from knowledge_gaps.models.architectures.stylegan2.discriminator import StyleGan2Discriminator
from knowledge_gaps.models.architectures.stylegan2.generator import StyleGan2Generator
from knowledge_gaps.models.architectures.stylegan2.settings import StyleGan2Settings
from knowledge_gaps.models.registry import ImageShape

SMALL: dict[str, Any] = {
    "latent_dim": 6,
    "style_dim": 5,
    "mapping_layers": 2,
    "mapping_lr_multiplier": 0.1,
    "channel_base": 128,
    "max_channels": 8,
}
SHAPE = (3, 16, 16)


def make_settings(**changes: Any) -> StyleGan2Settings:
    """Make small settings, some of them changed."""
    return StyleGan2Settings(**{**SMALL, **changes})


def build_generator(shape: ImageShape = SHAPE, **changes: Any) -> StyleGan2Generator:
    """Build a small generator; its biases and noise strengths are not 0, unlike fresh ones."""
    torch.manual_seed(0)
    generator = StyleGan2Generator(make_settings(**changes), shape)
    _shake(generator)
    return generator


def build_discriminator(shape: ImageShape = SHAPE, **changes: Any) -> StyleGan2Discriminator:
    """Build a small discriminator; its biases are not 0, unlike fresh ones."""
    torch.manual_seed(1)
    discriminator = StyleGan2Discriminator(make_settings(**changes), shape)
    _shake(discriminator)
    return discriminator


def draw(*shape: int, seed: int = 7, dtype: torch.dtype = torch.float32) -> Tensor:
    """Draw standard normal numbers without touching the global ones."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@torch.no_grad()
def _shake(network: nn.Module) -> None:
    for name, parameter in network.named_parameters():
        if name.endswith(("bias", "noise_strength")):
            parameter.add_(torch.randn_like(parameter) * 0.3)
