"""What intervals over chains cover, and what tests of equivalence decide: reports/coverage.md.

    python benchmarks/coverage.py [--trials N] [--folder FOLDER]

Rates of 2 x 2 pairs a chain are made up: logits with parts of chain, generator, classifier and pair
of known variances, then 4,000 images counted. The same seeds give the same file.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
from scipy.special import expit, logit

from knowledge_gaps.core.files import write_text
from knowledge_gaps.statistics import chains
from knowledge_gaps.statistics.chains import Floats, Interval, Scale
from measuring import REPOSITORY

IMAGES, SIZES, MARGIN = 4_000, (4, 6, 8), 0.115654  # of detection rates, in findings.yaml
LEAST = chains.compute_resolution(IMAGES)
CELLS = ((0.05,), (0.3,), (0.5,), (0.95,), (0.3, 0.5))  # a rate, or one less another
PAGE = """# What intervals over chains cover

Written by `python benchmarks/coverage.py`, {trials:,} trials a number (standard error {error:.1f}
at 95 %). A chain has 2 x 2 pairs, a rate is of 4,000 images. The instances' part of a chain's mean
has a standard deviation of 0.15 in logits, the larger one of two MNIST studies (0.09 and 0.15), or
three times that; the chains' variance is 0, 2 or 12 times its square (the two studies: 12 and 2).
The truth is that of 200,000 chains.

First: the interval of the tables, for what they print, the mean. In brackets: Student's t of the
chains' logits, clipped at half an image, for their mean (a typical chain); the same for the mean.

| rate | instances | ratio | mean, typical | 4 chains | 6 chains | 8 chains |
|---|---:|---:|---|---|---|---|
{rates}

Equivalence within {margin:.3f} at alpha 0.05, by the standard deviation of differences over chains:
how often a difference of that size is called equivalent (at most 5 %), and how often one of 0.

| standard deviation | 4 chains | 6 chains | 8 chains |
|---:|---|---|---|
{tests}
"""


def draw_rates(rng: np.random.Generator, shape: Sequence[int], rate: float, *std: float) -> Floats:
    """Draw chains' mean rates; the standard deviations are those of chain and instances."""
    part = std[1] / math.sqrt(1 / 2 + 1 / 2 + 1 / 4)  # generator, classifier and pair alike
    chain = logit(rate) + std[0] * rng.normal(size=(*shape, 1, 1))
    pairs = sum(part * rng.normal(size=(*shape, *size)) for size in ((2, 1), (1, 2), (2, 2)))
    return np.asarray(rng.binomial(IMAGES, expit(chain + pairs)).mean(axis=(2, 3)) / IMAGES)


def measure_coverage(trials: int, cell: Sequence[float], std: float, ratio: int) -> str:
    """Return the line of a cell."""
    rng = np.random.default_rng([trials, ratio, *(int(1_000 * x) for x in (*cell, std))])

    def draw(*shape: int) -> Floats:
        sides = [draw_rates(rng, shape, rate, math.sqrt(ratio) * std, std) for rate in cell]
        return sides[0] if len(sides) == 1 else sides[0] - sides[1]

    rates = [draw(200_000, 1), *(draw(trials, size) for size in SIZES)]
    truth, scale = rates[0].mean(), Scale.SHARE if len(cell) == 1 else Scale.PLAIN
    found = [_count([chains.bound_mean(x, scale, LEAST) for x in y], truth) for y in rates[1:]]
    names = [" less ".join(map(str, cell)), f"{std}", f"{ratio}", f"{truth:.3f}"]
    if scale is Scale.SHARE:
        logits = [logit(np.clip(x, LEAST, 1 - LEAST)) for x in rates]
        names[-1] += f", {expit(typical := logits[0].mean()):.3f}"
        for i, each in enumerate([chains.bound_mean(x) for x in y] for y in logits[1:]):
            found[i] += f" ({_count(each, typical)}; {_count(each, logit(truth))})"
    return f"| {' | '.join(names + found)} |"


def measure_equivalence(trials: int, std: float) -> str:
    """Return the line of a standard deviation."""
    rng, columns = np.random.default_rng([trials, int(1_000 * std)]), [f"{std}"]
    for size in SIZES:
        samples = [x + std * rng.normal(size=(trials, size)) for x in (MARGIN, 0)]
        found = [[chains.assess_equivalence(x, MARGIN).is_equivalent for x in s] for s in samples]
        columns.append("{:.1f}, {:.1f}".format(*(100 * np.mean(x) for x in found)))
    return f"| {' | '.join(columns)} |"


def _count(intervals: Sequence[Interval], truth: float) -> str:
    return f"{100 * np.mean([each.low <= truth <= each.high for each in intervals]):.1f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=4_000)
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "reports")
    trials, folder = vars(parser.parse_args()).values()
    error, grid = 100 * math.sqrt(0.95 * 0.05 / trials), product(CELLS, (0.15, 0.45), (0, 2, 12))
    rates = "\n".join(measure_coverage(trials, *place) for place in grid)
    tests = "\n".join(measure_equivalence(trials, std) for std in (0.03, 0.06, 0.12))
    page = PAGE.format(trials=trials, error=error, rates=rates, margin=MARGIN, tests=tests)
    write_text(folder / "coverage.md", page)
