"""Stateless randomness: every random number is a function of what it is for.

So a resumed run, other workers and another order of instances draw the same numbers.
"""

from __future__ import annotations

import hashlib

import torch


def derive_seed(seed: int, purpose: str, *names: str | int) -> int:
    """Derive a seed in [0, 2**63) of the study's seed, a purpose, and names of this draw."""
    text = "\x1f".join([str(seed), purpose, *(str(name) for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def make_generator(seed: int, purpose: str, *names: str | int) -> torch.Generator:
    """Make a CPU generator for one draw; arguments as in `derive_seed`."""
    return torch.Generator(device="cpu").manual_seed(derive_seed(seed, purpose, *names))
