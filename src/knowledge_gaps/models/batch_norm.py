"""Batch normalisation whose statistics are taken fast on a CPU.

torch's own takes most of its forward pass there for mean and variance, one value after the other.
Here they are sums over whole tensors, in two passes, and everything else is torch's: the same
function up to rounding (`python benchmarks/layers.py` times both). State, buffers and their updates
are those of `torch.nn.BatchNorm2d`, and in evaluation mode, or where
`knowledge_gaps.models.hand_written` says so, so is the rest.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from knowledge_gaps.models.hand_written import is_hand_written

_CHANNELWISE = (0, 2, 3)  # the dimensions of [N, C, H, W] that are averaged over


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation (Ioffe & Szegedy 2015) with weights and running statistics.

    Args:
        num_features: channels.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features)

    def forward(self, features: Tensor) -> Tensor:
        """Return features [N, C, H, W], normalised by the batch's statistics in training."""
        count = features.numel() // self.num_features
        if not self.training or count == 1 or not is_hand_written(features):
            return super().forward(features)
        normalised: Tensor
        normalised, mean, variance = _Normalise.apply(features, self.weight, self.bias, self.eps)
        self._track(mean, variance * (count / (count - 1)))
        return normalised

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards a batch's mean and unbiased variance."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        for running, value in ((self.running_mean, mean), (self.running_var, variance)):
            running.mul_(1 - self.momentum).add_(value, alpha=self.momentum)


class _Normalise(Function):
    """Normalisation by a batch's own mean and variance, which it returns too, without gradient."""

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
