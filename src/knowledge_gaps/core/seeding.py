"""Stateless randomness: every random number is a function of what it is for.

No generator lives longer than one call, so a resumed run, another number of workers and another
order of instances draw the same numbers.
"""

from __future__ import annotations

import hashlib

import torch


def derive_seed(seed: int, purpose: str, *names: str | int) -> int:
    """Derive an independent seed in [0, 2**63), the first bytes of a sha256 over all arguments.

    Args:
        seed: the study's seed; 0 is a seed like any other.
        purpose: what the numbers are used for, such as "latents".
        *names: cohort, instance, step: what tells two draws of one purpose apart.
    """
    text = "\x1f".join([str(seed), purpose, *(str(name) for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def make_generator(seed: int, purpose: str, *names: str | int) -> torch.Generator:
    """Make a CPU generator for one draw; arguments as in `derive_seed`."""
    return torch.Generator(device="cpu").manual_seed(derive_seed(seed, purpose, *names))
