"""How a classifier's batch is altered before it is seen: reals and generated images alike.

DEVIATION: the paper states no augmentation; a recipe asks for each by name, and none is on by
itself. All of it works on stored images (uint8), and draws statelessly.
"""

from __future__ import annotations

import torch
from torch import Tensor

from knowledge_gaps.study.recipes import ClassifierRecipe
from knowledge_gaps.training.batches import Stream
from knowledge_gaps.training.ranks import Ranks

MID_GREY = 128  # what 0 of [-1, 1] is stored as


def augment(
    images: Tensor, recipe: ClassifierRecipe, stream: Stream, ranks: Ranks, *names: int
) -> Tensor:
    """Mirror, shift and cut out images as a recipe asks.

    Images are uint8 [N, C, H, W], this rank's reals, then as many generated images; numbers are
    drawn for the batch of all ranks. The names tell this draw from others, the step first of all.
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
    """Shift stored images uint8 [N, C, H, W], with zeros from outside.

    Shifts are int64 [N, 2] in [0, 2 * max_shift_px]; max_shift_px is no shift.
    """
    num_images, _, height, width = images.shape
    padded = torch.nn.functional.pad(images, (max_shift_px,) * 4)
    rows = shifts[:, 0, None] + torch.arange(height, device=images.device)
    columns = shifts[:, 1, None] + torch.arange(width, device=images.device)
    index = torch.arange(num_images, device=images.device)[:, None, None]
    shifted: Tensor = padded[index, :, rows[:, :, None], columns[:, None, :]]
    return shifted.permute(0, 3, 1, 2).contiguous()


def cut_out(images: Tensor, centres: Tensor, side_px: int) -> Tensor:
    """Set a square of each image to mid-grey; what reaches over the border is lost.

    Images are uint8 [N, C, H, W], centres int64 [N, 2], row and column within the image; of an even
    side, the first pixel behind the centre.

    Source: DeVries & Taylor 2017, section 3.
    """
    is_inside = []
    for axis, size in enumerate(images.shape[2:]):
        first = centres[:, axis, None] - side_px // 2
        positions = torch.arange(size, device=images.device)
        is_inside.append((positions >= first) & (positions < first + side_px))  # [N, size]
    rows, columns = is_inside
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], MID_GREY)
