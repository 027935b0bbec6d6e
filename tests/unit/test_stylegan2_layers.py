"""StyleGAN2's layers: statistics of the papers, second gradients, noise, half precision.

`tests/reference/test_stylegan2_parity.py` compares what they compute with a plain version.
"""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from stylegan2_tools import draw

from knowledge_gaps.models.architectures.stylegan2.layers import (
    EqualizedConv,
    EqualizedLinear,
    StyledConv,
    downsample,
    filter_maps,
    make_kernel,
    upsample,
)
from knowledge_gaps.models.architectures.stylegan2.settings import Stage


def make_layer(channels_in: int, channels_out: int, is_up: bool = False) -> StyledConv:
    torch.manual_seed(0)
    return StyledConv(channels_in, Stage(8, channels_out, False), 4, is_up)


# --- equalised learning rate


def test_equalized_weights_are_standard_normal_and_scaled_at_run_time() -> None:
    torch.manual_seed(0)
    linear, conv = EqualizedLinear(300, 200), EqualizedConv(60, 50, 3)
    for layer, fan_in in ((linear, 300), (conv, 60 * 9)):
        assert abs(layer.weight.mean().item()) < 5 / math.sqrt(layer.weight.numel())
        assert layer.weight.std().item() == pytest.approx(1, abs=0.02)
        assert (layer.bias == 0).all()
        one = torch.ones(1, 300) if layer is linear else torch.ones(1, 60, 3, 3)
        result = layer(one).flatten(2)[..., 4] if layer is conv else layer(one)
        expected = layer.weight.flatten(1).sum(dim=1) / math.sqrt(fan_in)
        torch.testing.assert_close(result[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("multiplier", [0.01, 0.5, 1.0])
def test_multiplier_slows_learning_and_keeps_the_function(multiplier: float) -> None:
    inputs = draw(9, 400)
    torch.manual_seed(0)
    layer = EqualizedLinear(400, 100, initial_bias=1.0, rate=multiplier)
    before = layer(inputs)
    assert (before - 1).std().item() == pytest.approx(1, abs=0.1)
    assert before.mean().item() == pytest.approx(1, abs=0.1)
    with torch.no_grad():  # a step of Adam changes every parameter by the learning rate
        layer.bias += 0.1
    torch.testing.assert_close(layer(inputs) - before, torch.full_like(before, 0.1 * multiplier))
    with torch.no_grad():
        layer.bias -= 0.1
        layer.weight += 0.1
    moved = 0.1 * multiplier * inputs.sum(dim=1, keepdim=True) / 20
    torch.testing.assert_close(layer(inputs) - before, moved.expand_as(before), rtol=0, atol=2e-4)


# --- the FIR filter


def test_resampling_has_its_first_and_second_gradients() -> None:
    kernel = make_kernel().double()
    maps = draw(1, 2, 4, 4, dtype=torch.float64).requires_grad_(True)
    for function in (
        lambda values: upsample(values, kernel),
        lambda values: downsample(values, kernel),
        lambda values: filter_maps(values, kernel, padding=2),
    ):
        assert torch.autograd.gradcheck(function, (maps,))
        assert torch.autograd.gradgradcheck(lambda v, f=function: f(v).square(), (maps,))


# --- modulated convolution


def test_noise_is_one_image_for_all_channels_with_a_learned_strength() -> None:
    layer = make_layer(5, 3)
    maps, styles = draw(2, 5, 8, 8), draw(2, 4)
    silent = layer(maps, styles)
    assert torch.equal(layer(maps, styles), silent)  # the strength is 0 at first
    with torch.no_grad():
        layer.noise_strength.fill_(0.5)
    torch.manual_seed(3)
    noisy = layer(maps, styles)
    torch.manual_seed(3)
    noise = torch.randn(2, 1, 8, 8)
    expected = layer.convolve(maps, layer.affine(styles), layer.bias) + 0.5 * noise
    torch.testing.assert_close(noisy, F.leaky_relu(expected, 0.2) * math.sqrt(2))
    assert not torch.equal(layer(maps, styles), noisy)


# --- half precision


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float16, 3e-3), (torch.bfloat16, 3e-2)])
@pytest.mark.parametrize("is_up", [False, True])
def test_half_precision_stays_near_full(dtype: torch.dtype, limit: float, is_up: bool) -> None:
    layer = make_layer(16, 8, is_up=is_up)
    maps = draw(2, 16, 8, 8)
    scales = draw(2, 16, seed=1) * 1000
    bias = torch.zeros(8)
    full = layer.convolve(maps, scales, bias)
    half = layer.convolve(maps.to(dtype), scales, bias)
    assert half.dtype == dtype
    assert (half - full).abs().max().item() < limit * full.abs().max().item()
