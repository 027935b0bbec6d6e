"""What the instances of a batched program train on: drawn statelessly, some steps at a time.

Every instance draws on the CPU what it draws alone. A block of steps is drawn in a thread while the
device works at the one before, and reaches the device in one transfer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from knowledge_gaps.data.store import ImageStore
from knowledge_gaps.study import GanRecipe
from knowledge_gaps.training.augment import draw_mirrored, mirror
from knowledge_gaps.training.batches import Stream, draw_indices, draw_latents

RESIDENT_BYTES = 1 << 30  # of reals, the most that is kept on the device
_BLOCK_BYTES = 32 << 20
_MOST_STEPS = 64  # of a block
_MICRO_STEP = 0


@dataclass(frozen=True)
class Batch:
    """What all instances' step is made of, on the device.

    Attributes:
        latents: float32 [K, N, latent_dim].
        reals: uint8 [K, N, C, H, W].
    """

    latents: Tensor
    reals: Tensor


class Draws:
    """Batches of several instances.

    Args:
        streams: random numbers of the instances.
        images: the reals.
        recipe: batch size, and whether reals are mirrored.
        latent_dim: length of a latent vector.
        device: where batches are wanted.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        images: ImageStore,
        recipe: GanRecipe,
        latent_dim: int,
        device: torch.device,
    ) -> None:
        self._streams, self._images, self._recipe = streams, images, recipe
        self._latent_dim, self._device = latent_dim, device
        self._resident: Tensor | None = None
        if math.prod(images.shape) <= RESIDENT_BYTES:
            self._resident = torch.from_numpy(images.read(0, len(images))).to(device)

    def iterate(self, start: int, stop: int) -> Iterator[Batch]:
        """Draw the batches of the steps from `start` to before `stop`, in order."""
        size = self._count_steps()
        spans = [range(first, min(first + size, stop)) for first in range(start, stop, size)]
        with ThreadPoolExecutor(1) as executor:
            waiting = executor.submit(self._draw_block, spans[0])
            for following in [*spans[1:], None]:
                latents, picked, is_mirrored = map(self._transfer, waiting.result())
                if following is not None:
                    waiting = executor.submit(self._draw_block, following)
                for parts in zip(latents, picked, is_mirrored, strict=True):
                    yield self._make_batch(*parts)

    def _draw_block(self, steps: range) -> tuple[Tensor, Tensor, Tensor]:
        """Draw some steps' latents, reals (their indices where they are resident) and mirrors."""
        parts = zip(*(self._draw_step(step) for step in steps), strict=True)
        block = [torch.stack(part) for part in parts]
        if self._resident is None:
            taken = torch.from_numpy(self._images.take(block[1].flatten().numpy()))
            block[1] = taken.unflatten(0, block[1].shape)
        latents, picked, is_mirrored = block
        return latents, picked, is_mirrored

    def _draw_step(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Draw one step as `gan_batch.GanBatch` does, for each instance: [K, N, ...] each."""
        num_images, names = self._recipe.batch_size, (step, _MICRO_STEP)
        num_stored = len(self._images)
        latents = [draw_latents(s, num_images, self._latent_dim, *names) for s in self._streams]
        indices = [draw_indices(s, num_stored, num_images, *names) for s in self._streams]
        mirrored = [torch.zeros(num_images, dtype=torch.bool)] * len(self._streams)
        if self._recipe.mirror:
            mirrored = [draw_mirrored(s, num_images, *names) for s in self._streams]
        return torch.stack(latents), torch.stack(indices), torch.stack(mirrored)

    def _transfer(self, part: Tensor) -> Tensor:
        """Bring a block's part to the device; from pinned memory nobody waits for it."""
        if self._device.type == "cuda":
            part = part.pin_memory()
        return part.to(self._device, non_blocking=True)

    def _make_batch(self, latents: Tensor, picked: Tensor, is_mirrored: Tensor) -> Batch:
        reals = picked if self._resident is None else self._resident[picked]
        if self._recipe.mirror:
            flat = mirror(reals.flatten(0, 1), is_mirrored.flatten())
            reals = flat.unflatten(0, picked.shape[:2])
        return Batch(latents, reals)

    def _count_steps(self) -> int:
        """Count the steps of a block."""
        image_bytes = 8 if self._resident is not None else math.prod(self._images.shape[1:])
        bytes_an_image = image_bytes + 4 * self._latent_dim
        bytes_a_step = len(self._streams) * self._recipe.batch_size * bytes_an_image
        return max(1, min(_MOST_STEPS, _BLOCK_BYTES // bytes_a_step))
