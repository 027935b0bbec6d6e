"""The moving average of a network's weights, which becomes the result of a training."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

_Tensors = list[Tensor] | tuple[Tensor, ...]


class WeightAverage(AveragedModel):
    """Exponential moving average of a network's weights; its buffers follow the network's.

    Source: Karras et al. 2018, appendix A (a running average of the generator's weights).

    Args:
        module: whose weights are averaged; it is copied.
        decay: in (0, 1).
        ramp_up: the half-life is at most this share of the steps so far; None for no limit.
    """

    def __init__(self, module: nn.Module, decay: float, ramp_up: float | None = None) -> None:
        super().__init__(module, multi_avg_fn=self._move)
        self._decay, self._ramp_up = decay, ramp_up
        self._present_decay = decay
        self.requires_grad_(False)

    def update(self, module: nn.Module, step: int) -> None:
        """Move the average towards the present weights; the first call copies them.

        Args:
            module: the network.
            step: how many steps were made before this one.
        """
        self._present_decay = compute_average_decay(self._decay, self._ramp_up, step)
        self.update_parameters(module)

    @torch.no_grad()
    def _move(self, averages: _Tensors, weights: _Tensors, num_averaged: Tensor | int) -> None:
        torch._foreach_lerp_(averages, weights, 1 - self._present_decay)


def compute_average_decay(decay: float, ramp_up: float | None, step: int) -> float:
    """Return the decay of a step: d, or less while d's half-life is too large a share of the steps.

    Args:
        decay: d, in (0, 1); its half-life is ln 0.5 / ln d steps.
        ramp_up: the largest half-life as a share of the steps so far; None for no limit.
        step: steps so far; at 0 nothing is kept.
    """
    if ramp_up is None:
        return decay
    half_life = ramp_up * step
    return min(decay, math.exp(-math.log(2) / half_life)) if half_life > 0 else 0.0
