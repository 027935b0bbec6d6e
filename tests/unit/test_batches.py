"""What a step trains on: stateless, balanced, altered alike, the same for any number of ranks."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from knowledge_gaps.core.instance import Instance
from knowledge_gaps.data.images import to_uint8
from knowledge_gaps.study import ClassifierRecipe, OptimizerSettings
from knowledge_gaps.training.batches import (
    MID_GREY,
    Stream,
    augment,
    cut_out,
    draw_latents,
    draw_reals,
    split_evenly,
    translate,
)
from knowledge_gaps.training.ranks import Ranks

STREAM = Stream(0, "gans/baseline", Instance(0, 0))
OTHERS = [
    Stream(1, "gans/baseline", Instance(0, 0)),
    Stream(0, "gans/other", Instance(0, 0)),
    Stream(0, "gans/baseline", Instance(0, 1)),
]


# --- drawing


def draw_both(stream: Stream, *names: str | int) -> tuple[Tensor, Tensor]:
    images = np.arange(200, dtype=np.uint8).reshape(200, 1, 1, 1)
    return draw_latents(stream, 6, 5, *names), draw_reals(stream, images, 40, *names)


def test_same_step_draws_the_same_and_another_step_or_stream_others() -> None:
    before = torch.random.get_rng_state()
    drawn = draw_both(STREAM, 3, 0)
    assert all(map(torch.equal, drawn, draw_both(STREAM, 3, 0)))
    others = [draw_both(other, 3, 0) for other in OTHERS]
    others += [draw_both(STREAM, *names) for names in ((4, 0), (3, 1), (3,), (3, 0, 0))]
    assert not any(
        torch.equal(*pair) for other in others for pair in zip(drawn, other, strict=True)
    )
    assert torch.equal(torch.random.get_rng_state(), before)


def test_reals_are_drawn_from_all_images_alike() -> None:
    images = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1)
    drawn = draw_reals(STREAM, images, 5000, 0)
    assert (drawn.shape, drawn.dtype) == ((5000, 1, 1, 1), torch.uint8)
    counts = torch.bincount(drawn.flatten().int(), minlength=10)
    assert 400 < counts.min() <= counts.max() < 600


def test_layers_are_seeded_for_their_step_and_rank() -> None:
    def draw(stream: Stream, *step_and_rank: int) -> list[float]:
        stream.seed_layers(step_and_rank[0], torch.device("cpu"), *step_and_rank[1:])
        return torch.rand(4).tolist()

    first = draw(STREAM, 5)
    assert draw(STREAM, 5) == draw(STREAM, 5, 0) == first
    others = [draw(STREAM, 6), draw(STREAM, 5, 1), draw(STREAM, 5, 2)]
    others += [draw(stream, 5) for stream in OTHERS]
    assert len({tuple(one) for one in [first, *others]}) == 7


# --- the balance over generators


@pytest.mark.parametrize("num_generators", [1, 2, 3, 5, 10])
@pytest.mark.parametrize("num_images", [2, 3, 64])
def test_batch_is_shared_evenly(num_images: int, num_generators: int) -> None:
    shares = [split_evenly(num_images, num_generators, step) for step in range(40)]
    for counts in shares:
        assert (len(counts), sum(counts)) == (num_generators, num_images)
        assert max(counts) - min(counts) <= 1
    for start in range(40 - num_generators):
        window = shares[start : start + num_generators]
        totals = [sum(counts) for counts in zip(*window, strict=True)]
        assert totals == [num_images] * num_generators


# --- augmentation

KINDS: list[dict[str, Any]] = [{"mirror": True}, {"translation_px": 2}, {"cutout_px": 3}]

each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: next(iter(kind)))


def draw_stored(*shape: int) -> Tensor:
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def make_recipe(**keys: Any) -> ClassifierRecipe:
    adam = OptimizerSettings(learning_rate=1e-3)
    return ClassifierRecipe(architecture="cnn", steps=1, batch_size=2, optimizer=adam, **keys)


@each_kind
def test_draw_depends_on_stream_step_and_kind_alone(kind: dict[str, Any]) -> None:
    images, recipe = draw_stored(40, 1, 8, 8), make_recipe(**kind)
    first = augment(images, recipe, STREAM, Ranks(), 3, 0)
    assert torch.equal(augment(images, recipe, STREAM, Ranks(), 3, 0), first)
    for stream, names in [(STREAM, (4, 0)), (STREAM, (3, 1)), *((s, (3, 0)) for s in OTHERS)]:
        assert not torch.equal(augment(images, recipe, stream, Ranks(), *names), first)
    everything = make_recipe(mirror=True, translation_px=2, cutout_px=3)
    altered = images
    for one in KINDS:
        altered = augment(altered, make_recipe(**one), STREAM, Ranks(), 3, 0)
    assert torch.equal(augment(images, everything, STREAM, Ranks(), 3, 0), altered)


@each_kind
def test_ranks_alter_their_parts_as_one_process_alters_the_whole(kind: dict[str, Any]) -> None:
    images, recipe = draw_stored(16, 1, 8, 8), make_recipe(**kind)
    whole = augment(images, recipe, STREAM, Ranks(), 3, 0)
    for rank in range(2):  # 8 reals, then 8 generated images: each rank has 4 of both
        part = [*range(4 * rank, 4 * rank + 4), *range(8 + 4 * rank, 12 + 4 * rank)]
        altered = augment(images[part], recipe, STREAM, Ranks(2, rank), 3, 0)
        assert torch.equal(altered, whole[part])


def test_every_pixel_may_be_the_centre_of_a_cutout() -> None:
    images = torch.zeros(4000, 1, 4, 5, dtype=torch.uint8)
    altered = augment(images, make_recipe(cutout_px=1), STREAM, Ranks(), 0, 0)
    assert (altered.flatten(1) == MID_GREY).sum(dim=1).tolist() == [1] * 4000
    counts = (altered == MID_GREY).sum(dim=0)  # 200 expected of each, deviation 14
    assert 140 < counts.min() <= counts.max() < 260


def alter_by_hand(
    images: Tensor, shifts: Tensor, centres: Tensor, size_px: int
) -> tuple[Tensor, Tensor]:
    """Return the images shifted by at most so many pixels, and with a square of this side cut."""
    shifted, cut = torch.zeros_like(images), images.clone()
    _, _, height, width = images.shape
    for n, y, x in itertools.product(*map(range, (len(images), height, width))):
        row, column = (
            int(start + shift) - size_px for start, shift in zip((y, x), shifts[n], strict=True)
        )
        if 0 <= row < height and 0 <= column < width:
            shifted[n, :, y, x] = images[n, :, row, column]
        top, left = (int(centre) - size_px // 2 for centre in centres[n])
        if top <= y < top + size_px and left <= x < left + size_px:
            cut[n, :, y, x] = 128
    return shifted, cut


@pytest.mark.parametrize("size_px", [1, 2, 3, 9])
@pytest.mark.parametrize("shape", [(7, 1, 4, 6), (5, 3, 5, 3)])
def test_alterations_equal_the_loops(shape: tuple[int, ...], size_px: int) -> None:
    images, generator = draw_stored(*shape), torch.Generator().manual_seed(1)
    shifts = torch.randint(2 * size_px + 1, (shape[0], 2), generator=generator)
    centres = torch.stack(
        [torch.randint(size, (shape[0],), generator=generator) for size in shape[2:]], 1
    )
    found = translate(images, shifts, size_px), cut_out(images, centres, size_px)
    assert found[0].dtype == found[1].dtype == torch.uint8
    assert all(map(torch.equal, found, alter_by_hand(images, shifts, centres, size_px)))
    assert int(to_uint8(torch.zeros(1, 1, 1, 1))) == MID_GREY == 128
