"""How a generator's images get past a classifier: the signal is gone, shifted or inverted.

A detection rate near 0 says only on which side of the classifier's threshold the images lie. The
area under the ROC curve, which knows no threshold, says whether the classifier still tells them
from reals. Both are measured by `knowledge_gaps.evaluation.detection`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import overload

import numpy as np
import numpy.typing as npt

DETECTED_FROM = 0.5  # detection rate from which a generator counts as detected
CHANCE = 0.5  # area under the ROC curve of a classifier that tells nothing apart
GONE_MARGIN = 0.1  # area this near to chance, ends included, carries no usable signal


class Fooling(StrEnum):
    """What became of the signal that a classifier detects generated images by."""

    DETECTED = "detected"  # at least half of the images are called generated
    GONE = "gone"  # fooled, and the classifier ranks generated images and reals alike
    SHIFTED = "shifted"  # fooled, but another threshold would tell them apart
    INVERTED = "inverted"  # fooled, and generated images look more real to it than reals
    UNKNOWN = "unknown"  # a number is missing


@overload
def classify_fooling(detection_rate: float, auc: float) -> str: ...


@overload
def classify_fooling(
    detection_rate: npt.NDArray[np.float64], auc: npt.NDArray[np.float64]
) -> npt.NDArray[np.str_]: ...


def classify_fooling(
    detection_rate: float | npt.NDArray[np.float64], auc: float | npt.NDArray[np.float64]
) -> str | npt.NDArray[np.str_]:
    """Say for each pair of generator and classifier what became of the classifier's signal.

    Args:
        detection_rate: in [0, 1], one number or an array; NaN where it is missing.
        auc: in [0, 1], of the same shape.

    Returns:
        A value of `Fooling`, or an array of them.
    """
    rates, areas = np.asarray(detection_rate), np.asarray(auc)
    conditions = {
        Fooling.UNKNOWN: np.isnan(rates) | np.isnan(areas),
        Fooling.DETECTED: rates >= DETECTED_FROM,
        Fooling.GONE: np.abs(areas - CHANCE) <= GONE_MARGIN,
        Fooling.SHIFTED: areas > CHANCE,
    }
    words = [np.asarray(fooling.value) for fooling in conditions]
    fooled: npt.NDArray[np.str_] = np.select(
        list(conditions.values()), words, default=np.asarray(Fooling.INVERTED.value)
    )
    return fooled[()]  # a plain text where one number was given
