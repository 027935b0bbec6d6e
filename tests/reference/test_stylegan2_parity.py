"""StyleGAN2's networks against a plain version that follows the papers' figures, sample by sample.

The plain version reads the weights and shares nothing else: the paper's form of the modulated
convolution (weights for every sample), zeros inserted before a filter, float64 throughout.
"""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knowledge_gaps.models.architectures.stylegan2.discriminator import StyleGan2Discriminator
from knowledge_gaps.models.architectures.stylegan2.generator import StyleGan2Generator
from knowledge_gaps.models.architectures.stylegan2.settings import StyleGan2Settings
from knowledge_gaps.models.registry import ImageShape

SETTINGS = StyleGan2Settings(
    latent_dim=7,
    style_dim=6,
    mapping_layers=3,
    mapping_lr_multiplier=0.05,
    channel_base=96,  # 8, 8, 6, 3 feature maps at 4, 8, 16, 32 px
    max_channels=8,
)
SHAPES = [(3, 32, 32), (1, 16, 16)]
TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64)
FIR = torch.outer(TAPS, TAPS) / 64

Weights = dict[str, Tensor]


def shake(network: nn.Module) -> Weights:
    """Put every parameter off its start, but for the noise that stays 0; return all, float64."""
    network.double()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if not name.endswith("noise_strength"):
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return {name: value.detach() for name, value in network.named_parameters()}


def lrelu(values: Tensor) -> Tensor:
    return math.sqrt(2) * torch.where(values > 0, values, 0.2 * values)


def filter_plane(maps: Tensor, padding: tuple[int, int, int, int]) -> Tensor:
    """Filter [C, H, W] after zero padding (left, right, top, bottom)."""
    padded = F.pad(maps, padding)
    height, width = padded.shape[1] - 3, padded.shape[2] - 3
    shifted = [
        FIR[i, j] * padded[:, i : i + height, j : j + width] for i in range(4) for j in range(4)
    ]
    return torch.stack(shifted).sum(dim=0)


def insert_zeros(maps: Tensor) -> Tensor:
    """Put a zero after every pixel of [C, H, W], along both axes."""
    return torch.kron(maps, torch.tensor([[[1.0, 0.0], [0.0, 0.0]]], dtype=maps.dtype))


def affine(weights: Weights, name: str, style: Tensor) -> Tensor:
    weight = weights[f"{name}.affine.weight"]
    return weight @ style / math.sqrt(len(style)) + weights[f"{name}.affine.bias"]


def convolve_styled(weights: Weights, name: str, maps: Tensor, style: Tensor, up: bool) -> Tensor:
    weight = weights[f"{name}.weight"] / math.sqrt(maps.shape[0] * 9)
    weight = weight * affine(weights, name, style)[:, None, None]
    weight = weight / (weight.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
    if up:  # a transposed convolution is one with the turned kernel over inserted zeros
        maps = F.conv2d(insert_zeros(maps)[None], weight.flip(2, 3), padding=2)[0]
        maps = 4 * filter_plane(maps[:, :-1, :-1], (1, 1, 1, 1))
    else:
        maps = F.conv2d(maps[None], weight, padding=1)[0]
    return lrelu(maps + weights[f"{name}.bias"][:, None, None])


def map_latent(weights: Weights, latent: Tensor) -> Tensor:
    style = latent / (latent.square().mean() + 1e-8).sqrt()
    for layer in range(SETTINGS.mapping_layers):
        weight, bias = (weights[f"mapping.layers.{layer}.{name}"] for name in ("weight", "bias"))
        style = lrelu(0.05 * (weight @ style / math.sqrt(len(style)) + bias))
    return style


def synthesize(weights: Weights, styles: Tensor) -> Tensor:
    """Return the image [C, H, W] of styles [L, W].

    Convolutions take one style after the other; the way to the image takes the next one, which the
    convolution above it then takes again.
    """
    maps, image = weights["synthesis.constant"], torch.zeros(())
    convs_done = 0
    for block in range(len(styles) // 2):
        name = f"synthesis.blocks.{block}"
        for conv in range(1 if block == 0 else 2):
            up = block > 0 and conv == 0
            style = styles[convs_done]
            maps = convolve_styled(weights, f"{name}.convs.{conv}", maps, style, up)
            convs_done += 1
        scales = affine(weights, f"{name}.to_image", styles[convs_done])
        to_image = weights[f"{name}.to_image.weight"] * scales
        part = torch.einsum("oi,ihw->ohw", to_image, maps) / math.sqrt(maps.shape[0])
        part = part + weights[f"{name}.to_image.bias"][:, None, None]
        if block > 0:
            part = part + 4 * filter_plane(insert_zeros(image), (2, 1, 2, 1))
        image = part
    return image


def convolve(weights: Weights, name: str, maps: Tensor) -> Tensor:
    weight = weights[f"{name}.weight"]
    bias = weights.get(f"{name}.bias", torch.zeros(len(weight), dtype=weight.dtype))
    scaled = weight / math.sqrt(weight[0].numel())
    return F.conv2d(maps[None], scaled, bias, padding=weight.shape[-1] // 2)[0]


def extract(weights: Weights, image: Tensor) -> Tensor:
    """Return the feature maps [C, 4, 4] that the residual blocks leave of an image."""
    maps = lrelu(convolve(weights, "from_image", image))
    for block in range(int(math.log2(image.shape[1])) - 2):
        name = f"blocks.{block}"
        skipped = convolve(weights, f"{name}.skip", filter_plane(maps, (1, 1, 1, 1))[:, ::2, ::2])
        maps = lrelu(convolve(weights, f"{name}.conv", maps))
        blurred = filter_plane(maps, (2, 2, 2, 2))
        # the strided convolution takes every other pixel, and needs no padding
        maps = lrelu(convolve(weights, f"{name}.conv_down", blurred)[:, 1:-1:2, 1:-1:2])
        maps = (maps + skipped) / math.sqrt(2)
    return maps


def judge(weights: Weights, images: Tensor) -> Tensor:
    maps = torch.stack([extract(weights, image) for image in images])
    deviation = (maps.var(dim=0, unbiased=False) + 1e-8).sqrt().mean()
    logits = []
    for image_maps in maps:
        channel = deviation.expand(1, 4, 4)
        features = lrelu(convolve(weights, "conv", torch.cat([image_maps, channel]))).flatten()
        for name in ("hidden", "head"):
            weight = weights[f"{name}.weight"]
            features = weight @ features / math.sqrt(weight.shape[1]) + weights[f"{name}.bias"]
            features = lrelu(features) if name == "hidden" else features
        logits.append(features[0])
    return torch.stack(logits)


@pytest.mark.parametrize("shape", SHAPES)
def test_networks_equal_the_plain_version(shape: ImageShape) -> None:
    torch.manual_seed(0)
    generator = StyleGan2Generator(SETTINGS, shape).eval()
    discriminator = StyleGan2Discriminator(SETTINGS, shape)
    weights = shake(generator)
    latents = torch.randn(5, 7, dtype=torch.float64)
    styles = generator.map_latents(latents).detach()
    num_styles = 2 * int(math.log2(shape[1])) - 2
    assert styles.shape == (5, num_styles, 6)
    expected = torch.stack([map_latent(weights, latent) for latent in latents])
    for layer_styles in styles.unbind(dim=1):
        torch.testing.assert_close(layer_styles, expected, rtol=0, atol=1e-10)

    styles = torch.randn(3, num_styles, 6, dtype=torch.float64)
    expected = torch.stack([synthesize(weights, image_styles) for image_styles in styles])
    assert expected.shape == (3, *shape)
    images = generator.synthesize(styles).detach()
    torch.testing.assert_close(images, expected, rtol=0, atol=1e-10)

    weights, images = shake(discriminator), torch.randn(4, *shape, dtype=torch.float64)
    logits = discriminator(images).detach()
    torch.testing.assert_close(logits, judge(weights, images), rtol=0, atol=1e-10)
