"""Optimisers: how they are built, how their learning rate falls, and how an update is made."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.optim import Optimizer

from knowledge_gaps.study import OptimizerSettings
from knowledge_gaps.training.ranks import Ranks

if TYPE_CHECKING:
    from accelerate import Accelerator


def build_optimizer(
    accelerator: Accelerator, module: nn.Module, settings: OptimizerSettings, interval: int = 1
) -> Optimizer:
    """Build Adam for a network.

    Args:
        accelerator: wraps the optimiser where it scales losses (fp16). Elsewhere the wrapper would
            look for packages at every step, which takes as long as a small network's update.
        module: whose weights are updated.
        settings: from the recipe.
        interval: of a lazy regulariser that shares the optimiser; learning rate and betas are
            corrected by c = k / (k + 1) (Karras et al. 2020, appendix B); 1 for none.
    """
    correction = interval / (interval + 1) if interval > 1 else 1.0
    optimizer = torch.optim.AdamW(
        module.parameters(),
        lr=settings.learning_rate * correction,
        betas=(settings.betas[0] ** correction, settings.betas[1] ** correction),
        weight_decay=settings.weight_decay,
        fused=True,
    )
    if accelerator.scaler is None:
        return optimizer
    prepared: Optimizer = accelerator.prepare_optimizer(optimizer)
    return prepared


def clip_and_step(
    accelerator: Accelerator, module: nn.Module, optimizer: Optimizer, max_norm: float | None
) -> None:
    """End the last backward pass of an update: average over the ranks, clip, update, clear.

    The gradients are cleared here and never before a backward pass, so those of several
    micro-steps add up. Under a loss scaler the clipping unscales first, and gradients that are not
    finite lead to no update; all ranks have the same average, so they skip the same ones.

    Args:
        accelerator: unscales and clips.
        module: whose gradients they are.
        optimizer: from `build_optimizer`.
        max_norm: 2-norm that the gradients are clipped to; None for no clipping.
    """
    Ranks.of(accelerator).average_gradients(module)
    if max_norm is not None:
        accelerator.clip_grad_norm_(module.parameters(), max_norm)
    optimizer.step()
    optimizer.zero_grad()


def compute_decay(settings: OptimizerSettings, step: int, steps: int) -> float:
    """Return the factor of the learning rate at a step: 1 at first, towards 0 at the end."""
    start = settings.decay_from * steps
    if settings.schedule == "constant" or step < start:
        return 1.0
    if settings.schedule == "step":  # plateaus of a third each
        return 10.0 ** -math.floor(3 * (step - start) / (steps - start))
    remaining = (steps - step) / (steps - start)
    return remaining if settings.schedule == "linear" else (1 - math.cos(math.pi * remaining)) / 2
