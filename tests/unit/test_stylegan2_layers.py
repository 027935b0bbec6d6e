"""StyleGAN2's layers against slow independent versions, and the statistics of the papers."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.signal import convolve2d
from stylegan2_tools import draw
from torch import Tensor

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

KERNEL = make_kernel()
TAPS = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64


def insert_zeros(image: np.ndarray) -> np.ndarray:
    """Put a zero between any two pixels."""
    doubled = np.zeros([2 * side - 1 for side in image.shape])
    doubled[::2, ::2] = image
    return doubled


def apply_to_channels(function: Callable[[np.ndarray], np.ndarray], maps: Tensor) -> Tensor:
    images = maps.flatten(0, 1).numpy()
    results = torch.from_numpy(np.stack([function(image) for image in images]))
    return results.unflatten(0, maps.shape[:2])


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


def test_resampling_equals_scipy() -> None:
    maps = draw(2, 3, 6, 8, dtype=torch.float64)
    kernel = KERNEL.double()
    up = apply_to_channels(
        lambda image: convolve2d(insert_zeros(image), TAPS * 4)[1:-1, 1:-1], maps
    )
    torch.testing.assert_close(upsample(maps, kernel), up)
    down = apply_to_channels(lambda image: convolve2d(image, TAPS)[2:-2:2, 2:-2:2], maps)
    torch.testing.assert_close(downsample(maps, kernel), down)
    blurred = apply_to_channels(lambda image: convolve2d(image, TAPS)[1:-1, 1:-1], maps)
    torch.testing.assert_close(filter_maps(maps, kernel, padding=2), blurred)


def test_resampling_has_its_first_and_second_gradients() -> None:
    kernel = KERNEL.double()
    maps = draw(1, 2, 4, 4, dtype=torch.float64).requires_grad_(True)
    for function in (
        lambda values: upsample(values, kernel),
        lambda values: downsample(values, kernel),
        lambda values: filter_maps(values, kernel, padding=2),
    ):
        assert torch.autograd.gradcheck(function, (maps,))
        assert torch.autograd.gradgradcheck(lambda v, f=function: f(v).square(), (maps,))


# --- modulated convolution


def make_layer(
    channels_in: int, channels_out: int, has_noise: bool = False, is_up: bool = False
) -> StyledConv:
    torch.manual_seed(0)
    return StyledConv(channels_in, Stage(8, channels_out, False), 4, has_noise, is_up)


def convolve_by_samples(layer: StyledConv, maps: Tensor, scales: Tensor) -> Tensor:
    """Equations 1 and 3 as they stand, one sample after another, with scipy's convolution."""
    he = 1 / math.sqrt(layer.weight[0].numel())
    results = []
    for sample, scale in zip(maps, scales, strict=True):
        modulated = layer.weight.detach() * he * scale[None, :, None, None]
        outputs = []
        for kernels in (
            modulated / (modulated.square().sum((1, 2, 3)) + 1e-8).sqrt()[:, None, None, None]
        ):
            parts = [
                convolve_plane(image.numpy(), kernel.numpy(), layer.is_up)
                for image, kernel in zip(sample, kernels, strict=True)
            ]
            outputs.append(torch.from_numpy(np.sum(parts, axis=0)))
        results.append(torch.stack(outputs))
    return torch.stack(results)


def convolve_plane(image: np.ndarray, kernel: np.ndarray, is_up: bool) -> np.ndarray:
    if not is_up:  # networks correlate: a convolution with the turned kernel
        return convolve2d(image, kernel[::-1, ::-1], mode="same")
    filtered = convolve2d(convolve2d(insert_zeros(image), kernel), TAPS * 4)
    return filtered[2:-2, 2:-2]


@pytest.mark.parametrize("is_up", [False, True])
def test_modulated_convolution_equals_the_papers_form(is_up: bool) -> None:
    layer = make_layer(5, 3, is_up=is_up).double()
    maps = draw(4, 5, 6, 6, dtype=torch.float64)
    scales = draw(4, 5, seed=1, dtype=torch.float64)
    bias = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    expected = convolve_by_samples(layer, maps, scales)
    assert expected.shape[2:] == ((12, 12) if is_up else (6, 6))
    torch.testing.assert_close(layer.convolve(maps, scales, bias * 0), expected)
    torch.testing.assert_close(
        layer.convolve(maps, scales, bias, 1.5), 1.5 * (expected + bias[:, None, None])
    )


def test_noise_is_one_image_for_all_channels_with_a_learned_strength() -> None:
    layer = make_layer(5, 3, has_noise=True)
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


def test_float16_does_not_overflow_where_the_result_is_moderate() -> None:
    layer = make_layer(64, 8)
    with torch.no_grad():
        layer.weight.mul_(1000)
    maps = torch.full((1, 64, 8, 8), 200.0)
    scales = torch.full((1, 64), 500.0)
    result = layer.convolve(maps.half(), scales, torch.zeros(8))
    assert torch.isfinite(result).all()
    torch.testing.assert_close(
        result.float(), layer.convolve(maps, scales, torch.zeros(8)), rtol=0, atol=2.0
    )
