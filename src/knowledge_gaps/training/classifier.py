"""The classifier loop: reals against samples of frozen generators, balanced both ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from knowledge_gaps.data.images import to_float
from knowledge_gaps.losses import compute_classifier_loss
from knowledge_gaps.models.frozen import freeze
from knowledge_gaps.models.input_spec import GanClassifier
from knowledge_gaps.models.registry import Generator
from knowledge_gaps.study import ClassifierRecipe, OptimizerSettings
from knowledge_gaps.training.batches import (
    Stream,
    draw_latents,
    draw_reals,
    sample_images,
    split_evenly,
    translate,
)
from knowledge_gaps.training.loop import average_weights, build_optimizer, clip_and_step

if TYPE_CHECKING:
    from accelerate import Accelerator


class ClassifierTrainer:
    """A GAN-classifier in training; a `loop.Trainer`.

    Args:
        classifier: freshly initialised.
        generators: frozen, in the order of their pool; at least one.
        truncation: of the latents, in (0, 1].
        images: the reals, uint8 [N, C, H, W].
        recipe: how to train.
        stream: random numbers of the instance.
        accelerator: device, precision and processes.
    """

    def __init__(
        self,
        classifier: GanClassifier,
        generators: Sequence[Generator],
        truncation: float,
        images: Tensor,
        recipe: ClassifierRecipe,
        stream: Stream,
        accelerator: Accelerator,
    ) -> None:
        self._recipe, self._stream, self.accelerator = recipe, stream, accelerator
        self._images, self._truncation = images, truncation
        self._generators = [freeze(generator).to(accelerator.device) for generator in generators]
        self.modules: dict[str, nn.Module] = {"classifier": classifier}
        self._classifier, adam = accelerator.prepare(
            classifier, build_optimizer(classifier, recipe.optimizer)
        )
        self.optimizers: dict[str, tuple[Optimizer, OptimizerSettings]] = {
            "classifier": (adam, recipe.optimizer)
        }
        self._average: AveragedModel | None = None
        if recipe.ema_decay is not None:
            self._average = self.modules["average"] = average_weights(classifier, recipe.ema_decay)

    def run_step(self, step: int) -> dict[str, Tensor]:
        """Update the classifier once; return loss and accuracies of the batch."""
        self._stream.seed_layers(step, self.accelerator.device)
        self._classifier.train()
        num_micro_steps = self._recipe.gradient_accumulation_steps
        means: dict[str, Tensor] = {}
        for micro_step in range(num_micro_steps):
            with self.accelerator.accumulate(self._classifier):
                logged = self._run_micro_step(step, micro_step)
            for name, value in logged.items():
                means[name] = means.get(name, 0) + value / num_micro_steps
        if self._average is not None:
            self._average.update_parameters(self.modules["classifier"])
        return means

    def get_result(self) -> GanClassifier:
        """Return the classifier that the training is for: the average where there is one."""
        classifier = (
            self._average.module if self._average is not None else self.modules["classifier"]
        )
        assert isinstance(classifier, GanClassifier)
        return classifier

    def _run_micro_step(self, step: int, micro_step: int) -> dict[str, Tensor]:
        images = self._draw_batch(step, micro_step)
        num_real = len(images) // 2
        adam = self.optimizers["classifier"][0]
        with self.accelerator.autocast():
            logits = self._classifier(images)
            logits_real, logits_generated = logits[:num_real], logits[num_real:]
            loss = compute_classifier_loss(logits_real, logits_generated)
        self.accelerator.backward(loss)
        clip_and_step(self.accelerator, self._classifier, adam, self._recipe.max_gradient_norm)
        return {
            "loss": loss.detach(),
            "accuracy_real": (logits_real.detach() > 0).float().mean(),
            "accuracy_generated": (logits_generated.detach() <= 0).float().mean(),
        }

    def _draw_batch(self, step: int, micro_step: int) -> Tensor:
        """Draw reals, then as many generated images, shared evenly among the generators.

        Returns:
            float32 [2 * batch_size, C, H, W] in [-1, 1].
        """
        num_images = self._recipe.batch_size
        names = (step, micro_step)
        device = self.accelerator.device
        reals = draw_reals(self._stream, self._images, num_images, *names)
        batch = [reals.to(device, non_blocking=True)]
        counts = split_evenly(num_images, len(self._generators), step)
        for index, (generator, count) in enumerate(zip(self._generators, counts, strict=True)):
            latents = draw_latents(self._stream, count, generator.latent_dim, *names, index)
            batch.append(sample_images(generator, latents.to(device), self._truncation))
        return to_float(self._translate(torch.cat(batch), *names))

    def _translate(self, images: Tensor, *names: int) -> Tensor:
        """Shift reals and generated images alike; DEVIATION: the paper states no augmentation."""
        max_shift_px = self._recipe.translation_px
        if max_shift_px == 0:
            return images
        generator = self._stream.make_generator("shifts", *names)
        size = (len(images), 2)
        shifts = torch.randint(2 * max_shift_px + 1, size, generator=generator)
        return translate(images, shifts.to(images.device), max_shift_px)
