"""Layers of the generator that styles act on: modulated convolutions, and the way to an image.

Source: Karras et al. 2020, section 2.2: eq. 1 (modulation), eq. 3 (demodulation).

The paper scales the weights for every sample, w'_ijk = s_i w_ijk, and runs a convolution with one
group a sample. Scaling the input by s and the output by the demodulation is the same function with
one set of weights for the whole batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knowledge_gaps.models.architectures.stylegan2.equalized import (
    ACTIVATION_GAIN,
    EqualizedLinear,
    activate,
)
from knowledge_gaps.models.architectures.stylegan2.maps import (
    UPSAMPLING_GAIN,
    filter_maps,
    make_kernel,
    to_full,
)

_KERNEL_PX = 3
_EPSILON = 1e-8


@dataclass(frozen=True)
class LayerOptions:
    """What the layers of one resolution share.

    Attributes:
        style_dim: length of a style vector.
        has_noise: noise inputs are added before the bias.
        clamp: largest magnitude of an activation; None for no bound.
    """

    style_dim: int
    has_noise: bool
    clamp: float | None


class StyledConv(nn.Module):
    """A modulated 3x3 convolution with demodulation, noise, bias and leaky ReLU.

    Args:
        channels_in: of the input.
        channels_out: of the output.
        options: see `LayerOptions`.
        is_up: the resolution is doubled, by a transposed convolution and the FIR filter.
    """

    _kernel: Tensor

    def __init__(
        self, channels_in: int, channels_out: int, options: LayerOptions, is_up: bool = False
    ) -> None:
        super().__init__()
        self.affine = EqualizedLinear(options.style_dim, channels_in, initial_bias=1.0)
        self.weight = nn.Parameter(torch.randn(channels_out, channels_in, _KERNEL_PX, _KERNEL_PX))
        self.bias = nn.Parameter(torch.zeros(channels_out))
        self.noise_strength = nn.Parameter(torch.zeros(())) if options.has_noise else None
        self.is_up, self._clamp = is_up, options.clamp
        if is_up:
            self.register_buffer("_kernel", make_kernel() * UPSAMPLING_GAIN, persistent=False)

    def forward(self, maps: Tensor, styles: Tensor) -> Tensor:
        """Return activations [N, channels_out, H', W'] in the precision of the input.

        Args:
            maps: [N, channels_in, H, W].
            styles: [N, style_dim], full precision.
        """
        # the activation's gain goes into everything that is added up before it
        values = self.convolve(maps, self.affine(styles), self.bias, ACTIVATION_GAIN)
        if self.noise_strength is not None:
            noise = torch.randn(
                len(values), 1, *values.shape[2:], dtype=styles.dtype, device=values.device
            )
            values = values.add_((noise * (self.noise_strength * ACTIVATION_GAIN)).to(values.dtype))
        return activate(values, self._clamp)

    def convolve(self, maps: Tensor, scales: Tensor, bias: Tensor, gain: float = 1.0) -> Tensor:
        """Return gain * (modulated and demodulated convolution + bias).

        Args:
            maps: [N, channels_in, H, W].
            scales: s of eq. 1, [N, channels_in], full precision.
            bias: [channels_out].
            gain: factor of the result.
        """
        weight, scales = self._scale_weight(scales, maps.dtype)
        energy = weight.square().sum(dim=(2, 3))  # [channels_out, channels_in]
        demodulation = torch.rsqrt(scales.square() @ energy.T + _EPSILON) * gain  # eq. 3
        maps = maps * scales.to(maps.dtype)[:, :, None, None]
        values = self._convolve_plainly(maps, weight.to(maps.dtype))
        return torch.addcmul(
            (bias * gain).to(maps.dtype)[:, None, None],
            values,
            demodulation.to(maps.dtype)[:, :, None, None],
        )

    def _scale_weight(self, scales: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Share He's constant between weights and styles as the precision of the maps asks."""
        he = 1 / math.sqrt(self.weight[0].numel())
        if dtype != torch.float16:
            return self.weight, scales * he
        # demodulation undoes any factor a sample or an output; these keep float16 from overflow
        largest = self.weight.abs().amax(dim=(1, 2, 3), keepdim=True)
        return self.weight * (he / largest), scales / scales.abs().amax(dim=1, keepdim=True)

    def _convolve_plainly(self, maps: Tensor, weight: Tensor) -> Tensor:
        if not self.is_up:
            return F.conv2d(maps, weight, padding=_KERNEL_PX // 2)
        doubled = F.conv_transpose2d(maps, weight.transpose(0, 1), stride=2)  # 2 H + 1 px
        return filter_maps(doubled, self._kernel, padding=1)


class ToImage(nn.Module):
    """A modulated 1x1 convolution to the image's channels, without demodulation.

    Args:
        channels_in: of the input.
        image_channels: of the image.
        options: see `LayerOptions`; there is no noise here.
    """

    def __init__(self, channels_in: int, image_channels: int, options: LayerOptions) -> None:
        super().__init__()
        self.affine = EqualizedLinear(options.style_dim, channels_in, initial_bias=1.0)
        self.weight = nn.Parameter(torch.randn(image_channels, channels_in))
        self.bias = nn.Parameter(torch.zeros(image_channels))
        self._scale = 1 / math.sqrt(channels_in)
        self._clamp = options.clamp

    def forward(self, maps: Tensor, styles: Tensor) -> Tensor:
        """Return the image's part of this resolution, full precision [N, image_channels, H, W].

        Args:
            maps: [N, channels_in, H, W].
            styles: [N, style_dim], full precision.
        """
        # a matrix a sample: few outputs make it cheaper than scaling the maps
        matrices = self.affine(styles, self._scale)[:, :, None] * self.weight.T
        pixels = maps.permute(0, 2, 3, 1).flatten(1, 2)  # [N, H * W, channels_in]
        values = torch.baddbmm(self.bias.to(maps.dtype), pixels, matrices.to(maps.dtype))
        image = to_full(values).transpose(1, 2).reshape(len(maps), -1, *maps.shape[2:])
        return image if self._clamp is None else image.clamp(-self._clamp, self._clamp)
