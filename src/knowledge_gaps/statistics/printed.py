"""Resamples of cells of which only mean and standard deviation are printed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from knowledge_gaps.statistics.bootstrap import NUM_RESAMPLES, Component, Resampled

PRINTED_STEP = 0.01  # two digits are printed; rounding adds a uniform error of this width
_MANY = 1_000  # instances behind a standard error that is known: Student's t is normal


@dataclass(frozen=True)
class Printed:
    """A number as it is printed.

    Attributes:
        mean: in [0, 1] for a share.
        std: None where none is printed.
    """

    mean: float
    std: float | None


def resample_printed(
    cells: Sequence[Printed], num_instances: int | None, seed: int, num: int = NUM_RESAMPLES
) -> Resampled:
    """Draw every cell from a normal distribution, independently of the others.

    Args:
        cells: shares; one without a standard deviation gets no draws.
        num_instances: a standard deviation is that of so many independent numbers, so the mean's
            standard error is its share 1/sqrt(num_instances); None takes it for that error.
        seed: of the draws.
        num: how many draws.

    Returns:
        Draws clipped to [0, 1].
    """
    count, size = (1, _MANY) if num_instances is None else (num_instances, num_instances)
    rounding = PRINTED_STEP / math.sqrt(12)
    stds = np.array([math.nan if cell.std is None else cell.std for cell in cells])
    errors = np.hypot(stds / math.sqrt(count), rounding)
    means = np.array([cell.mean for cell in cells])
    noise = np.random.default_rng([seed, len(cells)]).standard_normal((len(cells), num))
    draws = np.clip(means[:, None] + errors[:, None] * noise, 0.0, 1.0)
    components = []
    for cell in np.flatnonzero(~np.isnan(errors)):
        is_used = np.zeros((size, len(cells)), dtype=np.bool_)
        is_used[:, cell] = True
        deviation = draws[cell].std() / math.sqrt(size)  # of each instance, so that they add up
        components.append(Component(f"cell {cell}", is_used * deviation, is_used))
    return Resampled(means, draws, tuple(components))
