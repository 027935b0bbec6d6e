"""Judges: detectors that take part in no loss, trained in seconds on reals against a pool.

A GAN that is trained against a classifier can close the gap that this classifier looks at and no
other one. A judge says whether anything else still tells its images from reals. A new judge is a
file in `judges`, with its `Judge` as JUDGE.
"""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.data.store import Images
from knowledge_gaps.evaluation import judges
from knowledge_gaps.evaluation.batches import count_together, split_images
from knowledge_gaps.losses import LABEL_GENERATED, LABEL_REAL
from knowledge_gaps.study import EvaluationSettings

Features = npt.NDArray[Any]
Score = Callable[[Features], npt.NDArray[np.float32]]
"""Scores described images: [N, ...] -> float32 [N], positive = real."""
Fit = Callable[[Features, Features, int], Score]
"""Trains a detector on described reals, described generated images, and a seed."""

_BATCH_SIZE = 500  # small images that are described together
_BATCH_VALUES = 1 << 20  # of larger images together: 8 MiB as float64
_PENALTY = 1.0  # inverse weight of the penalty on the coefficients, scikit-learn's default
_NUM_ITERATIONS = 200  # of L-BFGS, at most


def fit_logistic(features_real: Features, features_generated: Features, seed: int = 0) -> Score:
    """Train a logistic regression on features [N, F] of reals and [M, F] of generated images.

    Features are standardised, and both kinds have the same total weight. It draws no random number.
    """
    # not above: `check` asks for the names of judges alone, and this takes a second
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    num_images = [len(features_real), len(features_generated)]
    labels = np.repeat([LABEL_REAL, LABEL_GENERATED], num_images)
    regression = LogisticRegression(C=_PENALTY, class_weight="balanced", max_iter=_NUM_ITERATIONS)
    model = make_pipeline(StandardScaler(), regression)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of iterations is fixed
        model.fit(np.concatenate([features_real, features_generated]), labels)

    def score(features: Features) -> npt.NDArray[np.float32]:
        scores: npt.NDArray[np.float32] = model.decision_function(features).astype(np.float32)
        return scores

    return score


@dataclass(frozen=True)
class Judge:
    """A way to describe images, and to train a detector on descriptions."""

    # uint8 [N, C, H, W], C of 1 or 3, of any size -> float64 [N, F], or whatever `fit` takes
    describe: Callable[[Images], Features]
    fit: Fit = fit_logistic

    def describe_all(self, images: Images, num_images: int | None = None) -> Features:
        """Describe the first images, or all, uint8 [N, C, H, W], with few in memory at a time."""
        size = count_together(images.shape[1:], _BATCH_SIZE, _BATCH_VALUES)
        batches = split_images(images, size, num_images)
        return np.concatenate([self.describe(batch) for batch in batches])


def list_judges() -> list[str]:
    """List the names of all judges, without importing them."""
    return sorted(module.name for module in pkgutil.iter_modules(judges.__path__))


def get_judge(name: str) -> Judge:
    """Return a judge; raises UserError when there is none of that name."""
    if name not in list_judges():
        known = ", ".join(list_judges())
        raise UserError(f"params.yaml: evaluation.judges: {name!r} found, one of {known} is needed")
    module = importlib.import_module(f"{judges.__name__}.{name}")
    judge: Judge = module.JUDGE
    return judge


def choose_judges(settings: EvaluationSettings) -> list[str]:
    """List the judges of a study; raises UserError for an unknown one."""
    names = list_judges() if settings.judges is None else settings.judges
    for name in names:
        get_judge(name)
    return names


def count_trained(num_images: int, num_generators: int) -> int:
    """Count the images of each generator of a pool that a judge is trained on.

    Together they are as many as the reals, `num_images`, in equal shares; but at most half of a
    generator's images are taken, so that the others can be scored.
    """
    return max(1, num_images // max(2, num_generators))
