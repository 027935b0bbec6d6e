"""Layers with an equalised learning rate, the activation, and the mapping network made of them.

Weights are drawn from N(0, 1) and scaled at run time by He's constant, so that Adam, whose steps
know no scale, changes every layer at the same relative speed.

Source: Karras et al. 2018 (progressive growing), section 4.1.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knowledge_gaps.models.architectures.stylegan2.settings import StyleGan2Settings

SLOPE = 0.2  # of the leaky ReLU below 0
ACTIVATION_GAIN = math.sqrt(2)  # keeps the second moment of activations at 1
_EPSILON = 1e-8


class EqualizedLinear(nn.Module):
    """A linear layer with an equalised learning rate.

    Args:
        num_inputs: length of an input vector.
        num_outputs: length of an output vector.
        initial_bias: of all outputs.
        lr_multiplier: the layer learns so many times as fast as the optimiser says; the initial
            function does not depend on it.
    """

    def __init__(
        self,
        num_inputs: int,
        num_outputs: int,
        initial_bias: float = 0.0,
        lr_multiplier: float = 1.0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_outputs, num_inputs) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((num_outputs,), initial_bias / lr_multiplier))
        self._bias_scale = lr_multiplier
        self._weight_scale = lr_multiplier / math.sqrt(num_inputs)

    def forward(self, inputs: Tensor, gain: float = 1.0) -> Tensor:
        """Return gain * (W x + b) [N, num_outputs] of inputs [N, num_inputs]."""
        return torch.addmm(
            self.bias,
            inputs,
            self.weight.T,
            beta=self._bias_scale * gain,
            alpha=self._weight_scale * gain,
        )


class EqualizedConv(nn.Module):
    """A convolution with an equalised learning rate.

    Args:
        channels_in: of the input.
        channels_out: of the output.
        kernel_px: side of the kernel; odd.
        has_bias: the outputs have a bias, 0 at first.
    """

    def __init__(
        self, channels_in: int, channels_out: int, kernel_px: int, has_bias: bool = True
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels_out, channels_in, kernel_px, kernel_px))
        self.bias = nn.Parameter(torch.zeros(channels_out)) if has_bias else None
        self._scale = 1 / math.sqrt(channels_in * kernel_px**2)

    def forward(self, maps: Tensor, gain: float = 1.0, stride: int = 1) -> Tensor:
        """Return gain * (W * x + b), in the precision of the input.

        Args:
            maps: [N, channels_in, H, W].
            gain: factor of the result.
            stride: 1 keeps the resolution; any other expects maps that are padded already.
        """
        weight = (self.weight * (self._scale * gain)).to(maps.dtype)
        bias = None if self.bias is None else (self.bias * gain).to(maps.dtype)
        padding = weight.shape[-1] // 2 if stride == 1 else 0
        return F.conv2d(maps, weight, bias, stride, padding)


def activate(values: Tensor, clamp: float | None = None) -> Tensor:
    """Apply the leaky ReLU, in place.

    It is positively homogeneous: its gain is not applied here but in the layer before, where it
    costs no pass over the feature maps.

    Args:
        values: of any shape; overwritten.
        clamp: largest magnitude of the result; None for no bound.
    """
    activated = F.leaky_relu(values, SLOPE, inplace=True)
    return activated if clamp is None else activated.clamp(-clamp, clamp)


class MappingNetwork(nn.Module):
    """A multilayer perceptron over normalised latents, with its own learning-rate multiplier.

    Source: Karras et al. 2019, section 2 and appendix C.
    """

    def __init__(self, settings: StyleGan2Settings) -> None:
        super().__init__()
        widths = [settings.latent_dim, *[settings.style_dim] * settings.mapping_layers]
        self.layers = nn.ModuleList(
            EqualizedLinear(num_inputs, num_outputs, lr_multiplier=settings.mapping_lr_multiplier)
            for num_inputs, num_outputs in pairwise(widths)
        )

    def forward(self, latents: Tensor) -> Tensor:
        """Return styles [N, style_dim] of latents [N, latent_dim]."""
        values = normalize(latents)
        for layer in self.layers:
            values = activate(layer(values, ACTIVATION_GAIN))
        return values


def normalize(latents: Tensor) -> Tensor:
    """Scale each latent [N, latent_dim] to a mean square of 1."""
    return latents * torch.rsqrt(latents.square().mean(dim=1, keepdim=True) + _EPSILON)
