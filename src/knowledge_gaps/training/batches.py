"""What a step trains on, drawn statelessly: the same step draws the same numbers, always."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from knowledge_gaps.core.seeding import derive_seed, make_generator
from knowledge_gaps.data.images import to_uint8
from knowledge_gaps.data.store import ImageStore
from knowledge_gaps.models.registry import Generator

_WHOLE = slice(None)


@dataclass(frozen=True)
class Stream:
    """The random numbers of one instance of a cohort, "gans/COHORT" or "classifiers/COHORT"."""

    seed: int
    cohort: str
    instance: int

    def make_generator(self, purpose: str, *names: str | int) -> torch.Generator:
        """Make the generator of one draw of this instance."""
        return make_generator(self.seed, purpose, self.cohort, self.instance, *names)

    def seed_layers(self, step: int | str, device: torch.device, rank: int = 0) -> None:
        """Seed a device's global generator for layers that draw by themselves, such as dropout.

        `step` may name what else the layers are run for; every rank has draws of its own.
        """
        names = (step,) if rank == 0 else (step, "rank", rank)
        seed = derive_seed(self.seed, "layers", self.cohort, self.instance, *names)
        # torch.manual_seed would format a stack trace at every step where there is no GPU
        if device.type == "cuda":
            torch.cuda.manual_seed(seed)
        else:
            torch.default_generator.manual_seed(seed)


def draw_latents(stream: Stream, num_latents: int, latent_dim: int, *names: str | int) -> Tensor:
    """Draw latents float32 [num_latents, latent_dim], standard normal, on the CPU."""
    generator = stream.make_generator("latents", *names)
    return torch.randn(num_latents, latent_dim, generator=generator)


def draw_reals(
    stream: Stream, store: ImageStore, num_images: int, *names: str | int, part: slice = _WHOLE
) -> Tensor:
    """Draw stored images uint8 [num_images, C, H, W] with replacement, and read a part of them.

    The names tell this draw from others, the step first of all.
    """
    generator = stream.make_generator("reals", *names)
    indices = torch.randint(len(store), (num_images,), generator=generator)
    return torch.from_numpy(store.take(indices[part].numpy()))


def split_evenly(num_images: int, num_generators: int, step: int) -> list[int]:
    """Share a batch among generators: counts differ by at most 1, and evenly over the steps."""
    share, rest = divmod(num_images, num_generators)
    first = step * rest  # who gets one more goes round
    extra = {(first + offset) % num_generators for offset in range(rest)}
    return [share + (index in extra) for index in range(num_generators)]


@torch.no_grad()
def sample_images(generator: Generator, latents: Tensor, truncation: float = 1.0) -> Tensor:
    """Sample a frozen generator as reals are stored, uint8 [N, C, H, W]; see `Generator.sample`."""
    return to_uint8(generator.sample(latents, truncation))
