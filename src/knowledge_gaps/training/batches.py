"""What a step trains on, drawn statelessly: the same step draws the same numbers, always."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from knowledge_gaps.data.images import to_uint8
from knowledge_gaps.models.registry import Generator
from knowledge_gaps.runtime.seeding import derive_seed, make_generator


@dataclass(frozen=True)
class Stream:
    """The random numbers of one instance.

    Attributes:
        seed: the study's.
        cohort: "gans/COHORT" or "classifiers/COHORT".
        instance: index in the cohort.
    """

    seed: int
    cohort: str
    instance: int

    def make_generator(self, purpose: str, *names: str | int) -> torch.Generator:
        """Make the generator of one draw of this instance."""
        return make_generator(self.seed, purpose, self.cohort, self.instance, *names)

    def seed_layers(self, step: int, device: torch.device) -> None:
        """Seed a device's global generator for layers that draw by themselves, such as dropout."""
        seed = derive_seed(self.seed, "layers", self.cohort, self.instance, step)
        # torch.manual_seed would format a stack trace at every step where there is no GPU
        if device.type == "cuda":
            torch.cuda.manual_seed(seed)
        else:
            torch.default_generator.manual_seed(seed)


def draw_latents(stream: Stream, num_latents: int, latent_dim: int, *names: str | int) -> Tensor:
    """Draw latents float32 [num_latents, latent_dim], standard normal, on the CPU."""
    generator = stream.make_generator("latents", *names)
    return torch.randn(num_latents, latent_dim, generator=generator)


def draw_reals(stream: Stream, images: Tensor, num_images: int, *names: str | int) -> Tensor:
    """Draw stored images with replacement.

    Args:
        stream: whose random numbers.
        images: uint8 [N, C, H, W].
        num_images: how many to draw.
        *names: tell this draw from others, the step first of all.

    Returns:
        uint8 [num_images, C, H, W].
    """
    generator = stream.make_generator("reals", *names)
    return images[torch.randint(len(images), (num_images,), generator=generator)]


def split_evenly(num_images: int, num_generators: int, step: int) -> list[int]:
    """Share a batch among generators: counts differ by at most 1, and evenly over the steps."""
    share, rest = divmod(num_images, num_generators)
    first = step * rest  # who gets one more goes round
    extra = {(first + offset) % num_generators for offset in range(rest)}
    return [share + (index in extra) for index in range(num_generators)]


@torch.no_grad()
def sample_images(generator: Generator, latents: Tensor, truncation: float = 1.0) -> Tensor:
    """Sample a frozen generator the way reals are stored.

    Args:
        generator: in evaluation mode.
        latents: float32 [N, latent_dim] on the generator's device.
        truncation: in (0, 1], see `Generator.truncate`.

    Returns:
        uint8 [N, C, H, W].
    """
    if truncation != 1:
        latents = generator.truncate(latents, truncation)
    return to_uint8(generator(latents))


def translate(images: Tensor, shifts: Tensor, max_shift_px: int) -> Tensor:
    """Shift stored images, with zeros from outside.

    Args:
        images: uint8 [N, C, H, W].
        shifts: int64 [N, 2] in [0, 2 * max_shift_px]; max_shift_px stands for no shift.
        max_shift_px: at least 1.

    Returns:
        uint8 [N, C, H, W].
    """
    num_images, _, height, width = images.shape
    padded = torch.nn.functional.pad(images, (max_shift_px,) * 4)
    rows = shifts[:, 0, None] + torch.arange(height, device=images.device)
    columns = shifts[:, 1, None] + torch.arange(width, device=images.device)
    index = torch.arange(num_images, device=images.device)[:, None, None]
    shifted: Tensor = padded[index, :, rows[:, :, None], columns[:, None, :]]
    return shifted.permute(0, 3, 1, 2).contiguous()
