"""The look of the figures, and the one way in which they become PNG and SVG bytes.

Figures are `matplotlib.figure.Figure` objects without pyplot. The style is set for the time of a
drawing only, from matplotlib's own defaults, so that neither a user's matplotlibrc nor an earlier
drawing changes a figure.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

WIDTH_IN = 7.2  # a page's text width
DPI = 200

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


@paper_style()
def render_png(figure: Figure) -> bytes:
    """Render a figure at 200 dpi as PNG whose bytes depend on the figure alone."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


@paper_style()
def render_svg(figure: Figure) -> bytes:
    """Render a figure as SVG whose bytes depend on the figure alone."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
