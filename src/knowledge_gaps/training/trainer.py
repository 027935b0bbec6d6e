"""What both trainers share: Adam, the average of the weights, and how a step goes.

`knowledge_gaps.training.gan` and `knowledge_gaps.training.classifier` say what is computed in it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from knowledge_gaps.data.store import Images
from knowledge_gaps.study import OptimizerSettings
from knowledge_gaps.training.batches import Stream
from knowledge_gaps.training.ranks import Ranks, build_accelerator

# the scalar to minimise, and scalars to log
Losses = tuple[Tensor, dict[str, Tensor]]


def build_optimizer(module: nn.Module, settings: OptimizerSettings, interval: int = 1) -> Optimizer:
    """Build Adam for a network.

    With a lazy regulariser's interval k > 1, learning rate and betas are corrected by k / (k + 1)
    (Karras et al. 2020, appendix B).
    """
    correction = interval / (interval + 1) if interval > 1 else 1.0
    rate = settings.learning_rate * correction
    return torch.optim.AdamW(
        [{"params": module.parameters(), "initial_lr": rate, "schedule": settings.schedule}],
        lr=rate,
        betas=(settings.betas[0] ** correction, settings.betas[1] ** correction),
        weight_decay=settings.weight_decay,
        fused=True,
    )


def compute_decay(schedule: str, step: int, steps: int) -> float:
    """Return the factor of the learning rate at a step: 1 at first, towards 0 at the end."""
    if schedule == "constant":
        return 1.0
    if schedule == "step":  # plateaus of a third each
        return 10.0 ** -math.floor(3 * step / steps)
    remaining = (steps - step) / steps
    if schedule == "late_linear":
        return min(1.0, 2 * remaining)
    return remaining if schedule == "linear" else (1 - math.cos(math.pi * remaining)) / 2


class WeightAverage(AveragedModel):
    """Exponential moving average of a network's weights (Karras et al. 2018, appendix A).

    Its buffers follow the network's; the half-life is at most the share `ramp_up` of the steps.
    """

    def __init__(self, module: nn.Module, decay: float, ramp_up: float | None = None) -> None:
        super().__init__(module, multi_avg_fn=get_ema_multi_avg_fn(decay))
        self._decay, self._ramp_up = decay, ramp_up
        self.requires_grad_(False)

    def update(self, module: nn.Module, step: int) -> None:
        """Move the average towards the weights after so many steps; the first call copies them."""
        if self._ramp_up is not None:
            half_life = self._ramp_up * step
            decay = math.exp(-math.log(2) / half_life) if half_life > 0 else 0.0
            self.multi_avg_fn = get_ema_multi_avg_fn(min(self._decay, decay))
        self.update_parameters(module)


class Trainer(ABC):
    """One instance in training, of networks by name with Adam's settings and interval.

    The first network becomes the result. Images are the reals.
    """

    def __init__(
        self,
        networks: Mapping[str, tuple[nn.Module, OptimizerSettings, int]],
        images: Images,
        recipe: Any,
        stream: Stream,
        worker: int,
    ) -> None:
        self.images, self.recipe, self.stream = images, recipe, stream
        self.accelerator = build_accelerator(recipe, worker)
        self.ranks = Ranks(self.accelerator.num_processes, self.accelerator.process_index)
        self._trained = [network.to(self.accelerator.device) for network, _, _ in networks.values()]
        # every network with state, by name: what is trained, and averages of it
        self.modules = dict(zip(networks, self._trained, strict=True))
        self.optimizers = {name: build_optimizer(*entry) for name, entry in networks.items()}
        # what else the next step depends on: float tensors without dimensions
        self.scalars: dict[str, Tensor] = {}
        self._average: WeightAverage | None = None
        if recipe.ema_decay is not None:
            self._average = WeightAverage(self._trained[0], recipe.ema_decay, recipe.ema_ramp_up)
            self.modules["average"] = self._average

    def run_step(self, step: int) -> dict[str, Tensor]:
        """Make one update of every network; return scalars to log, detached."""
        self.stream.seed_layers(step, self.accelerator.device, self.ranks.index)
        for network in self._trained:
            network.train()
        logged = self._update(step)
        self.ranks.average_buffers(self._trained)
        logged = self.ranks.average_scalars(logged)
        if self._average is not None:
            self._average.update(self._trained[0], step)
        return logged | self._finish_step(step, logged)

    def is_finished(self) -> bool:
        """Tell whether the training ends before its last step."""
        return False

    def get_result(self) -> nn.Module:
        """Return the network that the training is for: the average where there is one."""
        return self._trained[0] if self._average is None else self._average.module

    @abstractmethod
    def _update(self, step: int) -> dict[str, Tensor]:
        """Update every network; return this rank's scalars."""

    def _finish_step(self, step: int, logged: dict[str, Tensor]) -> dict[str, Tensor]:
        """Do what follows a step's updates, given all ranks' scalars; return further scalars."""
        return {}

    def _accumulate(self, name: str, compute: Callable[[int], Losses]) -> dict[str, Tensor]:
        """Update one network once; return the scalars as means over the micro-steps."""
        num_micro_steps = self.recipe.gradient_accumulation_steps
        means: dict[str, Tensor] = {}
        for micro_step in range(num_micro_steps):
            loss, logged = compute(micro_step)
            self.accelerator.backward(loss)
            for key, value in logged.items():
                means[key] = means.get(key, 0) + value.detach() / num_micro_steps
        weights, optimizer = list(self.modules[name].parameters()), self.optimizers[name]
        # a weight without a gradient has none on any rank
        self.ranks.average([value.grad for value in weights if value.grad is not None])
        if self.recipe.max_gradient_norm is not None:
            self.accelerator.clip_grad_norm_(weights, self.recipe.max_gradient_norm)
        optimizer.step()
        optimizer.zero_grad()
        return means
