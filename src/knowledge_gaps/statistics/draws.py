"""Random draws of instances, shared by all cells of a cohort."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

_CHUNK = 1_000  # resamples whose ranks are held at a time


@lru_cache(maxsize=256)
def draw_counts(
    seed: int, cohort: str, members: tuple[bool, ...], num_resamples: int
) -> npt.NDArray[np.float32]:
    """Draw n - 1 of the n instances of a cohort that are members, with replacement.

    Every draw ranks all instances of the cohort at random and takes the first that is a member: it
    is the same instance for two sets of members wherever both have it.

    Args:
        seed: of the draws.
        cohort: its name, which selects the random stream.
        members: for each instance of the cohort, whether it may be drawn.
        num_resamples: how many times.

    Returns:
        How often each instance was drawn, float32 [num_resamples, instances], read-only. A single
        member counts once each time.
    """
    chosen = np.flatnonzero(members)
    counts = np.zeros((num_resamples, len(members)), dtype=np.float32)
    if len(chosen) <= 1:
        counts[:, chosen] = 1
    else:
        rng = np.random.default_rng([seed, *cohort.encode()])
        for start in range(0, num_resamples, _CHUNK):
            # the size depends on the cohort alone, and so does the stream
            ranks = rng.random((_CHUNK, len(members) - 1, len(members)), dtype=np.float32)
            part = counts[start : start + _CHUNK]
            winners = ranks[: len(part), : len(chosen) - 1, chosen].argmin(axis=2)
            for position, instance in enumerate(chosen):
                part[:, instance] = (winners == position).sum(axis=1)
    counts.flags.writeable = False
    return counts
