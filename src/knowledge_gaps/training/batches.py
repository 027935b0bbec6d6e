"""What a step trains on, drawn statelessly: the same step draws the same numbers, always.

DEVIATION: the paper states no augmentation; a recipe asks for each by name. It works on stored
images (uint8), reals and generated images alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from knowledge_gaps.core.instance import Instance
from knowledge_gaps.core.seeding import derive_seed, make_generator
from knowledge_gaps.data.images import to_uint8
from knowledge_gaps.data.store import Images
from knowledge_gaps.models.registry import Generator
from knowledge_gaps.study import ClassifierRecipe
from knowledge_gaps.training.ranks import Ranks

MID_GREY = 128  # what 0 of [-1, 1] is stored as
_WHOLE = slice(None)


@dataclass(frozen=True)
class Stream:
    """The random numbers of one instance of a cohort, "gans/COHORT" or "classifiers/COHORT"."""

    seed: int
    cohort: str
    instance: Instance

    def make_generator(self, purpose: str, *names: str | int) -> torch.Generator:
        """Make the generator of one draw of this instance."""
        return make_generator(self.seed, purpose, self.cohort, str(self.instance), *names)

    def seed_layers(self, step: int | str, device: torch.device, rank: int = 0) -> None:
        """Seed a device's generator for layers that draw by themselves, at a step (or "grid")."""
        names = (step,) if rank == 0 else (step, "rank", rank)
        seed = derive_seed(self.seed, "layers", self.cohort, str(self.instance), *names)
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
    stream: Stream, images: Images, num_images: int, *names: str | int, part: slice = _WHOLE
) -> Tensor:
    """Draw stored images uint8 [num_images, C, H, W] with replacement, and read a part of them."""
    generator = stream.make_generator("reals", *names)
    indices = torch.randint(len(images), (num_images,), generator=generator)
    return torch.from_numpy(images[indices[part].numpy()])


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


def augment(
    images: Tensor, recipe: ClassifierRecipe, stream: Stream, ranks: Ranks, *names: int
) -> Tensor:
    """Mirror, shift and cut out this rank's reals and generated images, uint8 [2 * N, C, H, W].

    Numbers are drawn for the batch of all ranks; the names tell this draw from others.
    """
    num_images, device = len(images) * ranks.size, images.device
    if recipe.mirror:
        is_mirrored = draw_mirrored(stream, num_images, *names)
        images = mirror(images, _cut(is_mirrored, ranks).to(device))
    if recipe.translation_px > 0:
        generator = stream.make_generator("shifts", *names)
        size = (num_images, 2)
        shifts = torch.randint(2 * recipe.translation_px + 1, size, generator=generator)
        images = translate(images, _cut(shifts, ranks).to(device), recipe.translation_px)
    if recipe.cutout_px > 0:
        generator = stream.make_generator("cutouts", *names)
        sides = images.shape[2:]
        centres = [torch.randint(side, (num_images,), generator=generator) for side in sides]
        images = cut_out(images, _cut(torch.stack(centres, 1), ranks).to(device), recipe.cutout_px)
    return images


def _cut(drawn: Tensor, ranks: Ranks) -> Tensor:
    """Take this rank's part of the reals and of the generated images, [N, ...] of all of them."""
    if ranks.size == 1:
        return drawn
    return torch.cat([half[ranks.cut(len(half))] for half in drawn.chunk(2)])


def draw_mirrored(stream: Stream, num_images: int, *names: int) -> Tensor:
    """Draw which images are mirrored, bool [num_images], each with probability 1/2."""
    generator = stream.make_generator("mirrors", *names)
    return torch.rand(num_images, generator=generator) < 0.5


def mirror(images: Tensor, is_mirrored: Tensor) -> Tensor:
    """Mirror some images [N, C, H, W] left to right, those of `is_mirrored`, bool [N]."""
    return torch.where(is_mirrored[:, None, None, None], images.flip(3), images)


def translate(images: Tensor, shifts: Tensor, max_shift_px: int) -> Tensor:
    """Shift images uint8 [N, C, H, W], zeros from outside, by shifts [N, 2] less max_shift_px."""
    num_images, _, height, width = images.shape
    padded = torch.nn.functional.pad(images, (max_shift_px,) * 4)
    rows = shifts[:, 0, None] + torch.arange(height, device=images.device)
    columns = shifts[:, 1, None] + torch.arange(width, device=images.device)
    index = torch.arange(num_images, device=images.device)[:, None, None]
    shifted: Tensor = padded[index, :, rows[:, :, None], columns[:, None, :]]
    return shifted.permute(0, 3, 1, 2).contiguous()


def cut_out(images: Tensor, centres: Tensor, side_px: int) -> Tensor:
    """Set a square around centres int64 [N, 2] of images uint8 [N, C, H, W] to mid-grey.

    Of an even side, the centre is the first pixel behind it (DeVries & Taylor 2017, section 3).
    """
    is_inside = []
    for axis, size in enumerate(images.shape[2:]):
        first = centres[:, axis, None] - side_px // 2
        positions = torch.arange(size, device=images.device)
        is_inside.append((positions >= first) & (positions < first + side_px))  # [N, size]
    rows, columns = is_inside
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], MID_GREY)
