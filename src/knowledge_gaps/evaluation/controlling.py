"""Controls: what else makes the classifiers in a loss take generated images for reals.

GANs are trained to fool them. A control trains nothing: it changes stored images of generators that
fool nobody, by those classifiers or by reals alone. A new control is a file in `controls`, with its
`Control` as CONTROL.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.data.store import Images
from knowledge_gaps.evaluation import controls
from knowledge_gaps.evaluation.registry import get_extractor
from knowledge_gaps.models.input_spec import GanClassifier
from knowledge_gaps.statistics.measures import FID, name_metric
from knowledge_gaps.statistics.rules import PRISTINE
from knowledge_gaps.study import EvaluationSettings


class Given(NamedTuple):
    """What a control may use beside the images."""

    reals: Images  # of the train split, uint8 [M, C, H, W]
    classifiers: Sequence[GanClassifier]  # those in the loss, frozen and on one device


@dataclass(frozen=True)
class Control:
    """A way to change images, of one strength or of several."""

    # all images of a generator, uint8 [N, 1 or 3, H, W] of any size, what is given, and one of the
    # distortions -> as many of the same shape; nothing else decides the result
    change: Callable[[Images, Given, int], Images]
    # largest changes of a value in levels of 255, rising; 0 stands for one that has no such bound
    distortions: tuple[int, ...] = (0,)


def list_controls() -> list[str]:
    """List the names of all controls, that of no change first, without importing them."""
    names = (module.name for module in pkgutil.iter_modules(controls.__path__))
    return sorted(names, key=lambda name: (name != PRISTINE, name))


def get_control(name: str) -> Control:
    """Return a control; raises UserError when there is none of that name."""
    if name not in list_controls():
        known = ", ".join(list_controls())
        words = f"{name!r} found, one of {known} is needed"
        raise UserError(f"params.yaml: evaluation.controls: {words}")
    control: Control = importlib.import_module(f"{controls.__name__}.{name}").CONTROL
    return control


def choose_controls(settings: EvaluationSettings) -> dict[str, Control]:
    """Choose what a study asks for, with that of no change; nothing where its list is empty.

    Raises UserError when there is none of a name.
    """
    asked = list_controls() if settings.controls is None else settings.controls
    return {name: get_control(name) for name in dict.fromkeys([PRISTINE, *asked]) if asked}


def name_distance(settings: EvaluationSettings) -> str:
    """Name the Frechet distance of the images that are changed, as `measures.name_metric` does."""
    is_fid = get_extractor(settings.extractor).is_fid
    return name_metric(FID, settings.num_perturbed, settings.extractor, is_fid)


def measure_change(changed: Images, images: Images) -> float:
    """Return the mean absolute change of a value, in levels of 255, of images [N, C, H, W]."""
    return float(np.abs(np.subtract(changed, images, dtype=np.int16)).mean())
