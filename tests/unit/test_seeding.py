"""Randomness is a function of what it is for, and does not change silently."""

from __future__ import annotations

import pytest
import torch

from knowledge_gaps.core.seeding import derive_seed, make_generator

BASELINE = "gans/baseline"
ARGUMENTS: list[tuple[int, str, tuple[str | int, ...]]] = [
    (0, "latents", (BASELINE, 0, 0)),
    (1, "latents", (BASELINE, 0, 0)),
    (10, "latents", (BASELINE, 0, 0)),
    (0, "reals", (BASELINE, 0, 0)),
    (0, "latents", ("gans/fool_all_1", 0, 0)),
    (0, "latents", (BASELINE, 1, 0)),
    (0, "latents", (BASELINE, 0, 1)),
    (0, "latents", (BASELINE, 0)),
    (0, "latents", (BASELINE, "00")),
    (0, "latents", (f"{BASELINE}0", 0)),
    (0, "latents", ()),
]


def test_seeds_and_numbers_are_what_they_always_were() -> None:
    assert derive_seed(0, "weights", BASELINE, 0) == 4_293_620_525_240_837_674
    latents = derive_seed(0, "latents", "classifiers/iteration_0", 3, 2999, 0, 2)
    assert latents == 335_234_091_126_731_348
    before = torch.random.get_rng_state()
    integers = torch.randint(1000, (4,), generator=make_generator(0, "reals", BASELINE, 0))
    assert integers.tolist() == [264, 915, 639, 162]
    normals = torch.randn(3, generator=make_generator(0, "latents", BASELINE, 0))
    assert normals.tolist() == pytest.approx([0.513208, 0.859613, -2.520408], abs=1e-6)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_every_argument_tells_draws_apart() -> None:
    seeds = {derive_seed(seed, purpose, *names) for seed, purpose, names in ARGUMENTS}
    assert len(seeds) == len(ARGUMENTS)
    assert all(0 <= seed < 2**63 for seed in seeds)
    generators = [make_generator(seed, purpose, *names) for seed, purpose, names in ARGUMENTS]
    draws = torch.stack([torch.randn(4000, generator=generator) for generator in generators])
    correlations = torch.corrcoef(draws) - torch.eye(len(ARGUMENTS))
    assert correlations.abs().max() < 0.08  # 5 sigma of 4000
