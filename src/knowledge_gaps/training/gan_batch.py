"""What a GAN's step is made of: this rank's part of a batch, drawn statelessly."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from knowledge_gaps.data.images import to_float
from knowledge_gaps.data.store import ImageStore
from knowledge_gaps.models.registry import Generator
from knowledge_gaps.study import GanRecipe
from knowledge_gaps.training.augment import draw_mirrored, mirror
from knowledge_gaps.training.batches import Stream, draw_latents, draw_reals
from knowledge_gaps.training.ranks import Ranks
from knowledge_gaps.training.sizes import count_path_images

if TYPE_CHECKING:
    from accelerate import Accelerator

_PATH_LENGTH = "path_length"


@dataclass(frozen=True)
class GanSource:
    """What batches are drawn from.

    Attributes:
        generator: in training.
        images: the reals.
        recipe: sizes of batches.
        stream: random numbers of the instance.
        accelerator: device, precision and processes.
    """

    generator: Generator
    images: ImageStore
    recipe: GanRecipe
    stream: Stream
    accelerator: Accelerator


class GanBatch:
    """One batch, or this rank's part of it; every part is made when it is first asked for.

    The discriminator's phase sees the generated images detached, the generator's with their graph:
    where one batch serves a whole step, one generator pass serves both.

    Args:
        source: what it is drawn from.
        step: of the training.
        micro_step: of the step, where gradients are accumulated.
    """

    def __init__(self, source: GanSource, step: int, micro_step: int) -> None:
        self._source, self._names = source, (step, micro_step)
        self._device = source.accelerator.device
        self._ranks = Ranks.of(source.accelerator)

    @cached_property
    def images_real(self) -> Tensor:
        """The reals, float32 [N, C, H, W] in [-1, 1]."""
        source, num_images = self._source, self._source.recipe.batch_size
        part = self._ranks.cut(num_images)
        reals = draw_reals(source.stream, source.images, num_images, *self._names, part=part)
        if source.recipe.mirror:
            is_mirrored = draw_mirrored(source.stream, num_images, *self._names)
            reals = mirror(reals, is_mirrored[part])
        return to_float(reals.to(self._device, non_blocking=True))

    @cached_property
    def images_generated(self) -> Tensor:
        """Generated images, float32 [N, C, H, W], with a graph where G's weights take gradients."""
        source, num_images = self._source, self._source.recipe.batch_size
        latent_dim = source.generator.latent_dim
        latents = draw_latents(source.stream, num_images, latent_dim, *self._names)
        latents = latents[self._ranks.cut(num_images)].to(self._device, non_blocking=True)
        with source.accelerator.autocast():
            images: Tensor = source.generator(latents)
        return images.float()

    @cached_property
    def path_latents(self) -> Tensor:
        """Latents of the path-length penalty, float32 [M, latent_dim]."""
        source, num_images = self._source, count_path_images(self._source.recipe)
        names = (_PATH_LENGTH, *self._names)
        latents = draw_latents(source.stream, num_images, source.generator.latent_dim, *names)
        return latents[self._ranks.cut(num_images)].to(self._device, non_blocking=True)

    @cached_property
    def path_noise(self) -> Tensor:
        """Noise of the path-length penalty, float32 [M, C, H, W], standard normal.

        Every image has a draw of its own, so that no rank draws another's.
        """
        stream, shape = self._source.stream, self._source.images.shape[1:]
        part = self._ranks.cut(count_path_images(self._source.recipe))
        generators = (
            stream.make_generator("path_length_noise", *self._names, index)
            for index in range(part.start, part.stop)
        )
        noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
        return noise.to(self._device, non_blocking=True)
