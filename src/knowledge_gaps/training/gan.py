"""The GAN loop: one step of generator and discriminator, for every architecture and every loss.

A step is a list of phases; a new regulariser is one more phase.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

import torch
from torch import Tensor, nn

from knowledge_gaps import losses
from knowledge_gaps.data.images import to_float
from knowledge_gaps.data.store import Images
from knowledge_gaps.models.frozen import freeze
from knowledge_gaps.models.input_spec import GanClassifier
from knowledge_gaps.models.registry import Generator, StyleGenerator
from knowledge_gaps.study import GanRecipe
from knowledge_gaps.training.batches import Stream, draw_latents, draw_mirrored, draw_reals, mirror
from knowledge_gaps.training.task import count_path_images
from knowledge_gaps.training.trainer import Losses, Trainer

_GENERATOR, _DISCRIMINATOR = "generator", "discriminator"
_PATH_LENGTH, _PATH_LENGTH_MEAN = "path_length", "path_length_mean"


@dataclass(frozen=True)
class Fooling:
    """The fooling term of a generator's loss, see `losses.weigh_generator_loss`.

    The classifiers are frozen, in the order of their pool; a baseline has none.
    """

    classifiers: Sequence[GanClassifier]
    phi: float
    form: str


@dataclass(frozen=True)
class Phase:
    """One update, every `interval` steps, of the only network whose weights get a gradient.

    Full precision is for regularisers: a gradient of a gradient leaves half precision's range.
    """

    name: str
    network: str
    compute_losses: Callable[[GanBatch], Losses]
    interval: int = 1
    is_full_precision: bool = False


class GanBatch:
    """One batch, or this rank's part of it; every part is made when it is first asked for.

    Where one batch serves a whole step, one generator pass serves both networks.
    """

    def __init__(self, trainer: GanTrainer, step: int, micro_step: int) -> None:
        self._trainer, self._names = trainer, (step, micro_step)
        self._stream, self._recipe = trainer.stream, trainer.recipe
        self._device, self._ranks = trainer.accelerator.device, trainer.ranks

    @cached_property
    def images_real(self) -> Tensor:
        """The reals, float32 [N, C, H, W] in [-1, 1]."""
        num_images, images = self._recipe.batch_size, self._trainer.images
        part = self._ranks.cut(num_images)
        reals = draw_reals(self._stream, images, num_images, *self._names, part=part)
        if self._recipe.mirror:
            reals = mirror(reals, draw_mirrored(self._stream, num_images, *self._names)[part])
        return to_float(reals.to(self._device, non_blocking=True))

    @cached_property
    def images_generated(self) -> Tensor:
        """Generated images, float32 [N, C, H, W], with a graph where G's weights take gradients."""
        latents = self._draw_latents(self._recipe.batch_size)
        with self._trainer.accelerator.autocast():
            images: Tensor = self._trainer.generator(latents)
        return images.float()

    def draw_paths(self) -> tuple[Tensor, Tensor]:
        """Draw latents [M, latent_dim] and, image by image, noise [M, C, H, W] for path lengths."""
        num_images, shape = count_path_images(self._recipe), self._trainer.images.shape[1:]
        part = self._ranks.cut(num_images)
        generators = (
            self._stream.make_generator("path_length_noise", *self._names, index)
            for index in range(part.start, part.stop)
        )
        noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
        latents = self._draw_latents(num_images, "path_length")
        return latents, noise.to(self._device, non_blocking=True)

    def _draw_latents(self, num_latents: int, *purpose: str) -> Tensor:
        latent_dim = self._trainer.generator.latent_dim
        latents = draw_latents(self._stream, num_latents, latent_dim, *purpose, *self._names)
        return latents[self._ranks.cut(num_latents)].to(self._device, non_blocking=True)


class GanTrainer(Trainer):
    """A freshly initialised generator and discriminator in training; see `Trainer`."""

    recipe: GanRecipe

    def __init__(
        self,
        generator: Generator,
        discriminator: nn.Module,
        fooling: Fooling,
        images: Images,
        recipe: GanRecipe,
        stream: Stream,
        worker: int = 0,
    ) -> None:
        self.phases = [Phase("discriminator", _DISCRIMINATOR, self._compute_discriminator_losses)]
        if recipe.r1_gamma > 0:
            interval, compute = recipe.r1_interval, self._compute_r1_losses
            self.phases += [Phase("r1", _DISCRIMINATOR, compute, interval, True)]
        self.phases += [Phase("generator", _GENERATOR, self._compute_generator_losses)]
        if recipe.path_length_weight > 0:
            interval, compute = recipe.path_length_interval, self._compute_path_length_losses
            self.phases += [Phase(_PATH_LENGTH, _GENERATOR, compute, interval, True)]
        # a network's interval is that of its last phase, the regulariser where there is one
        intervals = {phase.network: phase.interval for phase in self.phases}
        adam_g, adam_d = recipe.generator_optimizer, recipe.discriminator_optimizer
        networks = {
            _GENERATOR: (generator, adam_g, intervals[_GENERATOR]),
            _DISCRIMINATOR: (discriminator, adam_d, intervals[_DISCRIMINATOR]),
        }
        super().__init__(networks, images, recipe, stream, worker)
        self.generator, self._discriminator = generator, discriminator
        device = self.accelerator.device
        classifiers = [freeze(one).to(device) for one in fooling.classifiers]
        self._fooling = replace(fooling, classifiers=classifiers)
        if recipe.path_length_weight > 0:
            self.scalars[_PATH_LENGTH_MEAN] = torch.zeros((), device=device)

    def get_result(self) -> Generator:
        """Return the generator that the training is for: the average where there is one."""
        return cast(Generator, super().get_result())

    def _update(self, step: int) -> dict[str, Tensor]:
        shared: GanBatch | None = None
        # with gradient accumulation every phase draws its batches anew: keeping those of all
        # micro-steps would take the memory that accumulation is to save
        if self.recipe.gradient_accumulation_steps == 1:
            self.generator.requires_grad_(True)
            shared = GanBatch(self, step, 0)
            _ = shared.images_generated  # now, with their graph
        logged: dict[str, Tensor] = {}
        for phase in self.phases:
            if step % phase.interval == 0:
                logged |= self._run_phase(phase, step, shared)
        return logged

    def _run_phase(self, phase: Phase, step: int, shared: GanBatch | None) -> dict[str, Tensor]:
        def compute(micro_step: int) -> Losses:
            batch = GanBatch(self, step, micro_step) if shared is None else shared
            with nullcontext() if phase.is_full_precision else self.accelerator.autocast():
                return phase.compute_losses(batch)

        for name in (_GENERATOR, _DISCRIMINATOR):
            self.modules[name].requires_grad_(name == phase.network)
        return self._accumulate(phase.network, compute)

    def _finish_step(self, step: int, logged: dict[str, Tensor]) -> dict[str, Tensor]:
        if _PATH_LENGTH not in logged:
            return {}
        mean, decay = self.scalars[_PATH_LENGTH_MEAN], self.recipe.path_length_decay
        self.scalars[_PATH_LENGTH_MEAN] = losses.average_path_lengths(
            mean, logged[_PATH_LENGTH], decay
        )
        return {_PATH_LENGTH_MEAN: self.scalars[_PATH_LENGTH_MEAN]}

    def _compute_discriminator_losses(self, batch: GanBatch) -> Losses:
        """Tell reals from generated images."""
        loss = losses.compute_discriminator_loss(
            self._discriminator(batch.images_real),
            self._discriminator(batch.images_generated.detach()),
        )
        return loss, {"loss_discriminator": loss}

    def _compute_r1_losses(self, batch: GanBatch) -> Losses:
        """R1: keep the discriminator's slope at the reals small."""
        # DEVIATION: the paper states no regulariser of the DCGAN's discriminator
        images_real = batch.images_real.detach().requires_grad_(True)
        penalty = losses.compute_r1_penalty(images_real, self._discriminator(images_real))
        # lazy: the weight grows with the interval, so that its share of all updates stays
        weight = self.recipe.r1_gamma / 2 * self.recipe.r1_interval
        return weight * penalty, {"r1_penalty": penalty}

    def _compute_generator_losses(self, batch: GanBatch) -> Losses:
        """Let the discriminator, and the frozen classifiers, take generated images for reals."""
        adversarial = losses.compute_adversarial_loss(self._discriminator(batch.images_generated))
        if not self._fooling.classifiers:
            return adversarial, {"loss_generator": adversarial}
        logits = [classifier(batch.images_generated) for classifier in self._fooling.classifiers]
        fooling = losses.compute_fooling_loss(logits)
        loss = losses.weigh_generator_loss(
            adversarial, fooling, self._fooling.phi, self._fooling.form
        )
        return loss, {"loss_generator": adversarial, "loss_fooling": fooling}

    def _compute_path_length_losses(self, batch: GanBatch) -> Losses:
        """Path length: a step of the styles moves every image as far as the average one.

        The average is of the steps before, so that parts of a batch have the gradient of the whole.
        """
        assert isinstance(self.generator, StyleGenerator)
        latents, noise = batch.draw_paths()
        styles = self.generator.map_latents(latents)
        images = self.generator.synthesize(styles)
        lengths = losses.compute_path_lengths(images, styles, noise)
        penalty = losses.compute_path_length_penalty(lengths, self.scalars[_PATH_LENGTH_MEAN])
        weight = self.recipe.path_length_weight * self.recipe.path_length_interval
        return weight * penalty, {"path_length_penalty": penalty, _PATH_LENGTH: lengths.mean()}
