"""Layers whose gradients are written by hand, and folding: 14 to 19 % of a training step on a CPU.

Each layer is torch's own function up to rounding, and torch's own layer on a GPU or under autocast.

Strided convolutions: from a feature map to an image, which has few channels, the CPU's library
takes many times as long as in other layers of as many operations. Here that way is a product and an
overlapping sum, the transpose of unfolding.

Batch normalisation: mean and variance are sums over whole tensors, in two passes. In a frozen
network they are constants, which are folded into the layer before.
"""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.utils.fusion import fuse_conv_bn_eval

_STRIDE = 2
_MOST_CHANNELS = 4  # of an image; the library's own way is the faster one from about 16 on
_WEIGHT_ONLY = [False, True, False]  # of input, weight and bias
_CHANNELWISE = (0, 2, 3)  # the dimensions of [N, C, H, W] that are averaged over

_Module = TypeVar("_Module", bound=nn.Module)


def _is_hand_written(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


class HalvingConv2d(nn.Conv2d):
    """A convolution of stride 2, with `padding` pixels of zeros around its input."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel_px: int, padding: int, bias: bool = True
    ) -> None:
        super().__init__(channels_in, channels_out, kernel_px, _STRIDE, padding, bias=bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return features [N, channels_out, h, w] of images [N, channels_in, H, W]."""
        if self.in_channels > _MOST_CHANNELS or not _is_hand_written(images):
            return super().forward(images)
        features: Tensor = _Convolve.apply(images, self.weight, self.bias, self.padding[0], None)
        return features


class DoublingConv2d(nn.ConvTranspose2d):
    """A transposed convolution of stride 2, to twice its input's sides; the kernel's are even."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel_px: int, bias: bool = True
    ) -> None:
        padding = kernel_px // 2 - 1
        super().__init__(channels_in, channels_out, kernel_px, _STRIDE, padding, bias=bias)

    def forward(self, features: Tensor) -> Tensor:  # type: ignore[override]  # torch: output_size
        """Return images [N, channels_out, 2h, 2w] of features [N, channels_in, h, w]."""
        if self.out_channels > _MOST_CHANNELS or not _is_hand_written(features):
            return super().forward(features)
        size = (_STRIDE * features.shape[2], _STRIDE * features.shape[3])
        images: Tensor = _Convolve.apply(features, self.weight, self.bias, self.padding[0], size)
        return images


class _Convolve(Function):
    """A convolution or, to images of a given size, its transpose: each is the other's gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        padding: int,
        size: tuple[int, int] | None,
    ) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.padding, ctx.is_transposed = padding, size is not None
        if size is None:
            return F.conv2d(inputs, weight, bias, _STRIDE, padding)
        taps = weight.flatten(1).T.expand(len(inputs), -1, -1)  # [N, image channels * k * k, c]
        patches = torch.bmm(taps, inputs.flatten(2))
        images = F.fold(patches, size, weight.shape[2:], padding=padding, stride=_STRIDE)
        return images if bias is None else images.add_(bias[:, None, None])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        of_inputs, of_weight, of_bias = ctx.needs_input_grad[:3]
        grads: list[Tensor | None] = [None] * 5
        if of_inputs:
            size = None if ctx.is_transposed else inputs.shape[2:]
            grads[0] = _Convolve.apply(grad, weight, None, ctx.padding, size)
        if of_weight:
            pair = (inputs, grad) if ctx.is_transposed else (grad, inputs)  # features, images
            pads, once = [ctx.padding] * 2, [1, 1]
            # `torch.nn.grad.conv2d_weight` shows the library no memory format, and it rearranges
            # its input
            grads[1] = torch.ops.aten.convolution_backward(
                *pair, weight, None, [_STRIDE] * 2, pads, once, False, [0, 0], 1, _WEIGHT_ONLY
            )[1]
        if of_bias:
            grads[2] = grad.sum(_CHANNELWISE)
        return tuple(grads)


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation (Ioffe & Szegedy 2015) with weights and running statistics."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def forward(self, features: Tensor) -> Tensor:
        """Return features [N, C, H, W], normalised by the batch's statistics in training."""
        count = features.numel() // self.num_features
        if not self.training or count == 1 or not _is_hand_written(features):
            return super().forward(features)
        with torch.no_grad():
            mean = features.mean(_CHANNELWISE)
            variance = (features - mean[:, None, None]).square_().mean(_CHANNELWISE)
            unbiased = variance * (count / (count - 1))
            self.num_batches_tracked.add_(1)
            for running, value in ((self.running_mean, mean), (self.running_var, unbiased)):
                running.mul_(1 - self.momentum).add_(value, alpha=self.momentum)
        normalised: Tensor = _Normalise.apply(
            features, self.weight, self.bias, mean, variance, self.eps
        )
        return normalised


class _Normalise(Function):
    """Normalisation by a batch's own mean and variance, float [C]."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        variance: Tensor,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(features, weight, mean, variance)
        ctx.eps = eps
        return F.batch_norm(features, mean, variance, weight, bias, eps=eps)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, mean, variance = ctx.saved_tensors
        inverse_std = torch.rsqrt(variance + ctx.eps)
        needs = list(ctx.needs_input_grad[:3])
        # knows how mean and deviation follow from the features, also in its own derivative
        grads = torch.ops.aten.native_batch_norm_backward(
            grad, features, weight, None, None, mean, inverse_std, True, ctx.eps, needs
        )
        return (*grads, None, None, None)


def fold_batch_norm(network: _Module) -> _Module:
    """Copy a frozen network, with normalisations after convolutions of a row folded into them."""
    folded = copy.deepcopy(network)
    for row in [module for module in folded.modules() if isinstance(module, nn.Sequential)]:
        for index, (layer, norm) in enumerate(pairwise(list(row))):
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                row[index], row[index + 1] = fuse_conv_bn_eval(layer, norm), nn.Identity()
    return folded
