"""A textbook training step of StyleGAN2: what a careful person writes from the papers.

The networks and their weights are this project's, so both compute the same function; the operations
are the papers' own: weights modulated for every sample and convolved with one group a sample,
filters by zero insertion, padding and a depthwise convolution, a gain after every activation, and a
generator pass for each of the two networks. `benchmarks/stylegan2.py`
compares with it.
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knowledge_gaps.data.images import to_float
from knowledge_gaps.losses import (
    compute_adversarial_loss,
    compute_discriminator_loss,
    compute_path_length_penalty,
    compute_path_lengths,
    compute_r1_penalty,
)
from knowledge_gaps.models.architectures.stylegan2.discriminator import (
    ResidualBlock,
    StyleGan2Discriminator,
    append_deviation,
)
from knowledge_gaps.models.architectures.stylegan2.generator import (
    StyleGan2Generator,
    SynthesisBlock,
)
from knowledge_gaps.models.architectures.stylegan2.layers import (
    EqualizedConv,
    EqualizedLinear,
    StyledConv,
    ToImage,
)
from knowledge_gaps.study import GanRecipe

_EPSILON = 1e-8
_GROUP_SIZE = 4  # of the minibatch standard deviation
_MIXING = 0.9  # probability of style mixing
_SQRT_2 = math.sqrt(2)

# ------------------------------------------------------------------------------------------- layers


def apply_linear(layer: EqualizedLinear, inputs: Tensor, lr_multiplier: float = 1.0) -> Tensor:
    """Return W x + b with equalised rates, [N, num_outputs]."""
    scale = lr_multiplier / math.sqrt(layer.weight.shape[1])
    return F.linear(inputs, layer.weight * scale, layer.bias * lr_multiplier)


def apply_conv(layer: EqualizedConv, maps: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    """Return a convolution with equalised rates."""
    weight = layer.weight / math.sqrt(layer.weight[0].numel())
    return F.conv2d(maps, weight, layer.bias, stride, padding)


def activate(values: Tensor) -> Tensor:
    """Apply the leaky ReLU and its gain."""
    return F.leaky_relu(values, 0.2) * _SQRT_2


def filter_maps(maps: Tensor, padding: int, stride: int = 1, gain: float = 1.0) -> Tensor:
    """Filter every channel by [1, 3, 3, 1] along both axes."""
    num_channels = maps.shape[1]
    taps = torch.tensor((1.0, 3.0, 3.0, 1.0)).to(maps)
    kernel = (torch.outer(taps, taps) * (gain / 64)).expand(num_channels, 1, 4, 4)
    return F.conv2d(F.pad(maps, (padding,) * 4), kernel, stride=stride, groups=num_channels)


def upsample(maps: Tensor) -> Tensor:
    """Double the resolution: zeros between the pixels, then the filter."""
    spread = maps.new_zeros(*maps.shape[:2], 2 * maps.shape[2], 2 * maps.shape[3])
    spread[:, :, ::2, ::2] = maps
    return filter_maps(F.pad(spread, (1, 0, 1, 0)), padding=1, gain=4.0)


def modulate(layer: StyledConv | ToImage, weight: Tensor, style: Tensor) -> Tensor:
    """Return the weights of every sample, [N, channels_out, channels_in, k, k] (eq. 1)."""
    scaled = weight / math.sqrt(weight[0].numel())
    return scaled[None] * apply_linear(layer.affine, style)[:, None, :, None, None]


def convolve_groups(maps: Tensor, weights: Tensor, is_up: bool = False) -> Tensor:
    """Convolve every sample with its own weights, as one group each."""
    num_images, channels_out, channels_in, kernel_px, _ = weights.shape
    grouped = maps.reshape(1, num_images * channels_in, *maps.shape[2:])
    if is_up:
        flat = weights.transpose(1, 2).reshape(-1, channels_out, kernel_px, kernel_px)
        grouped = F.conv_transpose2d(grouped, flat, stride=2, groups=num_images)
    else:
        flat = weights.reshape(-1, channels_in, kernel_px, kernel_px)
        grouped = F.conv2d(grouped, flat, padding=kernel_px // 2, groups=num_images)
    return grouped.reshape(num_images, channels_out, *grouped.shape[2:])


def apply_styled_conv(layer: StyledConv, maps: Tensor, style: Tensor) -> Tensor:
    """Modulate, demodulate (eq. 3), convolve, add noise and bias, activate."""
    weights = modulate(layer, layer.weight, style)
    weights = weights * torch.rsqrt(weights.square().sum((2, 3, 4), keepdim=True) + _EPSILON)
    maps = convolve_groups(maps, weights, layer.is_up)
    if layer.is_up:
        maps = filter_maps(maps, padding=1, gain=4.0)
    assert layer.noise_strength is not None
    noise = torch.randn(len(maps), 1, *maps.shape[2:], device=maps.device)
    return activate(maps + layer.noise_strength * noise + layer.bias[:, None, None])


def apply_to_image(layer: ToImage, maps: Tensor, style: Tensor) -> Tensor:
    """Modulate a 1x1 convolution to the image's channels."""
    weights = modulate(layer, layer.weight[:, :, None, None], style)
    return convolve_groups(maps, weights) + layer.bias[:, None, None]


# ----------------------------------------------------------------------------------------- networks


def map_latents(generator: StyleGan2Generator, latents: Tensor) -> Tensor:
    """Return styles [N, style_dim]."""
    values = latents * torch.rsqrt(latents.square().mean(1, keepdim=True) + _EPSILON)
    for layer in generator.mapping.layers:
        assert isinstance(layer, EqualizedLinear)
        values = activate(apply_linear(layer, values, lr_multiplier=0.01))
    return values


def mix_styles(generator: StyleGan2Generator, latents: Tensor) -> Tensor:
    """Return styles by layer, [N, L, style_dim], those of some images mixed with another's."""
    num_styles = generator.synthesis.num_styles
    styles = map_latents(generator, latents)
    with torch.no_grad():
        generator.style_average.lerp_(styles.mean(0), 0.005)
    others = map_latents(generator, torch.randn_like(latents))
    crossover = torch.randint(1, num_styles, (len(latents), 1), device=latents.device)
    is_kept = torch.rand(len(latents), 1, device=latents.device) >= _MIXING
    is_coarse = (torch.arange(num_styles, device=latents.device) < crossover) | is_kept
    return torch.where(is_coarse[:, :, None], styles[:, None], others[:, None])


def synthesize(generator: StyleGan2Generator, styles: Tensor) -> Tensor:
    """Return images [N, C, H, W] of styles [N, L, style_dim]."""
    network = generator.synthesis
    maps = network.constant.expand(len(styles), -1, -1, -1)
    image: Tensor | None = None
    for index, block in enumerate(network.blocks):
        assert isinstance(block, SynthesisBlock)
        first = max(2 * index - 1, 0)
        for offset, layer in enumerate(block.convs):
            assert isinstance(layer, StyledConv)
            maps = apply_styled_conv(layer, maps, styles[:, first + offset])
        part = apply_to_image(block.to_image, maps, styles[:, 2 * index + 1])
        image = part if image is None else upsample(image) + part
    assert image is not None
    return image


def discriminate(discriminator: StyleGan2Discriminator, images: Tensor) -> Tensor:
    """Return logits [N]."""
    maps = activate(apply_conv(discriminator.from_image, images))
    for block in discriminator.blocks:
        assert isinstance(block, ResidualBlock)
        maps = apply_residual_block(block, maps)
    maps = append_deviation(maps, _GROUP_SIZE)
    maps = activate(apply_conv(discriminator.conv, maps, padding=1))
    features = activate(apply_linear(discriminator.hidden, maps.flatten(1)))
    return apply_linear(discriminator.head, features).squeeze(1)


def apply_residual_block(block: ResidualBlock, maps: Tensor) -> Tensor:
    """Halve the resolution, twice over."""
    skipped = apply_conv(block.skip, filter_maps(maps, padding=1, stride=2))
    maps = activate(apply_conv(block.conv, maps, padding=1))
    maps = activate(apply_conv(block.conv_down, filter_maps(maps, padding=2), stride=2))
    return (skipped + maps) / _SQRT_2


# --------------------------------------------------------------------------------------------- step


class TextbookTrainer:
    """A generator and a discriminator in training, one loss after the other.

    Args:
        generator: freshly initialised, on its device.
        discriminator: likewise.
        images: the reals, uint8 [N, C, H, W], on the CPU.
        recipe: batch size, rates, intervals.
    """

    def __init__(
        self,
        generator: StyleGan2Generator,
        discriminator: StyleGan2Discriminator,
        images: Tensor,
        recipe: GanRecipe,
    ) -> None:
        self.generator, self.discriminator = generator, discriminator
        self._images, self._recipe = images, recipe
        self._average = copy.deepcopy(generator).requires_grad_(False)
        rate, betas = recipe.generator_optimizer.learning_rate, recipe.generator_optimizer.betas
        self._adam_g = torch.optim.Adam(generator.parameters(), rate, betas)
        self._adam_d = torch.optim.Adam(discriminator.parameters(), rate, betas)
        self._path_length = torch.zeros((), device=generator.style_average.device)

    def run_step(self, step: int) -> None:
        """Update both networks once, and each by its regulariser where it is due."""
        recipe, size = self._recipe, self._recipe.batch_size
        reals = self._draw_reals(size)
        self.discriminator.requires_grad_(True)
        with torch.no_grad():
            generated = self._generate(size)
        logits = (discriminate(self.discriminator, images) for images in (reals, generated))
        self._update(self._adam_d, compute_discriminator_loss(*logits))
        if step % recipe.r1_interval == 0:
            reals.requires_grad_(True)
            penalty = compute_r1_penalty(reals, discriminate(self.discriminator, reals))
            self._update(self._adam_d, penalty * (recipe.r1_gamma / 2 * recipe.r1_interval))
        self.discriminator.requires_grad_(False)
        generated = self._generate(size)
        loss = compute_adversarial_loss(discriminate(self.discriminator, generated))
        self._update(self._adam_g, loss)
        if step % recipe.path_length_interval == 0:
            self._update(self._adam_g, self._penalise_paths(size // recipe.path_length_shrink))
        for average, value in zip(
            self._average.parameters(), self.generator.parameters(), strict=True
        ):
            average.lerp_(value.detach(), 0.002)

    def _generate(self, num_images: int) -> Tensor:
        return synthesize(
            self.generator, mix_styles(self.generator, self._draw_latents(num_images))
        )

    def _penalise_paths(self, num_images: int) -> Tensor:
        styles = mix_styles(self.generator, self._draw_latents(num_images))
        images = synthesize(self.generator, styles)
        lengths = compute_path_lengths(images, styles, torch.randn_like(images))
        self._path_length = self._path_length.lerp(lengths.detach().mean(), 0.01)
        weight = self._recipe.path_length_weight * self._recipe.path_length_interval
        return weight * compute_path_length_penalty(lengths, self._path_length)

    def _draw_latents(self, num_images: int) -> Tensor:
        latents = torch.randn(num_images, self.generator.latent_dim)
        return latents.to(self._path_length.device)

    def _draw_reals(self, num_images: int) -> Tensor:
        chosen = torch.randint(len(self._images), (num_images,))
        return to_float(self._images[chosen].to(self._path_length.device))

    def _update(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def check_same_function(generator: StyleGan2Generator, discriminator: nn.Module) -> None:
    """Check that the textbook's networks compute what this project's do, with the same weights.

    Raises:
        AssertionError: when they do not.
    """
    latents = torch.randn(4, generator.latent_dim, device=generator.style_average.device)
    assert isinstance(discriminator, StyleGan2Discriminator)
    with torch.no_grad():
        styles = map_latents(generator, latents)[:, None]
        images = synthesize(generator, styles.expand(-1, generator.synthesis.num_styles, -1))
        generator.eval()  # noise has no strength in a fresh network
        torch.testing.assert_close(images, generator(latents), rtol=1e-3, atol=1e-3)
        logits = discriminate(discriminator, images)
        torch.testing.assert_close(logits, discriminator(images), rtol=1e-3, atol=1e-3)
    generator.train()
