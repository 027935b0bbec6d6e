"""The phases of a GAN's step: which network each updates, how often, and by which loss.

A new regulariser is one more phase here. How phases become a step is in
`knowledge_gaps.training.gan`, what they are given in `knowledge_gaps.training.gan_batch`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.optim import Optimizer

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.losses import (
    compute_adversarial_loss,
    compute_discriminator_loss,
    compute_fooling_loss,
    compute_path_length_penalty,
    compute_path_lengths,
    compute_r1_penalty,
    weigh_generator_loss,
)
from knowledge_gaps.models.input_spec import GanClassifier
from knowledge_gaps.models.registry import Generator, StyleGenerator
from knowledge_gaps.study import GanRecipe
from knowledge_gaps.training.gan_batch import GanBatch

GENERATOR, DISCRIMINATOR = "generator", "discriminator"
PATH_LENGTH, PATH_LENGTH_MEAN = "path_length", "path_length_mean"

# the scalar to minimise, and scalars to log
Losses = tuple[Tensor, dict[str, Tensor]]


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
class Phase:
    """One update within a step.

    Attributes:
        name: for people.
        module: the only network whose weights get a gradient.
        optimizer: which updates them.
        interval: the phase runs every so many steps.
        compute_losses: from a batch to the scalar to minimise, and scalars to log.
        is_full_precision: the forward pass runs without autocast. The regularisers' do: a gradient
            of a gradient leaves half precision's range, and they are rare enough to afford it.
    """

    name: str
    module: nn.Module
    optimizer: Optimizer
    interval: int
    compute_losses: Callable[[GanBatch], Losses]
    is_full_precision: bool = False


class GanLosses:
    """The losses of all phases.

    Args:
        generator: in training.
        discriminator: in training.
        fooling: the fooling term.
        recipe: weights and intervals.
        scalars: of the trainer; the mean of path lengths is read there.

    Raises:
        UserError: for a path-length penalty of a generator without styles.
    """

    def __init__(
        self,
        generator: Generator,
        discriminator: nn.Module,
        fooling: Fooling,
        recipe: GanRecipe,
        scalars: Mapping[str, Tensor],
    ) -> None:
        if recipe.path_length_weight > 0 and not isinstance(generator, StyleGenerator):
            raise UserError(
                f"path_length_weight: {recipe.path_length_weight} found, but architecture "
                f"{recipe.architecture!r} has no styles: 0.0 is needed"
            )
        self._generator, self._discriminator = generator, discriminator
        self._fooling, self._recipe, self._scalars = fooling, recipe, scalars

    def list_phases(self, optimizers: Mapping[str, Optimizer]) -> list[Phase]:
        """List a step's phases in order, with each network's optimiser."""
        recipe = self._recipe
        of_d = (self._discriminator, optimizers[DISCRIMINATOR])
        of_g = (self._generator, optimizers[GENERATOR])
        phases = [Phase(DISCRIMINATOR, *of_d, 1, self.compute_discriminator_losses)]
        if recipe.r1_gamma > 0:
            phases.append(Phase("r1", *of_d, recipe.r1_interval, self.compute_r1_losses, True))
        phases.append(Phase(GENERATOR, *of_g, 1, self.compute_generator_losses))
        if recipe.path_length_weight > 0:
            interval = recipe.path_length_interval
            phases.append(
                Phase(PATH_LENGTH, *of_g, interval, self.compute_path_length_losses, True)
            )
        return phases

    def compute_discriminator_losses(self, batch: GanBatch) -> Losses:
        """Tell reals from generated images."""
        loss = compute_discriminator_loss(
            self._discriminator(batch.images_real),
            self._discriminator(batch.images_generated.detach()),
        )
        return loss, {"loss_discriminator": loss}

    def compute_r1_losses(self, batch: GanBatch) -> Losses:
        """R1: keep the discriminator's slope at the reals small."""
        # DEVIATION: the paper states no regulariser of the DCGAN's discriminator
        images_real = batch.images_real.detach().requires_grad_(True)
        penalty = compute_r1_penalty(images_real, self._discriminator(images_real))
        # lazy: the weight grows with the interval, so that its share of all updates stays
        weight = self._recipe.r1_gamma / 2 * self._recipe.r1_interval
        return weight * penalty, {"r1_penalty": penalty}

    def compute_generator_losses(self, batch: GanBatch) -> Losses:
        """Let the discriminator, and the frozen classifiers, take generated images for reals."""
        adversarial = compute_adversarial_loss(self._discriminator(batch.images_generated))
        if not self._fooling.classifiers:
            return adversarial, {"loss_generator": adversarial}
        logits = [classifier(batch.images_generated) for classifier in self._fooling.classifiers]
        fooling = compute_fooling_loss(logits)
        loss = weigh_generator_loss(adversarial, fooling, self._fooling.phi, self._fooling.form)
        return loss, {"loss_generator": adversarial, "loss_fooling": fooling}

    def compute_path_length_losses(self, batch: GanBatch) -> Losses:
        """Path length: a step of the styles moves every image as far as the average one.

        The average is that of the steps before, so that a batch in parts, over micro-steps or
        ranks, has the gradient of the whole.
        """
        assert isinstance(self._generator, StyleGenerator)
        styles = self._generator.map_latents(batch.path_latents)
        images = self._generator.synthesize(styles)
        lengths = compute_path_lengths(images, styles, batch.path_noise)
        penalty = compute_path_length_penalty(lengths, self._scalars[PATH_LENGTH_MEAN])
        weight = self._recipe.path_length_weight * self._recipe.path_length_interval
        return weight * penalty, {"path_length_penalty": penalty, PATH_LENGTH: lengths.mean()}
