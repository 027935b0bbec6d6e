"""Feature maps: filtered resampling by two, and the precision and layout that a block runs in.

Resampling is by the FIR filter [1, 3, 3, 1] along both axes, as one depthwise (transposed)
convolution, deterministic on every device; outside of the image are zeros. Autocast is asked once,
by a network's forward pass, and switched off inside: blocks cast explicitly, so that what runs in
half precision is a setting and not a list of operations.

Source: Karras et al. 2019, section 2.1; Karras et al. 2020, section 4.1 (bilinear filtering, after
Zhang 2019); Karras et al. 2020b (Training Generative Adversarial Networks with Limited Data),
appendix on mixed-precision training: the highest resolutions only, activations clamped.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

FIR = (1.0, 3.0, 3.0, 1.0)
UPSAMPLING_GAIN = 4.0  # three of four pixels are zero before the filter
CLAMP = 256.0  # |activation| of a half-precision block is kept below


def make_kernel() -> Tensor:
    """Make the filter's two-dimensional kernel, float32 [4, 4]; its sum is 1."""
    taps = torch.tensor(FIR)
    kernel = torch.outer(taps, taps)
    return kernel / kernel.sum()


def filter_maps(maps: Tensor, kernel: Tensor, padding: int, stride: int = 1) -> Tensor:
    """Filter every channel by itself.

    Args:
        maps: [N, C, H, W]; H + 2 * padding - 4 is a multiple of the stride.
        kernel: [4, 4], constant.
        padding: zeros around the maps, in pixels.
        stride: every so many pixels of the result are kept.

    Returns:
        [N, C, H', W'], H' = (H + 2 * padding - 4) / stride + 1.
    """
    filtered: Tensor = _Filter.apply(maps, kernel, padding, stride, False)
    return filtered


def upsample(maps: Tensor, kernel: Tensor) -> Tensor:
    """Double the resolution of maps [N, C, H, W]; kernel [4, 4]."""
    upsampled: Tensor = _Filter.apply(maps, kernel * UPSAMPLING_GAIN, 1, 2, True)
    return upsampled


def downsample(maps: Tensor, kernel: Tensor) -> Tensor:
    """Halve the resolution of maps [N, C, H, W]; kernel [4, 4]."""
    return filter_maps(maps, kernel, padding=1, stride=2)


class _Filter(torch.autograd.Function):
    """A depthwise convolution with a constant kernel, or its transpose.

    Each is the other's gradient. torch's own second derivative of a depthwise convolution runs one
    convolution a channel for the kernel's sake, which R1 and path lengths would pay for.
    """

    @staticmethod
    def forward(
        ctx: Any, maps: Tensor, kernel: Tensor, padding: int, stride: int, is_transposed: bool
    ) -> Tensor:
        ctx.save_for_backward(kernel)
        ctx.options = padding, stride, is_transposed
        num_channels = maps.shape[1]
        weight = kernel.to(maps.dtype).expand(num_channels, 1, *kernel.shape)
        convolve = F.conv_transpose2d if is_transposed else F.conv2d
        with disable_autocast(maps.device):
            return convolve(maps, weight, stride=stride, padding=padding, groups=num_channels)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (kernel,) = ctx.saved_tensors
        padding, stride, is_transposed = ctx.options
        gradient = _Filter.apply(gradients[0], kernel, padding, stride, not is_transposed)
        return gradient, None, None, None, None


def find_half_dtype(device: torch.device) -> torch.dtype | None:
    """Return the dtype of the autocast that is active for a device, or None."""
    if not torch.is_autocast_enabled(device.type):
        return None
    return torch.get_autocast_dtype(device.type)


def disable_autocast(device: torch.device) -> torch.autocast:
    """Make the context in which operations keep the dtype of what they are given."""
    return torch.autocast(device.type, enabled=False)


def to_full(values: Tensor) -> Tensor:
    """Turn half precision into float32; float64, for gradient checks, stays."""
    return values if values.dtype == torch.float64 else values.float()


def to_block(values: Tensor, half_dtype: torch.dtype | None) -> Tensor:
    """Bring feature maps into the precision and the layout of the block that they enter.

    Channels last pays for convolutions on the CPU, and on a GPU for those in half precision.

    Args:
        values: [N, C, H, W].
        half_dtype: None for a block in full precision.
    """
    values = to_full(values) if half_dtype is None else values.to(half_dtype)
    if half_dtype is None and values.device.type != "cpu":
        return values.contiguous()
    return values.contiguous(memory_format=torch.channels_last)
