"""What the charts along one axis share: dots of single pairs, intervals, scales."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from knowledge_gaps.readings.figures.style import BLUE
from knowledge_gaps.readings.formats import format_distance
from knowledge_gaps.readings.tables import Row

RATE_LIMITS = (-0.04, 1.04)
RATE_LABEL = "detection rate\n(share of generated images)"


def spread(num: int, half_width: float) -> npt.NDArray[np.float64]:
    """Place points side by side around 0, so that equal values stay visible."""
    return np.linspace(-half_width, half_width, num) if num > 1 else np.zeros(num)


def draw_intervals(axes: Axes, cells: Sequence[Row], axis: str) -> None:
    """Draw the 95 % interval of each mean detection rate as a bar behind the dots."""
    names = (axis, "detection_rate_low", "detection_rate_high")
    bars = [tuple(cell[name] for name in names) for cell in cells]
    known = [bar for bar in bars if math.isfinite(bar[1])]
    if known:
        axes.vlines(*zip(*known, strict=True), color=BLUE, alpha=0.25, linewidth=6, zorder=1)


def label_distance(axes: Axes, name: str) -> None:
    """Name the axis of a Frechet distance, whose full name is its protocol."""
    axes.set_ylabel(f"{format_distance(name)}, no unit\n({name})")
    axes.set_title("Distance of the generated images from reals")
