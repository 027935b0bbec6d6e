"""Perturbations of stored images by name, and how classifiers score perturbed images.

A new perturbation is a file in `perturbations`, with a function for each of its names in
PERTURBATIONS.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.data.store import Images
from knowledge_gaps.evaluation import perturbations
from knowledge_gaps.evaluation.batches import count_scored
from knowledge_gaps.evaluation.cached import Row
from knowledge_gaps.evaluation.detection import Scores, measure_detection, score_images
from knowledge_gaps.models.input_spec import GanClassifier
from knowledge_gaps.statistics import measures
from knowledge_gaps.statistics.rules import PRISTINE
from knowledge_gaps.study import EvaluationSettings

FALSE_ALARMS_PERCENT = 5  # of the reals that set a threshold
LEAST_DEV_REALS = 20  # so that this share is one image

Perturb = Callable[[Images, int], Images]
"""Changes images, uint8 [N, 1 or 3, H, W] of any size, and returns as many of the same shape.

The number is the position of the first image in its set. Nothing else decides the result, so that
reals and generated images are changed alike, in batches of any size.
"""


class Perturbation(NamedTuple):
    """A perturbation, with the file whose code decides what it does."""

    apply: Perturb
    file: Path


@cache
def list_perturbations() -> dict[str, Perturbation]:
    """List all perturbations by name, that of no change first; ValueError for a name twice."""
    files = (module.name for module in pkgutil.iter_modules(perturbations.__path__))
    found: dict[str, Perturbation] = {}
    for stem in sorted(files, key=lambda stem: (stem != PRISTINE, stem)):
        module = importlib.import_module(f"{perturbations.__name__}.{stem}")
        for name, apply in module.PERTURBATIONS.items():
            if name in found:
                raise ValueError(f"perturbation {name!r} is in {module.__file__} and another file")
            found[name] = Perturbation(apply, Path(str(module.__file__)))
    return found


def choose_perturbations(settings: EvaluationSettings) -> dict[str, Perturbation]:
    """Choose what a study asks for, with that of no change; nothing where its list is empty.

    Raises UserError when there is none of a name.
    """
    known, asked = list_perturbations(), settings.perturbations
    if asked is None:
        return dict(known)
    for name in asked:
        if name not in known:
            names = ", ".join(known)
            raise UserError(
                f"params.yaml: evaluation.perturbations: {name!r} found, one of {names} is needed"
            )
    return {name: known[name] for name in known if asked and name in (PRISTINE, *asked)}


def map_pictures(images: Images, change: Callable[[Image.Image], Image.Image]) -> Images:
    """Change images, uint8 [N, 1 or 3, H, W], one by one as Pillow's, whose size stays."""
    changed = np.empty_like(images)
    for index, image in enumerate(images):
        pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)  # [H, W] or [H, W, 3]
        picture = change(Image.fromarray(pixels))
        changed[index] = np.atleast_3d(np.asarray(picture)).transpose(2, 0, 1)
    return changed


def score_perturbed(
    classifiers: Sequence[GanClassifier], images: Images, perturb: Perturb
) -> list[Scores]:
    """Return the logits float32 [N] of each classifier, at least one, of perturbed images.

    The images, uint8 [N, C, H, W], are perturbed once, and only a batch of them is in memory at a
    time. See `detection.score_images`.
    """
    size = min(count_scored(classifier.spec) for classifier in classifiers)
    scores = [[np.zeros(0, np.float32)] for _ in classifiers]
    for start in range(0, len(images), size):
        batch = perturb(np.array(images[start : start + size]), start)
        for classifier, parts in zip(classifiers, scores, strict=True):
            parts.append(score_images(classifier, batch))
    return [np.concatenate(parts) for parts in scores]


def measure_perturbed(scores_generated: Scores, scores_real: Scores, scores_dev: Scores) -> Row:
    """Measure how well a classifier tells perturbed images from reals that were perturbed alike.

    Args:
        scores_generated: logits float32 [N] of one generator's images.
        scores_real: logits float32 [M] of the reals that these are compared with.
        scores_dev: logits float32 [K] of other reals, which set the threshold.

    Returns:
        num_images, which is N; detection_rate, real_accuracy and auc as of `measure_detection`;
        and detection_at_5pct, the share of generated images below the threshold below which at
        most 5 % of the other reals lie, None where these are less than LEAST_DEV_REALS.
    """
    measured: Row = {**measure_detection(scores_generated, scores_real)}
    rate = None
    if len(scores_dev) >= LEAST_DEV_REALS:
        num_false_alarms = len(scores_dev) * FALSE_ALARMS_PERCENT // 100
        threshold = np.sort(scores_dev)[num_false_alarms]
        rate = float(np.mean(scores_generated < threshold))
    measured[measures.DETECTION_AT_DEV_5PCT] = rate
    kept = {name: measured[name] for name in measures.PERTURBED_MEASURES}
    return {"num_images": len(scores_generated), **kept}
