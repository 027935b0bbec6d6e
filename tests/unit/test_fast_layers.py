"""Layers with gradients written by hand: the function and its derivatives are torch's own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call

from knowledge_gaps.models.fast_layers import BatchNorm2d, DoublingConv2d, HalvingConv2d

PRECISION = 1e-12  # of float64


def draw(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(len(shape) + sum(shape))
    drawn = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return drawn.requires_grad_()


def as_function(layer: nn.Module) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Make a layer a function of its input, weight and bias."""
    return lambda x, weight, bias: functional_call(layer, {"weight": weight, "bias": bias}, x)


KERNELS = [(4, 1), (3, 1), (5, 2), (2, 0)]  # sides and padding
LAYERS = [
    *[(HalvingConv2d, channels, (4, *kernel)) for channels in (1, 3, 5) for kernel in KERNELS],
    *[(DoublingConv2d, 4, (channels, px)) for channels in (1, 3, 5) for px in (2, 4, 6)],
]


@pytest.mark.parametrize(("kind", "channels", "options"), LAYERS)
def test_strided_layer_is_torchs_with_its_derivatives(
    kind: type[HalvingConv2d | DoublingConv2d], channels: int, options: tuple[int, ...]
) -> None:
    layer = kind(channels, *options).double()
    inputs = draw(2, channels, 4, 6), draw(*layer.weight.shape), draw(layer.out_channels)
    function = as_function(layer)
    is_up = kind is DoublingConv2d
    convolve = nn.functional.conv_transpose2d if is_up else nn.functional.conv2d
    expected = convolve(*inputs, stride=2, padding=options[1] // 2 - 1 if is_up else options[2])
    torch.testing.assert_close(function(*inputs), expected, rtol=0, atol=PRECISION)
    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs)  # R1 asks for it


@pytest.mark.parametrize("layer", [HalvingConv2d(1, 4, 4, 1), DoublingConv2d(4, 1, 4)])
def test_images_of_few_channels_take_the_way_written_by_hand(layer: nn.Module) -> None:
    features = torch.zeros(1, layer.in_channels, 8, 8)
    assert "Convolution" not in type(layer(features).grad_fn).__name__
    with torch.autocast("cpu", torch.bfloat16):  # torch's own takes part in it
        assert layer(features).dtype is torch.bfloat16


def test_a_collapsed_batch_is_normalised_like_torch_does() -> None:
    """All images alike, far from zero: the variance must not drown in the mean's rounding."""
    features = torch.full((8, 2, 4, 4), 1000.0)
    features[:, 1] += torch.arange(8.0)[:, None, None] / 64
    exact = nn.BatchNorm2d(2).double()
    expected = exact(features.double())
    ours, theirs = BatchNorm2d(2), nn.BatchNorm2d(2)
    errors = [(layer(features) - expected).abs().max() for layer in (ours, theirs)]
    assert errors[0] <= errors[1]
    assert ours.running_var is not None
    assert exact.running_var is not None
    torch.testing.assert_close(ours.running_var.double(), exact.running_var, rtol=1e-6, atol=0)


def test_normalisation_is_torchs_with_its_derivatives_and_running_statistics() -> None:
    features, weight, bias = draw(4, 3, 5, 5), draw(3), draw(3)
    ours, theirs = BatchNorm2d(3).double(), nn.BatchNorm2d(3).double()
    shifted = features * 3 + 7
    for step in range(3):
        assert ours.num_batches_tracked is not None
        assert int(ours.num_batches_tracked) == step
        parameters = {"weight": weight, "bias": bias}
        found = functional_call(ours, parameters, shifted + step)
        expected = functional_call(theirs, parameters, shifted + step)
        torch.testing.assert_close(found, expected, rtol=0, atol=PRECISION)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=PRECISION)
    assert gradcheck(as_function(ours), (features, weight, bias))
    assert gradgradcheck(as_function(ours), (features, weight, bias))
