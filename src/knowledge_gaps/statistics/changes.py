"""How far an estimate moved between two studies."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A number with its confidence interval; NaN where there is none."""

    point: float
    low: float
    high: float


def compute_change(before: Estimate, after: Estimate) -> Estimate:
    """Take the difference of two independent estimates, with its interval.

    Each bound recovers the two estimates' variances from their own intervals on the side that
    matters for it, so that intervals may be skewed (MOVER: Zou & Donner 2008, "Construction of
    confidence limits about effect measures", Statistics in Medicine 27, section 2). It covers what
    the two intervals cover: too little where they hold something fixed that differs between the
    studies, too much where shared seeds or data tie the studies to each other.

    Args:
        before: of one study.
        after: of the other, at the same level of confidence.

    Returns:
        After less before, at that level; NaN where something is missing.
    """
    point = after.point - before.point
    below = math.hypot(after.point - after.low, before.high - before.point)
    above = math.hypot(after.high - after.point, before.point - before.low)
    return Estimate(point, point - below, point + above)
