"""StyleGAN2's layers and discriminator: initial weights, deviation, R1, precision.

`tests/reference/test_stylegan2_parity.py` compares what they compute with a plain version.
"""

from __future__ import annotations

import pytest
import torch
from stylegan2_tools import SHAPE, build_discriminator, check_half_blocks, check_slopes, draw
from torch import Tensor

from knowledge_gaps.losses import compute_r1_penalty
from knowledge_gaps.models.architectures.stylegan2 import layers
from knowledge_gaps.models.architectures.stylegan2.discriminator import append_deviation

# --- layers


@pytest.mark.parametrize("rate", [0.01, 1.0])
def test_rate_of_a_layer_slows_learning_and_keeps_the_function(rate: float) -> None:
    inputs = draw(9, 400)
    torch.manual_seed(0)
    layer = layers.EqualizedLinear(400, 100, initial_bias=1.0, rate=rate)
    assert layer.weight.std().item() == pytest.approx(1 / rate, rel=0.02)
    before = layer(inputs)
    assert (before - 1).std().item() == pytest.approx(1, abs=0.1)
    assert before.mean().item() == pytest.approx(1, abs=0.1)
    with torch.no_grad():  # a step of Adam changes every parameter by the learning rate
        layer.bias += 0.1
        layer.weight += 0.1
    moved = 0.1 * rate * (1 + inputs.sum(dim=1, keepdim=True) / 20)
    torch.testing.assert_close(layer(inputs) - before, moved.expand_as(before), rtol=0, atol=2e-4)


# --- minibatch standard deviation


def compute_by_hand(maps: Tensor, groups: list[list[int]]) -> list[float]:
    values = [0.0] * len(maps)
    for group in groups:
        deviations = (maps[group].var(dim=0, unbiased=False) + 1e-8).sqrt()
        for index in group:
            values[index] = deviations.mean().item()
    return values


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
    channel = appended[:, 3]
    assert (channel == channel[:, :1, :1]).all()
    assert channel[:, 0, 0].tolist() == pytest.approx(compute_by_hand(maps, groups), abs=1e-6)


# --- gradients and half precision


def test_r1_has_the_gradient_of_finite_differences() -> None:
    discriminator = build_discriminator((1, 8, 8)).double()
    images = draw(4, 1, 8, 8, dtype=torch.float64).requires_grad_(True)
    check_slopes(
        discriminator, lambda: compute_r1_penalty(images, discriminator(images)), constant="bias"
    )


@pytest.mark.parametrize("num_half_blocks", [0, 1, 2])
def test_autocast_reaches_the_highest_resolutions_alone(num_half_blocks: int) -> None:
    discriminator = build_discriminator(num_half_blocks=num_half_blocks)
    expected = [torch.bfloat16] * num_half_blocks + [torch.float32] * (2 - num_half_blocks)
    check_half_blocks(discriminator, discriminator.blocks, draw(4, *SHAPE), expected)


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
