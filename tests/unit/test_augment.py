"""What a classifier's batch goes through: each alteration against a plain loop, and its draws."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from knowledge_gaps.data.images import to_uint8
from knowledge_gaps.study import ClassifierRecipe, OptimizerSettings
from knowledge_gaps.training.augment import MID_GREY, augment, cut_out, translate
from knowledge_gaps.training.batches import Stream
from knowledge_gaps.training.ranks import Ranks

STREAM = Stream(0, "classifiers/c", 0)
OTHERS = [
    Stream(1, "classifiers/c", 0),
    Stream(0, "classifiers/d", 0),
    Stream(0, "classifiers/c", 1),
]
KINDS: list[dict[str, Any]] = [{"mirror": True}, {"translation_px": 2}, {"cutout_px": 3}]

each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: next(iter(kind)))


def draw_stored(*shape: int) -> Tensor:
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def make_recipe(**keys: Any) -> ClassifierRecipe:
    adam = OptimizerSettings(learning_rate=1e-3)
    return ClassifierRecipe(architecture="cnn", steps=1, batch_size=2, optimizer=adam, **keys)


# --- nothing unless asked for


# --- draws


@each_kind
def test_draw_depends_on_stream_and_step_alone(kind: dict[str, Any]) -> None:
    images, recipe = draw_stored(40, 1, 8, 8), make_recipe(**kind)
    first = augment(images, recipe, STREAM, Ranks(), 3, 0)
    assert torch.equal(augment(images, recipe, STREAM, Ranks(), 3, 0), first)
    others = [(STREAM, (4, 0)), (STREAM, (3, 1)), *((other, (3, 0)) for other in OTHERS)]
    for stream, names in others:
        assert not torch.equal(augment(images, recipe, stream, Ranks(), *names), first)


def test_draws_do_not_depend_on_one_another() -> None:
    images = draw_stored(40, 1, 8, 8)
    recipe = make_recipe(mirror=True, translation_px=2, cutout_px=3)
    altered = images
    for kind in KINDS:
        altered = augment(altered, make_recipe(**kind), STREAM, Ranks(), 3, 0)
    assert torch.equal(augment(images, recipe, STREAM, Ranks(), 3, 0), altered)


@each_kind
def test_ranks_alter_their_parts_as_one_process_alters_the_whole(kind: dict[str, Any]) -> None:
    images, recipe = draw_stored(16, 1, 8, 8), make_recipe(**kind)
    whole = augment(images, recipe, STREAM, Ranks(), 3, 0)
    for rank in range(2):  # 8 reals, then 8 generated images: each rank has 4 of both
        part = [*range(4 * rank, 4 * rank + 4), *range(8 + 4 * rank, 12 + 4 * rank)]
        altered = augment(images[part], recipe, STREAM, Ranks(2, rank), 3, 0)
        assert torch.equal(altered, whole[part])


def test_half_of_the_images_are_mirrored() -> None:
    images = torch.tensor([0, 255], dtype=torch.uint8).expand(4000, 1, 1, 2)
    altered = augment(images, make_recipe(mirror=True), STREAM, Ranks(), 0, 0)
    is_mirrored = altered[:, 0, 0, 0] == 255
    assert abs(int(is_mirrored.sum()) - 2000) < 4 * 1000**0.5  # four standard deviations
    assert torch.equal(altered[:, 0, 0, 1] == 0, is_mirrored)


def test_every_pixel_may_be_the_centre_of_a_cutout() -> None:
    images = torch.zeros(4000, 1, 4, 5, dtype=torch.uint8)
    altered = augment(images, make_recipe(cutout_px=1), STREAM, Ranks(), 0, 0)
    assert (altered.flatten(1) == MID_GREY).sum(dim=1).tolist() == [1] * 4000
    counts = (altered == MID_GREY).sum(dim=0)  # 200 expected of each, deviation 14
    assert counts.min() > 140
    assert counts.max() < 260


# --- mirror


# --- translation


def translate_by_hand(images: Tensor, shifts: Tensor, max_shift_px: int) -> Tensor:
    shifted = torch.zeros_like(images)
    num_images, channels, height, width = images.shape
    for n, c, y, x in itertools.product(*map(range, (num_images, channels, height, width))):
        row = y + int(shifts[n, 0]) - max_shift_px
        column = x + int(shifts[n, 1]) - max_shift_px
        if 0 <= row < height and 0 <= column < width:
            shifted[n, c, y, x] = images[n, c, row, column]
    return shifted


@pytest.mark.parametrize("max_shift_px", [1, 2, 5])
@pytest.mark.parametrize("shape", [(7, 1, 4, 6), (5, 3, 5, 3)])
def test_translation_equals_the_loop(shape: tuple[int, ...], max_shift_px: int) -> None:
    images = draw_stored(*shape)
    generator = torch.Generator().manual_seed(1)
    shifts = torch.randint(2 * max_shift_px + 1, (shape[0], 2), generator=generator)
    shifted = translate(images, shifts, max_shift_px)
    assert shifted.dtype == torch.uint8
    assert torch.equal(shifted, translate_by_hand(images, shifts, max_shift_px))


# --- cutout


def cut_out_by_hand(images: Tensor, centres: Tensor, side_px: int) -> Tensor:
    altered = images.clone()
    _, _, height, width = images.shape
    for n, (row, column) in enumerate(centres.tolist()):
        for y, x in itertools.product(range(height), range(width)):
            top, left = row - side_px // 2, column - side_px // 2
            if top <= y < top + side_px and left <= x < left + side_px:
                altered[n, :, y, x] = 128
    return altered


@pytest.mark.parametrize("side_px", [1, 2, 3, 9])
@pytest.mark.parametrize("shape", [(7, 1, 4, 6), (5, 3, 5, 3)])
def test_cutout_equals_the_loop(shape: tuple[int, ...], side_px: int) -> None:
    images = draw_stored(*shape)
    generator = torch.Generator().manual_seed(1)
    centres = torch.stack(
        [torch.randint(size, (shape[0],), generator=generator) for size in shape[2:]], 1
    )
    altered = cut_out(images, centres, side_px)
    assert altered.dtype == torch.uint8
    assert torch.equal(altered, cut_out_by_hand(images, centres, side_px))


def test_cutout_is_mid_grey() -> None:
    assert int(to_uint8(torch.zeros(1, 1, 1, 1))) == MID_GREY
