"""The classifier loop: reals against samples of frozen generators, balanced both ways.

Early stopping ends it by the accuracy on held-out generators, and on reals of the training.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from knowledge_gaps.data.images import to_float
from knowledge_gaps.data.store import Images
from knowledge_gaps.losses import compute_classifier_loss
from knowledge_gaps.models.frozen import freeze
from knowledge_gaps.models.input_spec import GanClassifier
from knowledge_gaps.models.registry import Generator, classifier_architectures
from knowledge_gaps.models.torchvision_nets import recompute_blocks
from knowledge_gaps.study import ClassifierRecipe
from knowledge_gaps.training.batches import (
    Stream,
    augment,
    draw_latents,
    draw_reals,
    sample_images,
    split_evenly,
)
from knowledge_gaps.training.trainer import Losses, Trainer

if TYPE_CHECKING:
    from accelerate import Accelerator

_CLASSIFIER = "classifier"
_PURPOSE = "early_stopping"
_BEST_ACCURACY, _CHECKS_WITHOUT_GAIN = "best_accuracy", "checks_without_gain"


class ClassifierTrainer(Trainer):
    """A fresh GAN-classifier in training; early stopping holds out the last generators."""

    recipe: ClassifierRecipe

    def __init__(
        self,
        classifier: GanClassifier,
        generators: Sequence[Generator],
        truncation: float,
        images: Images,
        recipe: ClassifierRecipe,
        stream: Stream,
        accelerator: Accelerator,
    ) -> None:
        networks = {_CLASSIFIER: (classifier, recipe.optimizer, 1)}
        super().__init__(networks, images, recipe, stream, accelerator)
        self.classifier, self.truncation = classifier, truncation
        pool = [freeze(generator).to(accelerator.device) for generator in generators]
        num_held_out = 0
        self._stopper: EarlyStopper | None = None
        if recipe.early_stopping is not None:
            num_held_out = recipe.early_stopping.held_out_generators
            self._stopper = EarlyStopper(self, pool[-num_held_out:])
            self.modules["best"] = self._stopper.best
        self.generators = pool[: len(pool) - num_held_out]
        if recipe.gradient_checkpointing:
            recompute_blocks(classifier, classifier_architectures.get(recipe.architecture).blocks)

    def is_finished(self) -> bool:
        """Tell whether early stopping ends the training before the last step."""
        return self._stopper is not None and self._stopper.is_finished()

    def get_result(self) -> GanClassifier:
        """Return the best classifier that was checked; without checks the average or the last."""
        best = super().get_result() if self._stopper is None else self._stopper.best
        return cast(GanClassifier, best)

    def _update(self, step: int) -> dict[str, Tensor]:
        def compute(micro_step: int) -> Losses:
            images = self._draw_batch(step, micro_step)
            num_real = len(images) // 2
            with self.accelerator.autocast():
                heads = [
                    (logits[:num_real], logits[num_real:])
                    for logits in self.classifier.compute_heads(images)
                ]
                loss, *auxiliary = [compute_classifier_loss(*halves) for halves in heads]
                for auxiliary_loss in auxiliary:
                    loss = loss + self.recipe.auxiliary_weight * auxiliary_loss
            logits_real, logits_generated = heads[0]
            return loss, {
                "loss": loss,
                "accuracy_real": (logits_real > 0).float().mean(),
                "accuracy_generated": (logits_generated <= 0).float().mean(),
            }

        return self._accumulate(_CLASSIFIER, compute)

    def _finish_step(self, step: int, logged: dict[str, Tensor]) -> dict[str, Tensor]:
        if self._stopper is None or not self._stopper.is_due(step):
            return {}
        return {"accuracy_held_out": self._stopper.check()}

    def _draw_batch(self, step: int, micro_step: int) -> Tensor:
        """Draw this rank's reals and as many generated images, [2 * N, C, H, W] in [-1, 1]."""
        num_images, names = self.recipe.batch_size, (step, micro_step)
        part, device = self.ranks.cut(num_images), self.accelerator.device
        reals = draw_reals(self.stream, self.images, num_images, *names, part=part)
        batch = [reals.to(device, non_blocking=True)]
        start, stop = part.start, part.stop  # in the images of the generators still to come
        counts = split_evenly(num_images, len(self.generators), step)
        for index, (generator, count) in enumerate(zip(self.generators, counts, strict=True)):
            latents = draw_latents(self.stream, count, generator.latent_dim, *names, index)
            latents = latents[max(start, 0) : max(stop, 0)]
            start, stop = start - count, stop - count
            if len(latents) > 0:
                batch.append(sample_images(generator, latents.to(device), self.truncation))
        images = torch.cat(batch)
        return to_float(augment(images, self.recipe, self.stream, self.ranks, *names))


class EarlyStopper:
    """Checks a trainer's classifier, or its average, on the same images; `best` is a copy."""

    def __init__(self, trainer: ClassifierTrainer, held_out: Sequence[Generator]) -> None:
        assert trainer.recipe.early_stopping is not None
        self._trainer, self._held_out = trainer, held_out
        self._settings, self._scalars = trainer.recipe.early_stopping, trainer.scalars
        self._classifier = trainer.get_result()
        self.best = freeze(copy.deepcopy(self._classifier))
        self._scalars[_BEST_ACCURACY] = torch.tensor(-1.0)
        self._scalars[_CHECKS_WITHOUT_GAIN] = torch.tensor(0.0)

    def is_due(self, step: int) -> bool:
        """Tell whether to check after a step; after the last one always."""
        done = step + 1
        return done % self._settings.check_every == 0 or done == self._trainer.recipe.steps

    def is_finished(self) -> bool:
        """Tell whether the last checks, as many as the patience, were without gain."""
        return self._scalars[_CHECKS_WITHOUT_GAIN].item() >= self._settings.patience

    def check(self) -> Tensor:
        """Measure the balanced accuracy, in [0, 1]; keep the weights when it is a new best."""
        accuracy = self._measure_accuracy()
        if accuracy > self._scalars[_BEST_ACCURACY]:
            self.best.load_state_dict(self._classifier.state_dict())
            self._scalars[_BEST_ACCURACY] = accuracy
            self._scalars[_CHECKS_WITHOUT_GAIN] = torch.tensor(0.0)
        else:
            self._scalars[_CHECKS_WITHOUT_GAIN] = self._scalars[_CHECKS_WITHOUT_GAIN] + 1
        return accuracy

    @torch.no_grad()
    def _measure_accuracy(self) -> Tensor:
        """Count right answers in evaluation mode; the next step sets training mode again."""
        accelerator, stream = self._trainer.accelerator, self._trainer.stream
        device, batch_size = accelerator.device, self._trainer.recipe.batch_size
        self._classifier.eval()
        stream.seed_layers(_PURPOSE, device)
        num_right, num_images = 0, self._settings.num_images
        for index, generator in enumerate(self._held_out):
            for start in range(0, num_images, batch_size):
                num_each, names = min(batch_size, num_images - start), (_PURPOSE, index, start)
                latents = draw_latents(stream, num_each, generator.latent_dim, *names).to(device)
                generated = sample_images(generator, latents, self._trainer.truncation)
                reals = draw_reals(stream, self._trainer.images, num_each, *names).to(device)
                with accelerator.autocast():
                    is_real = self._classifier(to_float(torch.cat([reals, generated]))) > 0
                num_right += int(is_real[:num_each].sum()) + int((~is_real[num_each:]).sum())
        return torch.tensor(num_right / (2 * num_images * len(self._held_out)))
