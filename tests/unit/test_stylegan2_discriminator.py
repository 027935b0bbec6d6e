"""StyleGAN2's discriminator: minibatch standard deviation, precision, the gradient of R1."""

from __future__ import annotations

import pytest
import torch
from stylegan2_tools import SHAPE, build_discriminator, check_half_blocks, check_slopes, draw
from torch import Tensor

from knowledge_gaps.losses import compute_r1_penalty
from knowledge_gaps.models.architectures.stylegan2.discriminator import append_deviation

# --- minibatch standard deviation


def compute_by_hand(maps: Tensor, groups: list[list[int]]) -> list[float]:
    values = [0.0] * len(maps)
    for group in groups:
        deviations = (maps[group].var(dim=0, unbiased=False) + 1e-8).sqrt()
        for index in group:
            values[index] = deviations.mean().item()
    return values


@pytest.mark.parametrize(
    ("num_images", "group_size", "groups"),
    [
        (8, 4, [[0, 1, 2, 3], [4, 5, 6, 7]]),
        (4, 4, [[0, 1, 2, 3]]),
        (3, 4, [[0, 1, 2]]),
        (6, 4, [[0, 1, 2], [3, 4, 5]]),
        (5, 4, [[0, 1, 2], [3, 4]]),
        (9, 4, [[0, 1, 2], [3, 4, 5], [6, 7, 8]]),
        (2, 1, [[0], [1]]),
        (1, 4, [[0]]),
    ],
)
def test_deviation_is_that_of_contiguous_groups(
    num_images: int, group_size: int, groups: list[list[int]]
) -> None:
    maps = draw(num_images, 3, 4, 4)
    appended = append_deviation(maps, group_size)
    assert appended.shape == (num_images, 4, 4, 4)
    assert torch.equal(appended[:, :3], maps)
    channel = appended[:, 3]
    assert (channel == channel[:, :1, :1]).all()
    assert channel[:, 0, 0].tolist() == pytest.approx(compute_by_hand(maps, groups), abs=1e-6)


@torch.no_grad()
def test_batch_cut_at_a_multiple_of_the_group_keeps_its_logits() -> None:
    discriminator = build_discriminator()
    images = draw(12, *SHAPE)
    whole = discriminator(images)
    parts = torch.cat([discriminator(images[:4]), discriminator(images[4:])])
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-5)
    cut_elsewhere = torch.cat([discriminator(images[:6]), discriminator(images[6:])])
    assert (cut_elsewhere - whole).abs().max() > 1e-4


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
