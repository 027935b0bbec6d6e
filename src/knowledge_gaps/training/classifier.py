"""The classifier loop: reals against samples of frozen generators, balanced both ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from knowledge_gaps.data.images import to_float
from knowledge_gaps.data.store import ImageStore
from knowledge_gaps.losses import compute_classifier_loss
from knowledge_gaps.models.frozen import freeze
from knowledge_gaps.models.input_spec import GanClassifier
from knowledge_gaps.models.recompute import recompute_blocks
from knowledge_gaps.models.registry import Generator, classifier_architectures
from knowledge_gaps.study import ClassifierRecipe, OptimizerSettings
from knowledge_gaps.training.augment import augment
from knowledge_gaps.training.average import WeightAverage
from knowledge_gaps.training.batches import (
    Stream,
    cut_shares,
    draw_latents,
    draw_reals,
    sample_images,
    split_evenly,
)
from knowledge_gaps.training.early_stopping import EarlyStopper, HeldOut, split_pool
from knowledge_gaps.training.optimizers import build_optimizer, clip_and_step
from knowledge_gaps.training.ranks import Ranks

if TYPE_CHECKING:
    from accelerate import Accelerator


class ClassifierTrainer:
    """A GAN-classifier in training; a `loop.Trainer`.

    Args:
        classifier: freshly initialised.
        generators: frozen, in the order of their pool; at least one.
        truncation: of the latents, in (0, 1].
        images: the reals.
        recipe: how to train.
        stream: random numbers of the instance.
        accelerator: device, precision and processes.
    """

    def __init__(
        self,
        classifier: GanClassifier,
        generators: Sequence[Generator],
        truncation: float,
        images: ImageStore,
        recipe: ClassifierRecipe,
        stream: Stream,
        accelerator: Accelerator,
    ) -> None:
        self._recipe, self._stream, self.accelerator = recipe, stream, accelerator
        self._ranks = Ranks.of(accelerator)
        self._images, self._truncation = images, truncation
        pool = [freeze(generator).to(accelerator.device) for generator in generators]
        self._generators, held_out = split_pool(pool, recipe.early_stopping)
        self._classifier = classifier.to(accelerator.device)
        adam = build_optimizer(accelerator, classifier, recipe.optimizer)
        self.modules: dict[str, nn.Module] = {"classifier": classifier}
        self.optimizers: dict[str, tuple[Optimizer, OptimizerSettings]] = {
            "classifier": (adam, recipe.optimizer)
        }
        self.scalars: dict[str, Tensor] = {}
        self._average: WeightAverage | None = None
        if recipe.ema_decay is not None:
            self._average = WeightAverage(classifier, recipe.ema_decay, recipe.ema_ramp_up)
            self.modules["average"] = self._average
        self._stopper: EarlyStopper | None = None
        if recipe.early_stopping is not None:
            source = HeldOut(held_out, truncation, images, stream)
            self._stopper = EarlyStopper(self.get_result(), source, recipe, accelerator)
            self.modules["best"], self.scalars = self._stopper.best, self._stopper.scalars
        if recipe.gradient_checkpointing:
            blocks = classifier_architectures.get(recipe.architecture).blocks
            recompute_blocks(classifier, blocks)

    def run_step(self, step: int) -> dict[str, Tensor]:
        """Update the classifier once; return loss and accuracies of the batch."""
        self._stream.seed_layers(step, self.accelerator.device, self._ranks.index)
        self._classifier.train()
        num_micro_steps = self._recipe.gradient_accumulation_steps
        means: dict[str, Tensor] = {}
        for micro_step in range(num_micro_steps):
            for name, value in self._run_micro_step(step, micro_step).items():
                means[name] = means.get(name, 0) + value / num_micro_steps
        adam, max_norm = self.optimizers["classifier"][0], self._recipe.max_gradient_norm
        clip_and_step(self.accelerator, self._classifier, adam, max_norm)
        self._ranks.average_buffers([self._classifier])
        means = self._ranks.average_scalars(means)
        if self._average is not None:
            self._average.update(self._classifier, step)
        if self._stopper is not None and self._stopper.is_due(step):
            means["accuracy_held_out"] = self._stopper.check()
        return means

    def is_finished(self, step: int) -> bool:
        """Tell whether early stopping ends the training before the last step."""
        return self._stopper is not None and self._stopper.is_finished()

    def get_result(self) -> GanClassifier:
        """Return the classifier that the training is for.

        It is the best one that was checked, with early stopping; else the average where there is
        one; else the last.
        """
        if self._stopper is not None:
            return self._stopper.best
        if self._average is None:
            return self._classifier
        assert isinstance(self._average.module, GanClassifier)
        return self._average.module

    def _run_micro_step(self, step: int, micro_step: int) -> dict[str, Tensor]:
        images = self._draw_batch(step, micro_step)
        num_real = len(images) // 2
        with self.accelerator.autocast():
            heads = [
                (logits[:num_real], logits[num_real:])
                for logits in self._classifier.compute_heads(images)
            ]
            loss, *auxiliary = [compute_classifier_loss(*halves) for halves in heads]
            for auxiliary_loss in auxiliary:
                loss = loss + self._recipe.auxiliary_weight * auxiliary_loss
        logits_real, logits_generated = heads[0]
        self.accelerator.backward(loss)
        return {
            "loss": loss.detach(),
            "accuracy_real": (logits_real.detach() > 0).float().mean(),
            "accuracy_generated": (logits_generated.detach() <= 0).float().mean(),
        }

    def _draw_batch(self, step: int, micro_step: int) -> Tensor:
        """Draw reals, then as many generated images, shared evenly among the generators.

        Returns:
            This rank's part of both, float32 [2 * batch_size, C, H, W] in [-1, 1].
        """
        num_images, names = self._recipe.batch_size, (step, micro_step)
        part, device = self._ranks.cut(num_images), self.accelerator.device
        reals = draw_reals(self._stream, self._images, num_images, *names, part=part)
        batch = [reals.to(device, non_blocking=True)]
        counts = split_evenly(num_images, len(self._generators), step)
        shares = cut_shares(counts, part)
        for index, generator in enumerate(self._generators):
            latent_dim = generator.latent_dim
            latents = draw_latents(self._stream, counts[index], latent_dim, *names, index)
            latents = latents[shares[index]]
            if len(latents) > 0:
                batch.append(sample_images(generator, latents.to(device), self._truncation))
        images = torch.cat(batch)
        return to_float(augment(images, self._recipe, self._stream, self._ranks, *names))
