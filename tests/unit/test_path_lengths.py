"""Path lengths against a linear map, whose Jacobian is known, and their average by hand."""

from __future__ import annotations

import math

import pytest
import torch

from knowledge_gaps.losses import (
    compute_path_length_penalty,
    compute_path_lengths,
)


def test_path_length_of_a_linear_map_is_that_of_its_matrix() -> None:
    torch.manual_seed(0)
    num_images, num_layers, width = 3, 2, 5
    matrix = torch.randn(num_layers * width, 2 * 4 * 8, dtype=torch.float64)
    styles = torch.randn(num_images, num_layers, width, dtype=torch.float64, requires_grad=True)
    images = (styles.flatten(1) @ matrix).view(num_images, 2, 4, 8)
    noise = torch.randn_like(images)
    lengths = compute_path_lengths(images, styles, noise)
    for index in range(num_images):
        product = matrix @ (noise[index].flatten() / math.sqrt(4 * 8))  # J^T y
        expected = math.sqrt(product.square().sum().item() / num_layers)
        assert lengths[index].item() == pytest.approx(expected, rel=1e-12)


def test_path_lengths_can_be_differentiated_again() -> None:
    scale = torch.tensor(3.0, requires_grad=True)
    styles = torch.ones(2, 1, 1, requires_grad=True)
    images = (scale * styles).view(2, 1, 1, 1)
    lengths = compute_path_lengths(images, styles, torch.full((2, 1, 1, 1), -2.0))
    assert lengths.tolist() == [6.0, 6.0]
    compute_path_length_penalty(lengths, torch.tensor(1.0)).backward()
    assert scale.grad is not None
    assert scale.grad.item() == 20  # d/ds (2 s - 1)^2


@pytest.mark.parametrize("resolution_px", [16, 64, 1024])
def test_weight_of_two_is_the_papers_at_every_resolution(resolution_px: int) -> None:
    r, num_layers = resolution_px, 2 * math.log2(resolution_px) - 2
    papers = math.log(2) / (r**2 * (math.log(r) - math.log(2)))  # appendix B
    # lengths here are the paper's, without the scale of y and the mean over layers, times this
    factor = 1 / math.sqrt(r**2 * num_layers)
    assert 2 * factor**2 == pytest.approx(papers)
