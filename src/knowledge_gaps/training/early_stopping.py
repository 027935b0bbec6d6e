"""Ending a classifier's training by its accuracy on generators that it is not trained on.

The reals of these checks are drawn from those that it is trained on: the test split stays untouched
for the evaluation. A gain on generated images is thus one of generalisation, a gain on reals need
not be.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.data.images import to_float
from knowledge_gaps.data.store import ImageStore
from knowledge_gaps.models.frozen import freeze
from knowledge_gaps.models.input_spec import GanClassifier
from knowledge_gaps.models.registry import Generator
from knowledge_gaps.study import ClassifierRecipe
from knowledge_gaps.study.recipes import EarlyStopping
from knowledge_gaps.training.batches import Stream, draw_latents, draw_reals, sample_images

if TYPE_CHECKING:
    from accelerate import Accelerator

PURPOSE = "early_stopping"
BEST_ACCURACY, CHECKS_WITHOUT_GAIN = "best_accuracy", "checks_without_gain"


def split_pool(
    generators: Sequence[Generator], settings: EarlyStopping | None
) -> tuple[Sequence[Generator], Sequence[Generator]]:
    """Split a pool into generators to train on and, its last ones, generators held out.

    Raises:
        UserError: when none would be left to train on.
    """
    if settings is None:
        return generators, ()
    num_left = len(generators) - settings.held_out_generators
    if num_left < 1:
        raise UserError(
            f"early_stopping.held_out_generators: {settings.held_out_generators} of a pool of "
            f"{len(generators)} found, at least one must be left to train on"
        )
    return generators[:num_left], generators[num_left:]


@dataclass(frozen=True)
class HeldOut:
    """Where the images of the checks come from; they are the same at every check.

    Attributes:
        generators: frozen, in no batch of the training.
        truncation: of the latents, in (0, 1].
        images: the reals.
        stream: random numbers of the instance.
    """

    generators: Sequence[Generator]
    truncation: float
    images: ImageStore
    stream: Stream


class EarlyStopper:
    """Checks a classifier from time to time, keeps the best weights, says when to stop.

    Args:
        classifier: that the training would end with: the trained one, or its average.
        held_out: source of the images.
        recipe: with `early_stopping`; its batch size is that of a check.
        accelerator: device and precision.

    Attributes:
        best: a copy of the classifier as it was at its best check.
        scalars: best balanced accuracy so far, -1 before the first check; checks since then.
    """

    def __init__(
        self,
        classifier: GanClassifier,
        held_out: HeldOut,
        recipe: ClassifierRecipe,
        accelerator: Accelerator,
    ) -> None:
        assert recipe.early_stopping is not None
        self._classifier, self._held_out = classifier, held_out
        self._recipe, self._settings = recipe, recipe.early_stopping
        self._accelerator = accelerator
        self.best = freeze(copy.deepcopy(classifier))
        self.scalars = {
            BEST_ACCURACY: torch.tensor(-1.0),
            CHECKS_WITHOUT_GAIN: torch.tensor(0.0),
        }

    def is_due(self, step: int) -> bool:
        """Tell whether to check after a step; after the last one always."""
        done = step + 1
        return done % self._settings.check_every == 0 or done == self._recipe.steps

    def is_finished(self) -> bool:
        """Tell whether the last checks, as many as the patience, were without gain."""
        return self.scalars[CHECKS_WITHOUT_GAIN].item() >= self._settings.patience

    def check(self) -> Tensor:
        """Measure the balanced accuracy, in [0, 1]; keep the weights when it is a new best."""
        accuracy = self._measure_accuracy()
        if accuracy > self.scalars[BEST_ACCURACY]:
            self.best.load_state_dict(self._classifier.state_dict())
            self.scalars[BEST_ACCURACY] = accuracy
            self.scalars[CHECKS_WITHOUT_GAIN] = torch.tensor(0.0)
        else:
            self.scalars[CHECKS_WITHOUT_GAIN] = self.scalars[CHECKS_WITHOUT_GAIN] + 1
        return accuracy

    @torch.no_grad()
    def _measure_accuracy(self) -> Tensor:
        """Count right answers in evaluation mode; the next step sets training mode again."""
        self._classifier.eval()
        self._held_out.stream.seed_layers(PURPOSE, self._accelerator.device)
        num_right, num_images = 0, self._settings.num_images
        for index, generator in enumerate(self._held_out.generators):
            for start in range(0, num_images, self._recipe.batch_size):
                num_each = min(self._recipe.batch_size, num_images - start)
                batch = self._draw_batch(generator, num_each, index, start)
                with self._accelerator.autocast():
                    is_real = self._classifier(to_float(batch)) > 0
                num_right += int(is_real[:num_each].sum()) + int((~is_real[num_each:]).sum())
        return torch.tensor(num_right / (2 * num_images * len(self._held_out.generators)))

    def _draw_batch(self, generator: Generator, num_each: int, *names: int) -> Tensor:
        """Draw reals, then as many generated images, uint8 [2 * num_each, C, H, W]."""
        source, device = self._held_out, self._accelerator.device
        latents = draw_latents(source.stream, num_each, generator.latent_dim, PURPOSE, *names)
        generated = sample_images(generator, latents.to(device), source.truncation)
        reals = draw_reals(source.stream, source.images, num_each, PURPOSE, *names)
        return torch.cat([reals.to(device), generated])
