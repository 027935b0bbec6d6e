"""How often the 95 % interval of the two-way bootstrap holds what it should.

    python benchmarks/coverage.py [--trials N]

Rates are made up from generator, classifier and noise effects whose expectation is known. The
first two models are normal; the last two are of shares as the tables have them: near 1 and skewed,
and all-or-nothing by classifier, where a coin decides whether one detects nearly all images or
nearly none.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from knowledge_gaps.statistics.bootstrap import PairMatrix, make_interval, resample_cells

Floats = npt.NDArray[np.float64]
Model = Callable[[np.random.Generator, int], Floats]

SIZES = (3, 4, 8, 20)
NUM_RESAMPLES = 1_000
LOGIT_SHIFT = 3.0  # rates of the skewed model lie around 0.95


def draw_equal(rng: np.random.Generator, size: int) -> Floats:
    """Generator, classifier and noise variance are equal; the expectation is 0."""
    return rng.normal(size=(size, 1)) + rng.normal(size=size) + rng.normal(size=(size, size))


def draw_generators(rng: np.random.Generator, size: int) -> Floats:
    """The generators' standard deviation is five times the others'."""
    return 5 * rng.normal(size=(size, 1)) + rng.normal(size=size) + rng.normal(size=(size, size))


def draw_skewed(rng: np.random.Generator, size: int) -> Floats:
    """Shares whose logits are as in `draw_equal` around a mean of 3."""
    return 1 / (1 + np.exp(-LOGIT_SHIFT - draw_equal(rng, size)))


def draw_all_or_nothing(rng: np.random.Generator, size: int) -> Floats:
    """Shares of about 0.99 or 0.01, by classifier."""
    detects = rng.random(size) < 0.5
    return np.where(detects, 0.99, 0.01) + rng.normal(scale=0.003, size=(size, size))


def estimate_mean(model: Model) -> float:
    """Return the expectation of a model, from many rows and columns."""
    rng = np.random.default_rng(1)
    return float(np.mean([model(rng, 400).mean() for _ in range(50)]))


def measure_coverage(model: Model, size: int, num_trials: int, mean: float) -> float:
    """Return the share of trials whose interval holds the expectation."""
    rng = np.random.default_rng([size, num_trials])
    num_held = 0
    for trial in range(num_trials):
        cell = PairMatrix(model(rng, size), "generators", "classifiers")
        resampled = resample_cells([cell], seed=trial, num_resamples=NUM_RESAMPLES)
        interval = make_interval(resampled, np.ones(1))
        num_held += interval.low <= mean <= interval.high
    return num_held / num_trials


def main() -> None:
    """Print a table of models by sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, default=1000)
    trials: int = parser.parse_args().trials
    models = {
        "equal variances": (draw_equal, 0.0),
        "generators vary most": (draw_generators, 0.0),
        "shares near 1": (draw_skewed, estimate_mean(draw_skewed)),
        "all or nothing": (draw_all_or_nothing, 0.5),
    }
    print(f"{'model':24}" + "".join(f"{size:>3} x {size:<4}" for size in SIZES))
    for name, (model, mean) in models.items():
        shares = (measure_coverage(model, size, trials, mean) for size in SIZES)
        print(f"{name:24}" + "".join(f"{share:8.1%} " for share in shares), flush=True)


if __name__ == "__main__":
    main()
