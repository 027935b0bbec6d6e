"""Layers of both StyleGAN2 networks: filtered resampling, equalised and modulated convolutions.

- Equalised learning rate (Karras et al. 2018, section 4.1): weights are drawn from N(0, 1) and
  scaled at run time by He's constant, so that Adam changes every layer at the same relative speed.
- Resampling by two (Karras et al. 2019, section 2.1; Karras et al. 2020, section 4.1): the FIR
  filter [1, 3, 3, 1] along both axes; outside of the image are zeros.
- Modulated convolutions (Karras et al. 2020, section 2.2). The paper scales the weights for every
  sample, w'_ijk = s_i w_ijk. Scaling the input by s and the output by the demodulation is the same
  function with one set of weights for the batch.
- Mixed precision (Karras et al. 2020b, Training Generative Adversarial Networks with Limited Data,
  appendix): the highest resolutions only, activations clamped. A network's forward pass asks for
  the autocast once and switches it off, so that what runs in half precision is a setting.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knowledge_gaps.models.architectures.stylegan2.settings import Stage

ACTIVATION_GAIN = math.sqrt(2)  # keeps the second moment of activations at 1
EPSILON = 1e-8
_UPSAMPLING_GAIN = 4.0  # three of four pixels are zero before the filter
_KERNEL_PX = 3
_SLOPE = 0.2  # of the leaky ReLU below 0


@cache
def make_kernel(device: torch.device, dtype: torch.dtype, gain: float = 1.0) -> Tensor:
    """Make the filter's two-dimensional kernel, [4, 4]; its sum is the gain, a power of 2."""
    taps = torch.tensor((1.0, 3.0, 3.0, 1.0), device=device, dtype=dtype)
    return torch.outer(taps, taps) * (gain / 64)


def filter_maps(maps: Tensor, padding: int, stride: int = 1, gain: float = 1.0) -> Tensor:
    """Filter every channel by itself, [N, C, H, W] -> [N, C, H', W']."""
    filtered: Tensor = _Filter.apply(maps, gain, padding, stride, False)
    return filtered


def upsample(maps: Tensor) -> Tensor:
    """Double the resolution of maps [N, C, H, W]."""
    upsampled: Tensor = _Filter.apply(maps, _UPSAMPLING_GAIN, 1, 2, True)
    return upsampled


class _Filter(torch.autograd.Function):
    """A depthwise convolution with a constant kernel, or its transpose.

    Each is the other's gradient. torch's own second derivative of a depthwise convolution runs one
    convolution a channel for the kernel's sake, which R1 and path lengths would pay for.
    """

    @staticmethod
    def forward(
        ctx: Any, maps: Tensor, gain: float, padding: int, stride: int, is_transposed: bool
    ) -> Tensor:
        ctx.options = gain, padding, stride, is_transposed
        num_channels = maps.shape[1]
        weight = make_kernel(maps.device, maps.dtype, gain).expand(num_channels, 1, -1, -1)
        convolve = F.conv_transpose2d if is_transposed else F.conv2d
        with torch.autocast(maps.device.type, enabled=False):
            return convolve(maps, weight, stride=stride, padding=padding, groups=num_channels)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        *options, is_transposed = ctx.options
        gradient = _Filter.apply(gradients[0], *options, not is_transposed)
        return gradient, None, None, None, None


def find_half_dtype(device: torch.device) -> torch.dtype | None:
    """Return the dtype of the autocast that is active for a device, or None."""
    is_active = torch.is_autocast_enabled(device.type)
    return torch.get_autocast_dtype(device.type) if is_active else None


def to_full(values: Tensor) -> Tensor:
    """Turn half precision into float32; float64, for gradient checks, stays."""
    return values if values.dtype == torch.float64 else values.float()


def to_block(values: Tensor, half_dtype: torch.dtype | None) -> Tensor:
    """Bring maps [N, C, H, W] into the precision (None: full) and layout of the next block."""
    values = to_full(values) if half_dtype is None else values.to(half_dtype)
    if half_dtype is None and values.device.type != "cpu":
        return values.contiguous()
    return values.contiguous(memory_format=torch.channels_last)


def activate(values: Tensor, clamp: float | None = None) -> Tensor:
    """Apply the leaky ReLU in place, without its gain, which the layer before has, and clamp."""
    activated = F.leaky_relu(values, _SLOPE, inplace=True)
    return activated if clamp is None else activated.clamp(-clamp, clamp)


class EqualizedLinear(nn.Module):
    """A linear layer that learns `rate` times as fast as the optimiser says; it starts the same."""

    def __init__(
        self, num_inputs: int, num_outputs: int, initial_bias: float = 0.0, rate: float = 1.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_outputs, num_inputs) / rate)
        self.bias = nn.Parameter(torch.full((num_outputs,), initial_bias / rate))
        self._bias_scale, self._weight_scale = rate, rate / math.sqrt(num_inputs)

    def forward(self, inputs: Tensor, gain: float = 1.0) -> Tensor:
        """Return gain * (W x + b) [N, num_outputs] of inputs [N, num_inputs]."""
        beta, alpha = self._bias_scale * gain, self._weight_scale * gain
        return torch.addmm(self.bias, inputs, self.weight.T, beta=beta, alpha=alpha)


class EqualizedConv(nn.Module):
    """A convolution with an equalised learning rate; the kernel is odd, the bias 0 at first."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel_px: int, has_bias: bool = True
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels_out, channels_in, kernel_px, kernel_px))
        self.bias = nn.Parameter(torch.zeros(channels_out)) if has_bias else None
        self._scale = 1 / math.sqrt(channels_in * kernel_px**2)

    def forward(self, maps: Tensor, gain: float = 1.0, stride: int = 1) -> Tensor:
        """Return gain * (W * x + b); any stride but 1 expects maps that are padded already."""
        weight = (self.weight * (self._scale * gain)).to(maps.dtype)
        bias = None if self.bias is None else (self.bias * gain).to(maps.dtype)
        padding = weight.shape[-1] // 2 if stride == 1 else 0
        return F.conv2d(maps, weight, bias, stride, padding)


class StyledConv(nn.Module):
    """A modulated 3x3 convolution with demodulation, noise, bias and leaky ReLU; up, if asked."""

    def __init__(self, channels_in: int, stage: Stage, style_dim: int, is_up: bool = False) -> None:
        super().__init__()
        self.affine = EqualizedLinear(style_dim, channels_in, initial_bias=1.0)
        self.weight = nn.Parameter(torch.randn(stage.channels, channels_in, _KERNEL_PX, _KERNEL_PX))
        self.bias = nn.Parameter(torch.zeros(stage.channels))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.is_up, self._clamp = is_up, stage.clamp

    def forward(self, maps: Tensor, styles: Tensor) -> Tensor:
        """Return activations, in the precision of maps [N, C, H, W], by styles [N, style_dim]."""
        # the activation's gain goes into everything that is added up before it
        values = self.convolve(maps, self.affine(styles), self.bias, ACTIVATION_GAIN)
        size, strength = (len(values), 1, *values.shape[2:]), self.noise_strength * ACTIVATION_GAIN
        noise = torch.randn(size, dtype=styles.dtype, device=values.device)
        return activate(values.add_((noise * strength).to(values.dtype)), self._clamp)

    def convolve(self, maps: Tensor, scales: Tensor, bias: Tensor, gain: float = 1.0) -> Tensor:
        """Return gain * (modulated, demodulated convolution + bias) by scales s [N, C], eq. 1."""
        scales = scales * (1 / math.sqrt(self.weight[0].numel()))  # He's constant
        energy = self.weight.square().sum(dim=(2, 3))  # [channels_out, channels_in]
        demodulation = torch.rsqrt(scales.square() @ energy.T + EPSILON) * gain  # eq. 3
        maps = maps * scales.to(maps.dtype)[:, :, None, None]
        weight = self.weight.to(maps.dtype)
        if self.is_up:
            doubled = F.conv_transpose2d(maps, weight.transpose(0, 1), stride=2)  # 2 H + 1 px
            values = filter_maps(doubled, padding=1, gain=_UPSAMPLING_GAIN)
        else:
            values = F.conv2d(maps, weight, padding=_KERNEL_PX // 2)
        return torch.addcmul(
            (bias * gain).to(maps.dtype)[:, None, None],
            values,
            demodulation.to(maps.dtype)[:, :, None, None],
        )


class ToImage(nn.Module):
    """A modulated 1x1 convolution to the image's channels, without demodulation or noise."""

    def __init__(self, stage: Stage, image_channels: int, style_dim: int) -> None:
        super().__init__()
        self.affine = EqualizedLinear(style_dim, stage.channels, initial_bias=1.0)
        self.weight = nn.Parameter(torch.randn(image_channels, stage.channels))
        self.bias = nn.Parameter(torch.zeros(image_channels))
        self._scale = 1 / math.sqrt(stage.channels)
        self._clamp = stage.clamp

    def forward(self, maps: Tensor, styles: Tensor) -> Tensor:
        """Return the image's part of this resolution, full precision [N, image_channels, H, W]."""
        # a matrix a sample: few outputs make it cheaper than scaling the maps
        matrices = self.affine(styles, self._scale)[:, :, None] * self.weight.T
        pixels = maps.permute(0, 2, 3, 1).flatten(1, 2)  # [N, H * W, channels_in]
        values = torch.baddbmm(self.bias.to(maps.dtype), pixels, matrices.to(maps.dtype))
        image = to_full(values).transpose(1, 2).reshape(len(maps), -1, *maps.shape[2:])
        return image if self._clamp is None else image.clamp(-self._clamp, self._clamp)
