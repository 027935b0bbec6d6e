"""StyleGAN2: sizes, mixing, average and truncation, noise, deviation, gradients, half precision.

`tests/reference/test_stylegan2_parity.py` compares what it computes with a plain version.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.losses import (
    compute_path_length_penalty,
    compute_path_lengths,
    compute_r1_penalty,
)
from knowledge_gaps.models import networks
from knowledge_gaps.models.architectures.stylegan2 import layers
from knowledge_gaps.models.architectures.stylegan2.discriminator import append_deviation
from knowledge_gaps.models.architectures.stylegan2.settings import StyleGan2Settings, plan_stages
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


@torch.no_grad()
def shake(network: nn.Module, noise: float | None = None) -> nn.Module:
    for name, parameter in network.named_parameters():
        if name.endswith("noise_strength") and noise is not None:
            parameter.fill_(noise)
        elif name.endswith(("bias", "noise_strength")):
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return network


def build_generator(shape: ImageShape = SHAPE, noise: float | None = None, **changes: Any) -> Any:
    """Build a small generator off its start: biases, and strengths of its noise unless given."""
    torch.manual_seed(0)
    generator = networks.build_generator("stylegan2", {**SMALL, **changes}, shape)
    return shake(generator, noise)


def build_discriminator(shape: ImageShape = SHAPE, **changes: Any) -> Any:
    """Build a small discriminator; its biases are not 0, unlike fresh ones."""
    torch.manual_seed(1)
    return shake(networks.build_discriminator("stylegan2", {**SMALL, **changes}, shape))


def draw(*shape: int, seed: int = 7, dtype: torch.dtype = torch.float32) -> Tensor:
    """Draw standard normal numbers without touching the global ones."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# --- sizes


def test_widths_halve_with_the_resolution_up_to_the_limit() -> None:
    stages = plan_stages(StyleGan2Settings(num_half_blocks=4), (3, 1024, 1024))
    assert [stage.resolution_px for stage in stages] == [4, 8, 16, 32, 64, 128, 256, 512, 1024]
    assert [stage.channels for stage in stages] == [512, 512, 512, 512, 512, 256, 128, 64, 32]
    assert [stage.is_half for stage in stages] == [False] * 5 + [True] * 4


@pytest.mark.parametrize(
    ("shape", "changes", "message"),
    [
        ((3, 32, 64), {}, "images of 32x64 px, square ones with a power of two from 8 to 1024"),
        ((1, 28, 28), {}, "images of 28x28 px"),
        ((3, 4, 4), {}, "images of 4x4 px"),
        ((3, 2048, 2048), {}, "images of 2048x2048 px"),
        (SHAPE, {"channel_base": 15}, r"model\.channel_base: found 15, .* 16x16 px .* least 16"),
        (SHAPE, {"num_half_blocks": 3}, r"model\.num_half_blocks: found 3, .* 16x16 px .* most 2"),
    ],
)
def test_images_and_settings_that_do_not_fit_are_refused(
    shape: ImageShape, changes: dict[str, Any], message: str
) -> None:
    for build in (build_generator, build_discriminator):
        with pytest.raises(UserError, match=message):
            build(shape, **changes)


# --- style mixing


def map_twice(generator: Any, num_latents: int) -> tuple[Tensor, Tensor]:
    """Return styles in training mode, and those of the same latents without mixing [N, W]."""
    latents = draw(num_latents, 6)
    torch.manual_seed(11)
    mixed = generator.train().map_latents(latents)
    return mixed, generator.eval().map_latents(latents)[:, 0]


@torch.no_grad()
def test_mixing_takes_the_fine_styles_from_another_latent() -> None:
    mixed, plain = map_twice(build_generator(style_mixing=1.0), 600)
    num_styles = mixed.shape[1]
    assert num_styles == 6
    is_coarse = torch.isclose(mixed, plain[:, None], rtol=0, atol=1e-6).all(dim=2)  # [N, L]
    crossovers = is_coarse.sum(dim=1)
    assert torch.equal(is_coarse, torch.arange(num_styles) < crossovers[:, None])
    counts = torch.bincount(crossovers, minlength=num_styles + 1)
    assert counts[0] == counts[num_styles] == 0
    assert counts[1:num_styles].min() > 80  # 120 expected each, standard deviation 10
    fine = mixed[:, -1]
    assert len(fine.unique(dim=0)) == 600  # every image has its own other latent


@torch.no_grad()
@pytest.mark.parametrize("probability", [0.0, 0.9])
def test_mixing_has_its_probability(probability: float) -> None:
    mixed, plain = map_twice(build_generator(style_mixing=probability), 1000)
    is_mixed = (mixed[:, 0] - mixed[:, -1]).abs().amax(dim=1) > 1e-6
    assert is_mixed.float().mean().item() == pytest.approx(probability, abs=0.06)
    torch.testing.assert_close(mixed[:, 0], plain, rtol=0, atol=1e-6)


# --- the average of w, truncation, noise


@torch.no_grad()
def test_average_follows_the_styles_in_training_alone() -> None:
    generator, latents = build_generator(average_decay=0.9).eval(), draw(32, 6)
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    generator(latents)
    assert all(torch.equal(before[name], value) for name, value in generator.state_dict().items())
    assert (before["style_average"] == 0).all()
    mean = generator.mapping(latents).mean(dim=0)
    generator.train()(latents)
    torch.testing.assert_close(generator.style_average, 0.1 * mean)
    generator(latents)
    torch.testing.assert_close(generator.style_average, (0.1 + 0.9 * 0.1) * mean)


@torch.no_grad()
def test_truncation_pulls_images_to_that_of_the_average() -> None:
    generator = build_generator(noise=0.0).train()
    generator.map_latents(draw(200, 6))
    generator.eval()
    latents = draw(7, 6, seed=2)
    images = generator(latents)
    assert torch.equal(generator.sample(latents, 1.0), images)
    mean_styles = generator.style_average.expand(1, 6, -1)
    mean_image = generator.synthesize(mean_styles)
    assert (images - mean_image).abs().max() > 0.1
    near = generator.sample(latents, 1e-7)
    torch.testing.assert_close(near, mean_image.expand_as(near), rtol=0, atol=1e-5)
    halfway = (generator.map_latents(latents) + mean_styles) / 2
    torch.testing.assert_close(generator.sample(latents, 0.5), generator.synthesize(halfway))


@torch.no_grad()
def test_noise_is_one_image_for_all_channels_with_a_strength_a_layer() -> None:
    names = [name for name, _ in build_generator().named_parameters()]
    assert sum(name.endswith("noise_strength") for name in names) == 5  # 1 + 2 + 2 layers
    maps, styles, sums = draw(2, 8, 8, 8), draw(2, 5), []
    for strength in (0.0, 0.5):
        layer = build_generator(noise=strength).synthesis.blocks[1].convs[1]
        torch.manual_seed(3)
        activated = layer(maps, styles) / math.sqrt(2)
        sums.append(torch.where(activated > 0, activated, activated / 0.2))
        is_constant = torch.equal(layer(maps, styles), layer(maps, styles))
        assert is_constant == (strength == 0)  # drawn anew by every call
    torch.manual_seed(3)
    noise = 0.5 * torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(sums[1] - sums[0], noise.expand_as(maps), rtol=0, atol=1e-5)


# --- layers


@pytest.mark.parametrize("rate", [0.01, 1.0])
def test_rate_of_a_layer_keeps_the_function_that_it_starts_as(rate: float) -> None:
    torch.manual_seed(0)
    layer = layers.EqualizedLinear(400, 100, initial_bias=1.0, rate=rate)
    assert layer.weight.std().item() == pytest.approx(1 / rate, rel=0.02)
    outputs = layer(draw(9, 400))
    assert outputs.std().item() == pytest.approx(1, abs=0.1)
    assert outputs.mean().item() == pytest.approx(1, abs=0.1)


# --- minibatch standard deviation


@pytest.mark.parametrize(
    ("group_size", "groups"),
    [
        (4, [[0, 1, 2, 3], [4, 5, 6, 7]]),
        (4, [[0, 1, 2]]),
        (4, [[0, 1, 2], [3, 4]]),
        (4, [[0, 1, 2], [3, 4, 5], [6, 7, 8]]),
        (1, [[0], [1]]),
        (4, [[0]]),
    ],
)
def test_deviation_is_that_of_contiguous_groups(group_size: int, groups: list[list[int]]) -> None:
    num_images = sum(map(len, groups))
    maps = draw(num_images, 3, 4, 4)
    appended = append_deviation(maps, group_size)
    assert appended.shape == (num_images, 4, 4, 4)
    assert torch.equal(appended[:, :3], maps)
    for group in groups:
        deviation = (maps[group].var(dim=0, unbiased=False) + 1e-8).sqrt().mean()
        found = appended[group, 3]
        torch.testing.assert_close(found, deviation.expand_as(found), rtol=0, atol=1e-6)


# --- gradients


def check_slopes(network: nn.Module, compute: Callable[[], Tensor]) -> None:
    """Compare a penalty's gradient to every parameter with finite differences."""
    assert gradcheck(lambda *_: compute(), tuple(network.parameters()), fast_mode=True)


def test_penalty_of_path_lengths_has_the_gradient_of_finite_differences() -> None:
    generator = build_generator((1, 8, 8), style_mixing=0.5).double().train()
    latents, noise = (draw(*shape, dtype=torch.float64) for shape in ((3, 6), (3, 1, 8, 8)))

    def compute() -> Tensor:
        torch.manual_seed(5)  # mixing and noise inputs
        styles = generator.map_latents(latents)
        lengths = compute_path_lengths(generator.synthesize(styles), styles, noise)
        return compute_path_length_penalty(lengths, torch.tensor(0.1, dtype=torch.float64))

    check_slopes(generator, compute)


def test_r1_has_the_gradient_of_finite_differences() -> None:
    discriminator = build_discriminator((1, 8, 8)).double()
    images = draw(4, 1, 8, 8, dtype=torch.float64).requires_grad_(True)
    check_slopes(discriminator, lambda: compute_r1_penalty(images, discriminator(images)))


# --- half precision


@pytest.mark.parametrize("num_half_blocks", [0, 1, 2])
@pytest.mark.parametrize("is_generator", [True, False])
def test_autocast_reaches_the_highest_resolutions_alone(
    is_generator: bool, num_half_blocks: int
) -> None:
    highest = [torch.bfloat16] * num_half_blocks
    if is_generator:
        network = build_generator(noise=0.0, num_half_blocks=num_half_blocks).eval()
        blocks, inputs = network.synthesis.blocks, draw(8, 6)
        expected = [torch.float32] * (3 - num_half_blocks) + highest
    else:
        network = build_discriminator(num_half_blocks=num_half_blocks)
        blocks, inputs = network.blocks, draw(4, *SHAPE)
        expected = highest + [torch.float32] * (2 - num_half_blocks)
    dtypes: list[torch.dtype] = []
    for block in blocks:
        block.register_forward_hook(lambda _, __, result: dtypes.append(result[0].dtype))
    outputs, gradients = [], []
    for is_half in (False, True):
        torch.manual_seed(0)  # of the noise, whose strength of 0 has a gradient
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=is_half):
            outputs.append(network(inputs))
        outputs[-1].square().mean().backward()
        found = [p.grad.flatten() for p in network.parameters() if p.grad is not None]
        gradients.append(torch.cat(found))
    assert dtypes == [torch.float32] * len(blocks) + expected
    assert outputs[1].dtype == torch.float32
    assert torch.equal(outputs[1], outputs[0]) == (num_half_blocks == 0)
    torch.testing.assert_close(outputs[1], outputs[0], rtol=0, atol=0.06)
    assert (gradients[1] - gradients[0]).norm() < 0.05 * gradients[0].norm()


def test_half_precision_blocks_are_clamped() -> None:
    bounds = []
    for num_half_blocks in (0, 2):
        discriminator = build_discriminator(num_half_blocks=num_half_blocks)
        outputs: list[Tensor] = []
        discriminator.blocks[0].conv_down.register_forward_hook(
            lambda _, inputs, __, kept=outputs: kept.append(inputs[0])
        )
        discriminator(draw(4, *SHAPE) * 1e5)
        bounds.append(outputs[0].abs().max().item())
    assert bounds[0] > 1e4
    assert bounds[1] <= 256
