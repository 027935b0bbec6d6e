"""What both trainers share: networks with their optimisers and their average, and how a step goes.

`knowledge_gaps.training.gan` and `knowledge_gaps.training.classifier` say what is computed in it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.optim import Optimizer

from knowledge_gaps.data.store import ImageStore
from knowledge_gaps.study import OptimizerSettings
from knowledge_gaps.training.batches import Stream
from knowledge_gaps.training.optimizers import WeightAverage, build_optimizer
from knowledge_gaps.training.ranks import Ranks

if TYPE_CHECKING:
    from accelerate import Accelerator

# the scalar to minimise, and scalars to log
Losses = tuple[Tensor, dict[str, Tensor]]


class Trainer(ABC):
    """One instance in training.

    Args:
        networks: to be trained, by name, each with its Adam's settings and the interval of a lazy
            regulariser (see `build_optimizer`); the first becomes the result.
        images: the reals.
        recipe: how to train.
        stream: random numbers of the instance.
        accelerator: device, precision and processes.

    Attributes:
        modules: every network with state, by name: what is trained, and averages of it.
        optimizers: by name, each with the settings that its learning rate follows.
        scalars: what else the next step depends on: float tensors without dimensions, by name.
    """

    def __init__(
        self,
        networks: Mapping[str, tuple[nn.Module, OptimizerSettings, int]],
        images: ImageStore,
        recipe: Any,
        stream: Stream,
        accelerator: Accelerator,
    ) -> None:
        self.images, self.recipe, self.stream, self.accelerator = (
            images,
            recipe,
            stream,
            accelerator,
        )
        self.ranks = Ranks.of(accelerator)
        self._trained = [network.to(accelerator.device) for network, _, _ in networks.values()]
        self.modules = dict(zip(networks, self._trained, strict=True))
        self.optimizers: dict[str, tuple[Optimizer, OptimizerSettings]] = {
            name: (build_optimizer(accelerator, network, settings, interval), settings)
            for name, (network, settings, interval) in networks.items()
        }
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
        """Update one network once; return the scalars as means over the micro-steps.

        Gradients are cleared after the update and never before a backward pass, so those of several
        micro-steps add up. Under a loss scaler the clipping unscales first, and gradients that are
        not finite lead to no update; all ranks have the same average, so they skip the same ones.
        """
        num_micro_steps = self.recipe.gradient_accumulation_steps
        means: dict[str, Tensor] = {}
        for micro_step in range(num_micro_steps):
            loss, logged = compute(micro_step)
            self.accelerator.backward(loss)
            for key, value in logged.items():
                means[key] = means.get(key, 0) + value.detach() / num_micro_steps
        weights, optimizer = list(self.modules[name].parameters()), self.optimizers[name][0]
        # a weight without a gradient has none on any rank
        self.ranks.average([value.grad for value in weights if value.grad is not None])
        if self.recipe.max_gradient_norm is not None:
            self.accelerator.clip_grad_norm_(weights, self.recipe.max_gradient_norm)
        optimizer.step()
        optimizer.zero_grad()
        return means
