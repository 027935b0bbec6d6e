"""StyleGAN2's networks against a textbook's with the same weights, in float64.

The textbook, which benchmarks compare with too, has the papers' own operations: weights modulated
for every sample, zeros inserted before a filter. The minibatch's standard deviation alone is taken
from the networks; `tests/unit/test_stylegan2.py` computes it by hand.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from baselines import textbook_stylegan2 as textbook
from knowledge_gaps.models.architectures.stylegan2.discriminator import StyleGan2Discriminator
from knowledge_gaps.models.architectures.stylegan2.generator import StyleGan2Generator
from knowledge_gaps.models.architectures.stylegan2.settings import StyleGan2Settings
from knowledge_gaps.models.registry import ImageShape

SETTINGS = StyleGan2Settings(
    latent_dim=7,
    style_dim=6,
    mapping_layers=3,
    channel_base=96,  # 8, 8, 6, 3 feature maps at 4, 8, 16, 32 px
    max_channels=8,
)


@torch.no_grad()
def shake(network: nn.Module) -> None:
    """Put every parameter off its start, in float64, but for the noise that stays 0."""
    for name, parameter in network.double().named_parameters():
        if not name.endswith("noise_strength"):
            parameter.add_(torch.randn_like(parameter) * 0.2)


@torch.no_grad()
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 16, 16)])
def test_networks_equal_the_textbooks(shape: ImageShape) -> None:
    torch.manual_seed(0)
    generator = StyleGan2Generator(SETTINGS, shape).eval()
    discriminator = StyleGan2Discriminator(SETTINGS, shape)
    shake(generator)
    shake(discriminator)
    num_styles = 2 * int(math.log2(shape[1])) - 2
    latents = torch.randn(5, 7, dtype=torch.float64)
    styles = textbook.map_latents(generator, latents)[:, None].expand(-1, num_styles, -1)
    torch.testing.assert_close(generator.map_latents(latents), styles, rtol=0, atol=1e-10)

    styles = torch.randn(3, num_styles, 6, dtype=torch.float64)  # another one for every layer
    expected = textbook.synthesize(generator, styles)
    assert expected.shape == (3, *shape)
    torch.testing.assert_close(generator.synthesize(styles), expected, rtol=0, atol=1e-10)

    images = torch.randn(8, *shape, dtype=torch.float64)
    expected = textbook.discriminate(discriminator, images)
    torch.testing.assert_close(discriminator(images), expected, rtol=0, atol=1e-10)
