"""Intervals over chains: means, effects, changes between studies, and tests of equivalence.

A chain is one independent repetition of the whole sequence. Instances and pairs of one chain share
what they were trained against, so the chain is the independent unit: numbers are summarised within
each chain first, and intervals are Student's t over chains. They cover other chains of the same
study; they do not cover other data, networks or recipes.

What is estimated is always the mean over chains, on the scale of the table: the interval of a
share is one on the logit scale around the logit of its mean, transformed back. The mean of the
chains' logits, transformed back, is another quantity, the share of a typical chain: where chains
differ much it lies far from the mean, and depends on where chains at 0 or 1 are clipped.

benchmarks/coverage.py measures both with 4, 6 and 8 chains (reports/coverage.md). Intervals at
95 % cover the mean in 93.3 to 96.7 % of cases where chains and instances vary as in the MNIST
studies (standard deviation over chains of up to 0.5 in logits), and differences in 94.2 to 95.8 %.
Where shares near 0.05 or 0.95 vary three times as much (0.8 to 1.6 in logits) they cover 89.9 to
93.1 %: few chains then show nothing of the rare ones that the mean is made of.

Variance components of chains are in components.py.

Source: Student 1908; Korn and Graubard 1998, "Confidence intervals for proportions with small
expected number of positive counts estimated from survey data", Survey Methodology 24, for the logit
interval of a mean share; Schuirmann 1987, J. Pharmacokinetics and Biopharmaceutics 15, for the two
one-sided tests; Zou and Donner 2008, Statistics in Medicine 27, for changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit, stdtr, stdtrit

Floats = npt.NDArray[np.float64]

CONFIDENCE = 0.95
ALPHA = 0.05  # of each of the two one-sided tests


class Scale(StrEnum):
    """On which scale an interval is symmetric."""

    PLAIN = "plain"  # distances, and differences of any measure
    SHARE = "share"  # rates and areas in [0, 1]: the logit scale


class Statistic(StrEnum):
    """What is computed from the pairs of a cell within a chain."""

    MEAN = "mean"
    STD = "std"  # sample standard deviation


class Over(StrEnum):
    """How several cells of a chain become one number."""

    MEAN = "mean"
    MIN = "min"
    MAX = "max"


@dataclass(frozen=True)
class Interval:
    """A mean over chains with its confidence interval, low <= point <= high.

    The bounds are NaN with fewer than two chains, and where all values are equal and nothing is
    known of their resolution: a spread of 0 says that it could not be estimated.
    """

    point: float = math.nan  # the mean; NaN when no chain has a value
    low: float = math.nan
    high: float = math.nan
    degrees: float = math.nan  # of freedom; NaN where there are no bounds
    num_chains: int = 0  # that have a value
    num_missing: int = 0  # chains that have none, left out

    def clip(self, low: float, high: float) -> Interval:
        """Keep the bounds within what is possible; NaN stays."""
        bounds = np.clip([self.low, self.high], low, high).tolist()
        return replace(self, low=bounds[0], high=bounds[1])


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided tests of whether a mean difference lies within a margin of 0.

    Neither property holds where the chains do not decide, or where there is no interval.
    """

    interval: Interval  # at level 1 - 2 alpha
    margin: float
    p_value: float  # the larger one of the two tests; NaN without an interval

    @property
    def is_equivalent(self) -> bool:
        """Whether the whole interval lies within the margin, which is p_value < alpha."""
        return -self.margin < self.interval.low and self.interval.high < self.margin

    @property
    def is_different(self) -> bool:
        """Whether the whole interval lies beyond the margin on one side."""
        return self.interval.low > self.margin or self.interval.high < -self.margin


def compute_resolution(num_images: int) -> float:
    """Return half an image's share: `least` of shares of so many images."""
    return 0.5 / num_images


def summarise_pairs(values: Floats, statistic: Statistic = Statistic.MEAN) -> Floats:
    """Summarise the pairs of a cell within each chain.

    Args:
        values: [S, ...], a number per pair of instances; NaN where there is no pair.
        statistic: over all axes but the first.

    Returns:
        [S]; NaN for a chain without a pair, and for the STD of one pair.
    """
    pairs = values.reshape(len(values), -1)
    is_pair = ~np.isnan(pairs)
    nums = is_pair.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        means: Floats = np.where(is_pair, pairs, 0.0).sum(axis=1) / nums
        if statistic is Statistic.MEAN:
            return means
        squares = np.where(is_pair, (pairs - means[:, None]) ** 2, 0.0).sum(axis=1)
        stds: Floats = np.sqrt(squares / np.where(nums > 1, nums - 1.0, math.nan))
    return stds


def compute_effects(
    left: Floats, right: Floats | None = None, over: tuple[Over, Over] = (Over.MEAN, Over.MEAN)
) -> Floats:
    """Compute an effect in every chain: left, or left less right.

    The largest cell is that of the chain, so chance in single cells of a chain lifts it: it is the
    mean of what one run of the sequence would print as its largest, not the largest of the means.

    Args:
        left: [S, L], cells by chain, L at least 1.
        right: [S, R], cells of the same chains.
        over: how the cells of the left and of the right side become one number.

    Returns:
        [S]; NaN for a chain that lacks one of the cells, since it would have another effect.
    """
    effects = _reduce(left, over[0])
    return effects if right is None else effects - _reduce(right, over[1])


def bound_mean(
    values: Floats, scale: Scale = Scale.PLAIN, least: float = 0.0, confidence: float = CONFIDENCE
) -> Interval:
    """Bound the mean over chains by Student's t.

    A spread below the noise of counting images is luck, so the standard deviation over chains is
    at least that noise: sqrt(p (1 - p) / N) for shares of N images, and one image for differences
    of shares. So chains that all lie at 0 or 1 have an interval as wide as N images allow. The
    point then is that end, and so is one bound.

    Args:
        values: [S], one per chain; NaN where a chain has none.
        scale: SHARE for values in [0, 1], PLAIN for others and for differences.
        least: half an image's share, see `compute_resolution`; 0 for measures that are no shares.
            The mean of a SHARE is clipped at it before it goes to the logit scale.
        confidence: level of the interval, in (0, 1).

    Raises:
        ValueError: when a SHARE has no `least` in (0, 0.5).
    """
    if scale is Scale.SHARE and not 0 < least < 0.5:
        raise ValueError(f"least: {least} found, a share needs one between 0 and 0.5")
    known = values[~np.isnan(values)]
    num = len(known)
    lone = Interval(
        point=float(known.mean()) if num else math.nan,
        num_chains=num,
        num_missing=len(values) - num,
    )
    if num < 2:
        return lone
    centre = min(max(lone.point, least), 1 - least) if scale is Scale.SHARE else math.nan
    error = _estimate_error(known, centre, least)
    if error == 0:
        return lone
    half = -float(stdtrit(num - 1, (1 - confidence) / 2)) * error
    low, high = lone.point - half, lone.point + half
    if scale is Scale.SHARE:
        # the delta method: the logit's slope is 1 / (p (1 - p))
        half /= centre * (1 - centre)
        low, high = (float(expit(logit(centre) + step)) for step in (-half, half))
        low, high = min(low, lone.point), max(high, lone.point)  # of a mean that was clipped
    return replace(lone, low=low, high=high, degrees=num - 1.0)


def bound_effect(
    left: Floats,
    right: Floats | None = None,
    over: tuple[Over, Over] = (Over.MEAN, Over.MEAN),
    scale: Scale = Scale.PLAIN,
    least: float = 0.0,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Bound the mean over chains of an effect, see `compute_effects` and `bound_mean`.

    `scale` is that of the measure: a single side keeps it, a difference is PLAIN, and one of
    shares lies within [-1, 1].
    """
    effects = compute_effects(left, right, over)
    if right is None:
        return bound_mean(effects, scale, least, confidence)
    interval = bound_mean(effects, Scale.PLAIN, least, confidence)
    return interval.clip(-1.0, 1.0) if scale is Scale.SHARE else interval


def assess_equivalence(
    effects: Floats, margin: float, alpha: float = ALPHA, least: float = 0.0
) -> Equivalence:
    """Test whether the mean over chains of a difference lies between -margin and margin.

    Args:
        effects: [S], differences by chain, see `compute_effects`.
        margin: positive, in the unit of the effects; stated before the study.
        alpha: the chance to call a difference of a whole margin equivalent.
        least: as of `bound_mean`.
    """
    interval = bound_mean(effects, Scale.PLAIN, least, 1 - 2 * alpha)
    if math.isnan(interval.degrees):
        return Equivalence(interval, margin, math.nan)
    error = _estimate_error(effects[~np.isnan(effects)], math.nan, least)
    # the test against the nearer margin has the larger p-value
    p_value = float(stdtr(interval.degrees, (abs(interval.point) - margin) / error))
    return Equivalence(interval, margin, p_value)


def compute_change(before: Interval, after: Interval) -> Interval:
    """Take the difference of two independent estimates, with its interval.

    Each bound recovers the two estimates' variances from their own intervals on the side that
    matters for it, so that intervals may be skewed.

    Source: MOVER, Zou and Donner (2008), Construction of confidence limits about effect measures,
    Statistics in Medicine 27, section 2.

    Returns:
        After less before, at the level of both; NaN where something is missing. The degrees of
        freedom are the fewer ones of the two, the number of chains is that of both.
    """
    point = after.point - before.point
    below = math.hypot(after.point - after.low, before.high - before.point)
    above = math.hypot(after.high - after.point, before.point - before.low)
    return Interval(
        point=point,
        low=point - below,
        high=point + above,
        degrees=float(np.minimum(before.degrees, after.degrees)),
        num_chains=before.num_chains + after.num_chains,
        num_missing=before.num_missing + after.num_missing,
    )


def _reduce(cells: Floats, over: Over) -> Floats:
    """Make one number of each chain's cells: [S, L] -> [S]; NaN stays NaN."""
    if over is Over.MEAN:
        return np.asarray(cells.mean(axis=1))
    return np.asarray(cells.min(axis=1) if over is Over.MIN else cells.max(axis=1))


def _estimate_error(known: Floats, centre: float, least: float) -> float:
    """Return the standard error of a mean; `centre` is that of a share, NaN on the PLAIN scale."""
    # N = 0.5 / least images: p (1 - p) / N = 2 least p (1 - p); one image is 2 least
    noise = 2 * least if math.isnan(centre) else math.sqrt(2 * least * centre * (1 - centre))
    return max(float(known.std(ddof=1)), noise) / math.sqrt(len(known))
