"""The classifier loop: reals against samples of frozen generators, balanced both ways.

Early stopping ends it by the accuracy on held-out generators, and on reals of the dev split, or of
the training without one.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import cast

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

_CLASSIFIER, _BEST = "classifier", "best"
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
        worker: int = 0,
        images_dev: Images | None = None,
    ) -> None:
        networks = {_CLASSIFIER: (classifier, recipe.optimizer, 1)}
        super().__init__(networks, images, recipe, stream, worker)
        self.classifier, self.truncation = classifier, truncation
        self._images_checked = images if images_dev is None else images_dev
        pool = [freeze(generator).to(self.accelerator.device) for generator in generators]
        stopping = recipe.early_stopping
        num_trained = len(pool) - (0 if stopping is None else stopping.held_out_generators)
        self.generators, self._held_out = pool[:num_trained], pool[num_trained:]
        if stopping is not None:
            self.modules[_BEST] = freeze(copy.deepcopy(super().get_result()))
            self.scalars[_BEST_ACCURACY] = torch.tensor(-1.0)
            self.scalars[_CHECKS_WITHOUT_GAIN] = torch.tensor(0.0)
        if recipe.gradient_checkpointing:
            recompute_blocks(classifier, classifier_architectures.get(recipe.architecture).blocks)

    def is_finished(self) -> bool:
        """Tell whether the last checks, as many as the patience, were without gain."""
        stopping = self.recipe.early_stopping
        return stopping is not None and (
            self.scalars[_CHECKS_WITHOUT_GAIN].item() >= stopping.patience
        )

    def get_result(self) -> GanClassifier:
        """Return the best classifier that was checked; without checks the average or the last."""
        return cast(GanClassifier, self.modules.get(_BEST, super().get_result()))

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
        return {"accuracy_held_out": self._check()} if self._is_check_due(step + 1) else {}

    def _is_check_due(self, steps: int) -> bool:
        """Tell whether to check after so many steps; after the last one always."""
        stopping = self.recipe.early_stopping
        return stopping is not None and (
            steps % stopping.check_every == 0 or steps == self.recipe.steps
        )

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
        images = augment(torch.cat(batch), self.recipe, self.stream, self.ranks, *names)
        if self.recipe.shuffled_labels:  # the first half of a batch is labelled real
            drawn = self.stream.make_generator("labels", *names)
            images = images[torch.randperm(len(images), generator=drawn).to(device)]
        return to_float(images)

    def _check(self) -> Tensor:
        """Measure the held-out accuracy; keep the weights when it is a new best."""
        accuracy, checked = self._measure_accuracy(), super().get_result()
        if accuracy > self.scalars[_BEST_ACCURACY]:
            self.modules[_BEST].load_state_dict(checked.state_dict())
            self.scalars[_BEST_ACCURACY] = accuracy
            self.scalars[_CHECKS_WITHOUT_GAIN] = torch.tensor(0.0)
        else:
            self.scalars[_CHECKS_WITHOUT_GAIN] = self.scalars[_CHECKS_WITHOUT_GAIN] + 1
        return accuracy

    @torch.no_grad()
    def _measure_accuracy(self) -> Tensor:
        """Measure the balanced accuracy, in [0, 1], in evaluation mode until the next step."""
        assert self.recipe.early_stopping is not None
        device, batch_size = self.accelerator.device, self.recipe.batch_size
        classifier = super().get_result().eval()
        self.stream.seed_layers(_PURPOSE, device)
        num_right, num_images = 0, self.recipe.early_stopping.num_images
        for index, generator in enumerate(self._held_out):
            for start in range(0, num_images, batch_size):
                num_each, names = min(batch_size, num_images - start), (_PURPOSE, index, start)
                latents = draw_latents(self.stream, num_each, generator.latent_dim, *names)
                generated = sample_images(generator, latents.to(device), self.truncation)
                reals = draw_reals(self.stream, self._images_checked, num_each, *names).to(device)
                with self.accelerator.autocast():
                    is_real = classifier(to_float(torch.cat([reals, generated]))) > 0
                num_right += int(is_real[:num_each].sum()) + int((~is_real[num_each:]).sum())
        return torch.tensor(num_right / (2 * num_images * len(self._held_out)))
