"""The GAN loop: one step of generator and discriminator, for every architecture and every loss.

A step is a list of phases, each a record of which network is updated, how often and by which loss;
regularisers are further phases. Fool-all, memoryless, multi-instance and the weighted form are one
fooling term over the list of frozen classifiers that the trainer is given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from knowledge_gaps.data.images import to_float
from knowledge_gaps.losses import (
    compute_adversarial_loss,
    compute_discriminator_loss,
    compute_fooling_loss,
    compute_r1_penalty,
    weigh_generator_loss,
)
from knowledge_gaps.models.frozen import freeze
from knowledge_gaps.models.input_spec import GanClassifier
from knowledge_gaps.models.registry import Generator
from knowledge_gaps.study import GanRecipe, OptimizerSettings
from knowledge_gaps.training.batches import Stream, draw_latents, draw_reals
from knowledge_gaps.training.loop import average_weights, build_optimizer, clip_and_step

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Fooling:
    """The fooling term of a generator's loss.

    Attributes:
        classifiers: frozen, in the order of their pool; none for a baseline.
        phi: weight, at least 0.
        form: "sum" or "weighted", see `losses.weigh_generator_loss`.
    """

    classifiers: Sequence[GanClassifier]
    phi: float
    form: str


@dataclass(frozen=True)
class GanBatch:
    """One batch: reals, latents, and generated images with their graph back to the generator.

    The discriminator's phase sees the generated images detached, the generator's with their graph:
    one generator pass serves both.
    """

    images_real: Tensor  # float32 [N, C, H, W] in [-1, 1]
    latents: Tensor  # float32 [N, latent_dim]
    images_generated: Tensor  # float32 [N, C, H, W] in [-1, 1]


@dataclass(frozen=True)
class Phase:
    """One update within a step.

    Attributes:
        name: for people.
        module: the only network whose weights get a gradient.
        optimizer: which updates them.
        interval: the phase runs every so many steps.
        compute_losses: from a batch to the scalar to minimise, and scalars to log.
    """

    name: str
    module: nn.Module
    optimizer: Optimizer
    interval: int
    compute_losses: Callable[[GanBatch], tuple[Tensor, dict[str, Tensor]]]


class GanTrainer:
    """A generator and a discriminator in training; a `loop.Trainer`.

    Args:
        generator: freshly initialised.
        discriminator: freshly initialised.
        fooling: the fooling term.
        images: the reals, uint8 [N, C, H, W].
        recipe: how to train.
        stream: random numbers of the instance.
        accelerator: device, precision and processes.
    """

    def __init__(
        self,
        generator: Generator,
        discriminator: nn.Module,
        fooling: Fooling,
        images: Tensor,
        recipe: GanRecipe,
        stream: Stream,
        accelerator: Accelerator,
    ) -> None:
        self._recipe, self._stream, self.accelerator = recipe, stream, accelerator
        self._images, self._latent_dim = images, generator.latent_dim
        self._fooling = Fooling(
            [freeze(classifier).to(accelerator.device) for classifier in fooling.classifiers],
            fooling.phi,
            fooling.form,
        )
        lazy_interval = recipe.r1_interval if recipe.r1_gamma > 0 else 1
        self.modules: dict[str, nn.Module] = {
            "generator": generator,
            "discriminator": discriminator,
        }
        self._generator, self._discriminator, generator_adam, discriminator_adam = (
            accelerator.prepare(
                generator,
                discriminator,
                build_optimizer(generator, recipe.generator_optimizer),
                build_optimizer(discriminator, recipe.discriminator_optimizer, lazy_interval),
            )
        )
        self.optimizers: dict[str, tuple[Optimizer, OptimizerSettings]] = {
            "generator": (generator_adam, recipe.generator_optimizer),
            "discriminator": (discriminator_adam, recipe.discriminator_optimizer),
        }
        self._average: AveragedModel | None = None
        if recipe.ema_decay is not None:
            self._average = self.modules["average"] = average_weights(generator, recipe.ema_decay)
        self.phases = self._list_phases()

    def run_step(self, step: int) -> dict[str, Tensor]:
        """Update both networks once; return the logged scalars."""
        self._stream.seed_layers(step, self.accelerator.device)
        self._generator.train()
        self._discriminator.train()
        self._generator.requires_grad_(True)
        accumulates = self._recipe.gradient_accumulation_steps > 1
        shared = None if accumulates else self._draw_batch(step, micro_step=0)
        logged: dict[str, Tensor] = {}
        for phase in self.phases:
            if step % phase.interval == 0:
                logged.update(self._run_phase(phase, step, shared))
        if self._average is not None:
            self._average.update_parameters(self.modules["generator"])
        return logged

    def get_result(self) -> Generator:
        """Return the generator that the training is for: the average where there is one."""
        generator = self._average.module if self._average is not None else self.modules["generator"]
        assert isinstance(generator, Generator)
        return generator

    def _draw_batch(self, step: int, micro_step: int) -> GanBatch:
        num_images = self._recipe.batch_size
        names = (step, micro_step)
        reals = draw_reals(self._stream, self._images, num_images, *names)
        latents = draw_latents(self._stream, num_images, self._latent_dim, *names)
        latents = latents.to(self.accelerator.device, non_blocking=True)
        with self.accelerator.autocast():
            images_generated = self._generator(latents)
        reals = reals.to(self.accelerator.device, non_blocking=True)
        return GanBatch(to_float(reals), latents, images_generated)

    def _run_phase(self, phase: Phase, step: int, shared: GanBatch | None) -> dict[str, Tensor]:
        """Update the phase's network once; return its scalars as means over the micro-steps.

        With gradient accumulation every phase draws its batches anew: keeping those of all
        micro-steps would take the memory that accumulation is to save.
        """
        for module in (self._generator, self._discriminator):
            module.requires_grad_(module is phase.module)
        num_micro_steps = self._recipe.gradient_accumulation_steps
        means: dict[str, Tensor] = {}
        for micro_step in range(num_micro_steps):
            with self.accelerator.accumulate(phase.module):
                batch = shared if shared is not None else self._draw_batch(step, micro_step)
                with self.accelerator.autocast():
                    loss, logged = phase.compute_losses(batch)
                self.accelerator.backward(loss)
                clip_and_step(
                    self.accelerator, phase.module, phase.optimizer, self._recipe.max_gradient_norm
                )
            for name, value in logged.items():
                means[name] = means.get(name, 0) + value.detach() / num_micro_steps
        return means

    def _list_phases(self) -> list[Phase]:
        adam = {name: pair[0] for name, pair in self.optimizers.items()}
        D, G = self._discriminator, self._generator
        phases = [Phase("discriminator", D, adam["discriminator"], 1, self._discriminate)]
        if self._recipe.r1_gamma > 0:
            interval = self._recipe.r1_interval
            phases.append(Phase("r1", D, adam["discriminator"], interval, self._regularise))
        phases.append(Phase("generator", G, adam["generator"], 1, self._fool))
        return phases

    def _discriminate(self, batch: GanBatch) -> tuple[Tensor, dict[str, Tensor]]:
        loss = compute_discriminator_loss(
            self._discriminator(batch.images_real),
            self._discriminator(batch.images_generated.detach()),
        )
        return loss, {"loss_discriminator": loss}

    def _regularise(self, batch: GanBatch) -> tuple[Tensor, dict[str, Tensor]]:
        # DEVIATION: the paper states no regulariser of the DCGAN's discriminator
        images_real = batch.images_real.detach().requires_grad_(True)
        penalty = compute_r1_penalty(images_real, self._discriminator(images_real))
        # lazy: the weight grows with the interval, so that its share of all updates stays
        weight = self._recipe.r1_gamma / 2 * self._recipe.r1_interval
        return weight * penalty, {"r1_penalty": penalty}

    def _fool(self, batch: GanBatch) -> tuple[Tensor, dict[str, Tensor]]:
        adversarial = compute_adversarial_loss(self._discriminator(batch.images_generated))
        if not self._fooling.classifiers:
            return adversarial, {"loss_generator": adversarial}
        logits = [classifier(batch.images_generated) for classifier in self._fooling.classifiers]
        fooling = compute_fooling_loss(logits)
        loss = weigh_generator_loss(adversarial, fooling, self._fooling.phi, self._fooling.form)
        return loss, {"loss_generator": adversarial, "loss_fooling": fooling}
