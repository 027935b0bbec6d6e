"""What the figures of maps share."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.figure import FigureBase
from matplotlib.image import AxesImage

DIVERGING_MAP = "RdBu_r"
LARGEST_QUANTILE = 0.995  # of absolute values; larger ones have the last colour


def hide_frame(axes: Axes) -> None:
    """Remove ticks, grid and border of axes that show an image."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def add_colour_bar(figure: FigureBase, image: AxesImage, label: str, **options: Any) -> Colorbar:
    """Add a colour bar with small labels and no outline; options as of `Figure.colorbar`."""
    bar = figure.colorbar(image, **options)
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=7.5)
    bar.outline.set_visible(False)
    return bar
