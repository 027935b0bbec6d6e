"""How a generator's images get past a classifier: the signal is gone, shifted or inverted.

A detection rate near 0 says only on which side of the classifier's threshold the images lie. The
area under the ROC curve has no threshold: it says whether the classifier still tells them from
reals.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
import numpy.typing as npt

DETECTED_FROM = 0.5  # detection rate from which a generator counts as detected
CHANCE = 0.5  # area under the ROC curve of a classifier that tells nothing apart
GONE_MARGIN = 0.1  # area this near to chance, ends included, carries no usable signal


class Signal(StrEnum):
    """What became of the signal by which a classifier detects generated images."""

    DETECTED = "detected"  # at least half of the images are called generated
    GONE = "gone"  # fooled, and the classifier ranks generated images and reals alike
    SHIFTED = "shifted"  # fooled, but another threshold would tell them apart
    INVERTED = "inverted"  # fooled, and generated images look more real to it than reals
    UNKNOWN = "unknown"  # a number is missing


def classify_signals(
    detection_rates: npt.NDArray[np.float64], aucs: npt.NDArray[np.float64]
) -> npt.NDArray[np.str_]:
    """Say for each pair what became of the classifier's signal: values of `Signal`.

    Args:
        detection_rates: in [0, 1], of any shape; NaN where one is missing.
        aucs: likewise.
    """
    conditions = {
        Signal.UNKNOWN: np.isnan(detection_rates) | np.isnan(aucs),
        Signal.DETECTED: detection_rates >= DETECTED_FROM,
        Signal.GONE: np.abs(aucs - CHANCE) <= GONE_MARGIN,
        Signal.SHIFTED: aucs > CHANCE,
    }
    words = [np.asarray(signal.value) for signal in conditions]
    return np.select(list(conditions.values()), words, default=np.asarray(Signal.INVERTED.value))
