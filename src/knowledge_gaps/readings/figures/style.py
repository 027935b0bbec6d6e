"""The look of the figures, what several of them share, and the one way in which they become bytes.

Figures are `matplotlib.figure.Figure` objects without pyplot. The style is set for the time of a
drawing only, from matplotlib's own defaults, so that neither a user's matplotlibrc nor an earlier
drawing changes a figure.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from knowledge_gaps.readings.tables import Row

WIDTH_IN = 7.2  # a page's text width
DPI = 200
RATE_LIMITS = (-0.04, 1.04)
RATE_LABEL = "detection rate\n(share of generated images)"

# Okabe and Ito's palette, which stays distinct with every common colour blindness
BLUE = "#0072B2"
ORANGE = "#D55E00"
GREEN = "#009E73"
GREY = "#5F6368"

# further colours of that palette, and two of Paul Tol's
_COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#999933")
_ORDERED_MAP = "viridis"  # of more lines than there are colours
_PALEST = 0.88  # of that map; what lies above is too pale for a line

_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",  # comes with matplotlib, so it is the same everywhere
    "font.size": 9,
    "grid.color": "#E3E5E8",
    "grid.linewidth": 0.6,
    "image.interpolation": "nearest",
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "savefig.facecolor": "white",
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "knowledge-gaps",  # without it, the ids in the file are drawn at random
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
}


@contextmanager
def paper_style() -> Iterator[None]:
    """Draw in the report's style within the block; also a decorator of drawing functions."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def choose_colours(num: int) -> list[str]:
    """Choose colours for so many lines of a figure, in their order."""
    if num <= len(_COLOURS):
        return list(_COLOURS[:num])
    return [to_hex(mpl.colormaps[_ORDERED_MAP](place)) for place in np.linspace(0, _PALEST, num)]


def make_panels(
    num: int, num_columns: int, height_in: float, frame_in: float, **options: Any
) -> tuple[Figure, list[Axes]]:
    """Make a figure of so many panels in rows; the last row may not be full."""
    num_rows = math.ceil(num / num_columns)
    figure = Figure(figsize=(WIDTH_IN, height_in * num_rows + frame_in))
    panels = figure.subplots(num_rows, num_columns, squeeze=False, **options).ravel().tolist()
    for axes in panels[num:]:
        axes.set_visible(False)
    return figure, panels[:num]


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


def draw_legend(figure: Figure, num_columns: int) -> None:
    """Draw one legend for all panels, each label once, above them."""
    handles = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles, loc="outside upper center", ncols=num_columns)


@dataclass(frozen=True)
class PageFigure:
    """A drawn figure; its words are in the template that shows it."""

    name: str  # file name without suffix
    figure: Figure
    is_picture: bool = False  # made of images, which have no vectors
    facts: Mapping[str, int] = field(default_factory=dict)  # numbers that its words need

    @cached_property
    def files(self) -> dict[str, bytes]:
        """PNG at 200 dpi and, unless it is a picture, SVG; the bytes depend on the figure alone."""
        files = {f"{self.name}.png": render_png(self.figure)}
        if not self.is_picture:
            options = {"format": "svg", "metadata": {"Date": None, "Creator": None}}
            files[f"{self.name}.svg"] = _render(self.figure, options)
        return files

    @property
    def data_uri(self) -> str:
        """The PNG as the src of an img element."""
        return "data:image/png;base64," + base64.b64encode(self.files[f"{self.name}.png"]).decode()


def render_png(figure: Figure) -> bytes:
    """Render a figure as PNG at 200 dpi."""
    return _render(figure, {"format": "png", "dpi": DPI, "metadata": {"Software": None}})


@paper_style()
def _render(figure: Figure, options: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, **options)
    return buffer.getvalue()
