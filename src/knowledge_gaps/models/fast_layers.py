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
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.modules.batchnorm import _BatchNorm
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
        features: Tensor = _ToFeatures.apply(images, self.weight, self.bias, self.padding[0])
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
        images: Tensor = _ToImages.apply(features, self.weight, self.padding[0], size)
        return images if self.bias is None else images + self.bias[:, None, None]


class _ToFeatures(Function):
    """Convolution; its gradient with respect to the images is `_ToImages`."""

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, padding: int
    ) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.padding = padding
        return F.conv2d(images, weight, bias, _STRIDE, padding)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        of_images, of_weight, of_bias, _ = ctx.needs_input_grad
        size = tuple(images.shape[2:])
        return (
            _ToImages.apply(grad, weight, ctx.padding, size) if of_images else None,
            _differentiate_weight(grad, images, weight, ctx.padding) if of_weight else None,
            grad.sum((0, 2, 3)) if of_bias else None,
            None,
        )


class _ToImages(Function):
    """Transposed convolution; its gradient with respect to the features is `_ToFeatures`."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, padding: int, size: tuple[int, int]
    ) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.padding = padding
        taps = weight.flatten(1).T.expand(len(features), -1, -1)  # [N, image channels * k * k, c]
        patches = torch.bmm(taps, features.flatten(2))
        kernel_px = (weight.shape[2], weight.shape[3])
        return F.fold(patches, size, kernel_px, padding=padding, stride=_STRIDE)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        features, weight = ctx.saved_tensors
        of_features, of_weight, _, _ = ctx.needs_input_grad
        return (
            _ToFeatures.apply(grad, weight, None, ctx.padding) if of_features else None,
            _differentiate_weight(features, grad, weight, ctx.padding) if of_weight else None,
            None,
            None,
        )


def _differentiate_weight(features: Tensor, images: Tensor, weight: Tensor, padding: int) -> Tensor:
    """Return the gradient of sum(features * convolution(images)) with respect to the weight."""
    # `torch.nn.grad.conv2d_weight` shows the library no memory format, and it rearranges its input
    pads, once = [padding] * 2, [1, 1]
    grads = torch.ops.aten.convolution_backward(
        features, images, weight, None, [_STRIDE] * 2, pads, once, False, [0, 0], 1, _WEIGHT_ONLY
    )
    gradient: Tensor = grads[1]
    return gradient


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation (Ioffe & Szegedy 2015) with weights and running statistics."""

    def forward(self, features: Tensor) -> Tensor:
        """Return features [N, C, H, W], normalised by the batch's statistics in training."""
        count = features.numel() // self.num_features
        if not self.training or count == 1 or not _is_hand_written(features):
            return super().forward(features)
        normalised: Tensor
        normalised, mean, variance = _Normalise.apply(features, self.weight, self.bias, self.eps)
        self._track(mean, variance * (count / (count - 1)))
        return normalised

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards a batch's mean and unbiased variance."""
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        for running, value in ((self.running_mean, mean), (self.running_var, variance)):
            assert running is not None
            running.mul_(1 - self.momentum).add_(value, alpha=self.momentum)


class _Normalise(Function):
    """Normalisation by a batch's own mean and variance, which are returned without gradient."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean = features.mean(_CHANNELWISE)
        variance = (features - mean[:, None, None]).square_().mean(_CHANNELWISE)
        normalised = F.batch_norm(features, mean, variance, weight, bias, eps=eps)
        ctx.mark_non_differentiable(mean, variance)
        ctx.save_for_backward(features, weight, mean, variance)
        ctx.eps = eps
        return normalised, mean, variance

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, mean, variance = ctx.saved_tensors
        inverse_std = torch.rsqrt(variance + ctx.eps)
        needs = list(ctx.needs_input_grad[:3])
        # knows how mean and deviation follow from the features, also in its own derivative
        grads = torch.ops.aten.native_batch_norm_backward(
            grad, features, weight, None, None, mean, inverse_std, True, ctx.eps, needs
        )
        return (*grads, None)


def fold_batch_norm(network: _Module) -> _Module:
    """Copy a frozen network, with normalisations after convolutions of a row folded into them."""
    if network.training:
        raise ValueError("only a frozen network's batch normalisation can be folded")
    folded = copy.deepcopy(network)
    for row in list(folded.modules()):
        if isinstance(row, nn.Sequential):
            _fold_row(row)
    return folded.requires_grad_(False)


def _fold_row(row: nn.Sequential) -> None:
    layers = list(row)
    del row[:]
    for layer in layers:
        if len(row) > 0 and isinstance(row[-1], nn.Conv2d) and isinstance(layer, _BatchNorm):
            row[-1] = fuse_conv_bn_eval(row[-1], layer)
        else:
            row.append(layer)
