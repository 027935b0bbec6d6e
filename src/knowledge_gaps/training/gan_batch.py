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

    The discriminator's phase gets the generated images detached, the generator's with their graph:
    where one batch serves a whole step, one generator pass serves both.

    Args:
        source: what it is drawn from.
        step: of the training.
        micro_step: of the step, where gradients are accumulated.
        keeps_graph: make the generated images now, while the generator takes gradients.
    """

    def __init__(
        self, source: GanSource, step: int, micro_step: int, keeps_graph: bool = False
    ) -> None:
        self._source, self._names = source, (step, micro_step)
        self._device = source.accelerator.device
        self._ranks = Ranks.of(source.accelerator)
        if keeps_graph:
            self.images_generated = self._generate()

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
        return self._generate()

    @cached_property
    def path_latents(self) -> Tensor:
        """Latents of the path-length penalty, float32 [M, latent_dim]."""
        return self._draw_latents(count_path_images(self._source.recipe), _PATH_LENGTH)

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

    def _generate(self) -> Tensor:
        latents = self._draw_latents(self._source.recipe.batch_size)
        with self._source.accelerator.autocast():
            images: Tensor = self._source.generator(latents)
        return images.float()

    def _draw_latents(self, num_latents: int, *purpose: str) -> Tensor:
        stream, latent_dim = self._source.stream, self._source.generator.latent_dim
        latents = draw_latents(stream, num_latents, latent_dim, *purpose, *self._names)
        return latents[self._ranks.cut(num_latents)].to(self._device, non_blocking=True)
