"""The GANs of several instances as one: both networks, their optimisers, the averages.

The trainers of the instances stay what they are: their tensors become views of the stacked ones,
so that a state is saved, and a result written, as for an instance that trains alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from knowledge_gaps.study import GanRecipe
from knowledge_gaps.training.average import WeightAverage, compute_average_decay
from knowledge_gaps.training.batched.network import StackedNetwork
from knowledge_gaps.training.batched.optimizer import StackedOptimizer
from knowledge_gaps.training.gan import GanTrainer
from knowledge_gaps.training.phases import DISCRIMINATOR, GENERATOR

_AVERAGE = "average"


class GanStack:
    """The GANs of several trainers, all after as many steps.

    Args:
        trainers: of one cohort; their tensors become views of the stacked ones.
        recipe: how they are trained.

    Attributes:
        generator: of all instances.
        discriminator: of all instances.
        optimizers: by the names of `knowledge_gaps.training.phases`.
    """

    def __init__(self, trainers: Sequence[GanTrainer], recipe: GanRecipe) -> None:
        self._trainers, self._recipe = trainers, recipe
        networks = {
            name: StackedNetwork([trainer.modules[name] for trainer in trainers])
            for name in (GENERATOR, DISCRIMINATOR)
        }
        self.generator, self.discriminator = networks[GENERATOR], networks[DISCRIMINATOR]
        self.optimizers = {
            name: StackedOptimizer(
                network,
                [trainer.optimizers[name][0] for trainer in trainers],
                trainers[0].optimizers[name][1],
            )
            for name, network in networks.items()
        }
        self._averages = [trainer.modules.get(_AVERAGE) for trainer in trainers]
        self._average: StackedNetwork | None = None
        if recipe.ema_decay is not None:
            self._average = StackedNetwork([_get_averaged(average) for average in self._averages])
        for network in networks.values():
            network.train()

    def set_rates(self, step: int) -> None:
        """Set the learning rates of a step."""
        for optimizer in self.optimizers.values():
            optimizer.set_rate(step, self._recipe.steps)

    @torch.no_grad()
    def move_average(self, step: int) -> None:
        """Move the averages as `average.WeightAverage` does, after a step that `step` preceded."""
        decay = self._recipe.ema_decay
        if self._average is None or decay is None:
            return
        averages = list(self._average.parameters.values())
        weights = list(self.generator.parameters.values())
        if step == 0:
            torch._foreach_copy_(averages, weights)
        else:
            decay = compute_average_decay(decay, self._recipe.ema_ramp_up, step)
            torch._foreach_lerp_(averages, weights, 1 - decay)
        if self._average.buffers:
            buffers = list(self._average.buffers.values())
            torch._foreach_copy_(buffers, list(self.generator.buffers.values()))

    def hand_back(self, step: int) -> None:
        """Let the trainers have the present state, after `step` steps."""
        if step == 0:
            return  # optimisers have no state before their first update
        for optimizer in self.optimizers.values():
            optimizer.hand_back()
        for average in self._averages:
            if isinstance(average, WeightAverage):
                average.n_averaged.fill_(step)


def _get_averaged(average: nn.Module | None) -> nn.Module:
    assert isinstance(average, WeightAverage)
    module: nn.Module = average.module
    return module
