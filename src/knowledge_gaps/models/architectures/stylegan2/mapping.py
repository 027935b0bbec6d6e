"""The mapping network: from latents z to styles w."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from knowledge_gaps.models.architectures.stylegan2.equalized import (
    ACTIVATION_GAIN,
    EqualizedLinear,
    activate,
)
from knowledge_gaps.models.architectures.stylegan2.settings import StyleGan2Settings

_EPSILON = 1e-8


class MappingNetwork(nn.Module):
    """A multilayer perceptron over normalised latents, with its own learning-rate multiplier.

    Source: Karras et al. 2019, section 2 and appendix C.
    """

    def __init__(self, settings: StyleGan2Settings) -> None:
        super().__init__()
        widths = [settings.latent_dim, *[settings.style_dim] * settings.mapping_layers]
        self.layers = nn.ModuleList(
            EqualizedLinear(num_inputs, num_outputs, lr_multiplier=settings.mapping_lr_multiplier)
            for num_inputs, num_outputs in pairwise(widths)
        )

    def forward(self, latents: Tensor) -> Tensor:
        """Return styles [N, style_dim] of latents [N, latent_dim]."""
        values = normalize(latents)
        for layer in self.layers:
            values = activate(layer(values, ACTIVATION_GAIN))
        return values


def normalize(latents: Tensor) -> Tensor:
    """Scale each latent [N, latent_dim] to a mean square of 1."""
    return latents * torch.rsqrt(latents.square().mean(dim=1, keepdim=True) + _EPSILON)
