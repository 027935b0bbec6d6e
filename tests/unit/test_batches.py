"""What a step trains on: stateless, balanced, and the same for any number of processes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from knowledge_gaps.data.store import hold_images
from knowledge_gaps.models.registry import Generator
from knowledge_gaps.training.batches import (
    Stream,
    draw_latents,
    draw_reals,
    sample_images,
    split_evenly,
)

STREAM = Stream(0, "gans/baseline", 0)
OTHERS = [Stream(1, "gans/baseline", 0), Stream(0, "gans/other", 0), Stream(0, "gans/baseline", 1)]


class Painter(Generator):
    """A generator whose image is its latent, 2 x 2 px, doubled."""

    latent_dim = 4

    def forward(self, latents: Tensor) -> Tensor:
        return 2 * latents.view(-1, 1, 2, 2)


# --- drawing


def draw_both(stream: Stream, *names: str | int) -> tuple[Tensor, Tensor]:
    store = hold_images(np.arange(200, dtype=np.uint8).reshape(200, 1, 1, 1))
    return draw_latents(stream, 6, 5, *names), draw_reals(stream, store, 40, *names)


def test_same_step_draws_the_same() -> None:
    for first, again in zip(draw_both(STREAM, 3, 0), draw_both(STREAM, 3, 0), strict=True):
        assert torch.equal(first, again)


@pytest.mark.parametrize("other", OTHERS)
def test_other_stream_draws_other_numbers(other: Stream) -> None:
    for first, second in zip(draw_both(STREAM, 3, 0), draw_both(other, 3, 0), strict=True):
        assert not torch.equal(first, second)


@pytest.mark.parametrize("names", [(4, 0), (3, 1), (3,), (3, 0, 0)])
def test_other_step_draws_other_numbers(names: tuple[int, ...]) -> None:
    for first, second in zip(draw_both(STREAM, 3, 0), draw_both(STREAM, *names), strict=True):
        assert not torch.equal(first, second)


def test_reals_are_drawn_from_all_images_alike() -> None:
    store = hold_images(np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1))
    drawn = draw_reals(STREAM, store, 5000, 0)
    assert (drawn.shape, drawn.dtype) == ((5000, 1, 1, 1), torch.uint8)
    counts = torch.bincount(drawn.flatten().int(), minlength=10)
    assert counts.min() > 400
    assert counts.max() < 600


def test_layers_are_seeded_for_their_step() -> None:
    def draw(stream: Stream, step: int) -> list[float]:
        stream.seed_layers(step, torch.device("cpu"))
        return torch.rand(4).tolist()

    first = draw(STREAM, 5)
    assert draw(STREAM, 5) == first
    assert all(draw(*other) != first for other in [(STREAM, 6), *((s, 5) for s in OTHERS)])


def test_layers_of_every_rank_draw_their_own_numbers() -> None:
    def draw(*rank: int) -> Tensor:
        STREAM.seed_layers(3, torch.device("cpu"), *rank)
        return torch.rand(4)

    assert torch.equal(draw(0), draw())
    assert torch.equal(draw(1), draw(1))
    assert len({tuple(draw(rank).tolist()) for rank in range(3)}) == 3


def test_parts_of_reals_are_the_whole_draw() -> None:
    store = hold_images(np.arange(200, dtype=np.uint8).reshape(200, 1, 1, 1))
    parts = [draw_reals(STREAM, store, 8, 3, part=slice(at, at + 4)) for at in (0, 4)]
    assert torch.equal(torch.cat(parts), draw_reals(STREAM, store, 8, 3))


# --- the balance over generators


@pytest.mark.parametrize("num_generators", [1, 2, 3, 4, 5, 7, 10])
@pytest.mark.parametrize("num_images", [2, 3, 8, 64])
def test_batch_is_shared_evenly(num_images: int, num_generators: int) -> None:
    shares = [split_evenly(num_images, num_generators, step) for step in range(40)]
    assert all(len(counts) == num_generators for counts in shares)
    assert all(sum(counts) == num_images for counts in shares)
    assert all(max(counts) - min(counts) <= 1 for counts in shares)
    for start in range(40 - num_generators):
        window = shares[start : start + num_generators]
        totals = [sum(counts) for counts in zip(*window, strict=True)]
        assert totals == [num_images] * num_generators


# --- sampling


def test_samples_are_stored_the_way_reals_are() -> None:
    latents = torch.tensor([[-1.0, -0.5, 0.0, 0.25], [0.5, 0.1, -0.3, 3.0]])
    images = sample_images(Painter(), latents)
    assert (images.shape, images.dtype) == ((2, 1, 2, 2), torch.uint8)
    assert images.flatten().tolist() == [0, 0, 128, 191, 255, 153, 51, 255]


@pytest.mark.parametrize("draw", [draw_latents, draw_reals])
def test_drawing_leaves_torchs_global_state(draw: Callable[..., Tensor]) -> None:
    before = torch.random.get_rng_state()
    draw(
        STREAM,
        *((6, 5) if draw is draw_latents else (hold_images(np.zeros((4, 1, 1, 1), np.uint8)), 2)),
    )
    assert torch.equal(torch.random.get_rng_state(), before)
