"""The GAN loop: one step of generator and discriminator, for every architecture and every loss.

A step is a list of phases, each a record of which network is updated, how often and by which loss;
regularisers are further phases (`knowledge_gaps.training.phases`). Fool-all, memoryless,
multi-instance and the weighted form are one fooling term over the list of frozen classifiers that
the trainer is given.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from knowledge_gaps.data.store import ImageStore
from knowledge_gaps.losses import average_path_lengths
from knowledge_gaps.models.fast_layers import fold_batch_norm
from knowledge_gaps.models.frozen import freeze
from knowledge_gaps.models.registry import Generator
from knowledge_gaps.study import GanRecipe, OptimizerSettings
from knowledge_gaps.training.average import WeightAverage
from knowledge_gaps.training.batches import Stream
from knowledge_gaps.training.gan_batch import GanBatch, GanSource
from knowledge_gaps.training.optimizers import build_optimizer, clip_and_step
from knowledge_gaps.training.phases import (
    DISCRIMINATOR,
    GENERATOR,
    PATH_LENGTH,
    PATH_LENGTH_MEAN,
    Fooling,
    GanLosses,
    Phase,
)
from knowledge_gaps.training.ranks import Ranks

if TYPE_CHECKING:
    from accelerate import Accelerator


class GanTrainer:
    """A generator and a discriminator in training; a `loop.Trainer`.

    Args:
        generator: freshly initialised.
        discriminator: freshly initialised.
        fooling: the fooling term.
        images: the reals.
        recipe: how to train.
        stream: random numbers of the instance.
        accelerator: device, precision and processes.

    Raises:
        UserError: for a recipe that the architecture cannot follow.
    """

    def __init__(
        self,
        generator: Generator,
        discriminator: nn.Module,
        fooling: Fooling,
        images: ImageStore,
        recipe: GanRecipe,
        stream: Stream,
        accelerator: Accelerator,
    ) -> None:
        device = accelerator.device
        self._recipe, self._stream, self.accelerator = recipe, stream, accelerator
        self._ranks = Ranks.of(accelerator)
        self._generator, self._discriminator = generator.to(device), discriminator.to(device)
        self._source = GanSource(self._generator, images, recipe, stream, accelerator)
        classifiers = [
            fold_batch_norm(freeze(classifier)).to(device) for classifier in fooling.classifiers
        ]
        self.fooling = Fooling(classifiers, fooling.phi, fooling.form)
        self.modules: dict[str, nn.Module] = {
            GENERATOR: self._generator,
            DISCRIMINATOR: self._discriminator,
        }
        self.optimizers = self._build_optimizers()
        self.scalars: dict[str, Tensor] = {}
        if recipe.path_length_weight > 0:
            self.scalars[PATH_LENGTH_MEAN] = torch.zeros((), device=device)
        self._average: WeightAverage | None = None
        if recipe.ema_decay is not None:
            self._average = WeightAverage(generator, recipe.ema_decay, recipe.ema_ramp_up)
            self.modules["average"] = self._average
        losses = GanLosses(generator, discriminator, self.fooling, recipe, self.scalars)
        adam = {name: optimizer for name, (optimizer, _) in self.optimizers.items()}
        self.phases = losses.list_phases(adam)

    def run_step(self, step: int) -> dict[str, Tensor]:
        """Update both networks once; return the logged scalars."""
        self._stream.seed_layers(step, self.accelerator.device, self._ranks.index)
        self._generator.train()
        self._discriminator.train()
        shared = self._draw_shared_batch(step)
        logged: dict[str, Tensor] = {}
        for phase in self.phases:
            if step % phase.interval == 0:
                logged.update(self._run_phase(phase, step, shared))
        self._ranks.average_buffers([self._generator, self._discriminator])
        logged = self._ranks.average_scalars(logged)
        if PATH_LENGTH in logged:
            mean, decay = self.scalars[PATH_LENGTH_MEAN], self._recipe.path_length_decay
            mean = average_path_lengths(mean, logged[PATH_LENGTH], decay)
            self.scalars[PATH_LENGTH_MEAN] = logged[PATH_LENGTH_MEAN] = mean
        if self._average is not None:
            self._average.update(self._generator, step)
        return logged

    def is_finished(self, step: int) -> bool:
        """Tell whether the training ends before its last step: a GAN's never does."""
        return False

    def get_result(self) -> Generator:
        """Return the generator that the training is for: the average where there is one."""
        generator = self._generator if self._average is None else self._average.module
        assert isinstance(generator, Generator)
        return generator

    def _build_optimizers(self) -> dict[str, tuple[Optimizer, OptimizerSettings]]:
        """Build both networks' optimisers, each corrected for its lazy regulariser if any."""
        recipe = self._recipe
        intervals = {
            GENERATOR: recipe.path_length_interval if recipe.path_length_weight > 0 else 1,
            DISCRIMINATOR: recipe.r1_interval if recipe.r1_gamma > 0 else 1,
        }
        settings = {
            GENERATOR: recipe.generator_optimizer,
            DISCRIMINATOR: recipe.discriminator_optimizer,
        }
        return {
            name: (
                build_optimizer(self.accelerator, self.modules[name], adam, intervals[name]),
                adam,
            )
            for name, adam in settings.items()
        }

    def _draw_shared_batch(self, step: int) -> GanBatch | None:
        """Draw the batch that all phases share, generated images with their graph included.

        With gradient accumulation every phase draws its batches anew: keeping those of all
        micro-steps would take the memory that accumulation is to save.
        """
        if self._recipe.gradient_accumulation_steps > 1:
            return None
        self._generator.requires_grad_(True)
        return GanBatch(self._source, step, micro_step=0, keeps_graph=True)

    def _run_phase(self, phase: Phase, step: int, shared: GanBatch | None) -> dict[str, Tensor]:
        """Update the phase's network once; return its scalars as means over the micro-steps."""
        for module in (self._generator, self._discriminator):
            module.requires_grad_(module is phase.module)
        num_micro_steps = self._recipe.gradient_accumulation_steps
        means: dict[str, Tensor] = {}
        for micro_step in range(num_micro_steps):
            batch = GanBatch(self._source, step, micro_step) if shared is None else shared
            with nullcontext() if phase.is_full_precision else self.accelerator.autocast():
                loss, logged = phase.compute_losses(batch)
            self.accelerator.backward(loss)
            for name, value in logged.items():
                means[name] = means.get(name, 0) + value.detach() / num_micro_steps
        max_norm = self._recipe.max_gradient_norm
        clip_and_step(self.accelerator, phase.module, phase.optimizer, max_norm)
        return means
