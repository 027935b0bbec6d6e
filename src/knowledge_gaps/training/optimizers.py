"""How weights move: Adam, its learning rate's fall, and the average of the weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from knowledge_gaps.study import OptimizerSettings

if TYPE_CHECKING:
    from accelerate import Accelerator


def build_optimizer(
    accelerator: Accelerator, module: nn.Module, settings: OptimizerSettings, interval: int = 1
) -> Optimizer:
    """Build Adam for a network.

    The interval is that of a lazy regulariser that shares the optimiser, 1 for none: learning rate
    and betas are corrected by c = k / (k + 1) (Karras et al. 2020, appendix B).
    """
    correction = interval / (interval + 1) if interval > 1 else 1.0
    optimizer = torch.optim.AdamW(
        module.parameters(),
        lr=settings.learning_rate * correction,
        betas=(settings.betas[0] ** correction, settings.betas[1] ** correction),
        weight_decay=settings.weight_decay,
        fused=True,
    )
    # elsewhere accelerate's wrapper looks for packages at every step, which takes as long as a
    # small network's update
    if accelerator.scaler is None:
        return optimizer
    prepared: Optimizer = accelerator.prepare_optimizer(optimizer)
    return prepared


def compute_decay(settings: OptimizerSettings, step: int, steps: int) -> float:
    """Return the factor of the learning rate at a step: 1 at first, towards 0 at the end."""
    start = settings.decay_from * steps
    if settings.schedule == "constant" or step < start:
        return 1.0
    if settings.schedule == "step":  # plateaus of a third each
        return 10.0 ** -math.floor(3 * (step - start) / (steps - start))
    remaining = (steps - step) / (steps - start)
    return remaining if settings.schedule == "linear" else (1 - math.cos(math.pi * remaining)) / 2


class WeightAverage(AveragedModel):
    """Exponential moving average of a network's weights; its buffers follow the network's.

    Source: Karras et al. 2018, appendix A (a running average of the generator's weights).

    Args:
        module: whose weights are averaged; it is copied.
        decay: in (0, 1).
        ramp_up: the half-life is at most this share of the steps so far; None for no limit.
    """

    def __init__(self, module: nn.Module, decay: float, ramp_up: float | None = None) -> None:
        super().__init__(module, multi_avg_fn=get_ema_multi_avg_fn(decay))
        self._decay, self._ramp_up = decay, ramp_up
        self.requires_grad_(False)

    def update(self, module: nn.Module, step: int) -> None:
        """Move the average towards a network's weights after so many steps; the first call copies.

        Without a ramp-up the half-life is that of the decay, ln 0.5 / ln d steps.
        """
        if self._ramp_up is not None:
            half_life = self._ramp_up * step
            decay = math.exp(-math.log(2) / half_life) if half_life > 0 else 0.0
            self.multi_avg_fn = get_ema_multi_avg_fn(min(self._decay, decay))
        self.update_parameters(module)
