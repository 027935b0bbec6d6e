"""The look of the figures, rows of stored images, and the one way in which figures become bytes.

Figures are `matplotlib.figure.Figure` objects without pyplot. The style is set for the time of a
drawing only, from matplotlib's own defaults, so that neither a user's matplotlibrc nor an earlier
drawing changes a figure.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from knowledge_gaps.core.instance import Instance
from knowledge_gaps.core.layout import get_samples_file
from knowledge_gaps.data.store import Images, open_images
from knowledge_gaps.readings.tables import Row

ImageArray = npt.NDArray[np.uint8]
# a row of a grid: the text on its left, and images uint8 [N, C, H, W] of each source
ImageRow = tuple[str, Sequence[ImageArray]]

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

_FILES: dict[str, dict[str, Any]] = {  # options of savefig by format
    "png": {"dpi": DPI, "metadata": {"Software": None}},
    "svg": {"metadata": {"Date": None, "Creator": None}},
}

# of rows of images
_NUM_COLUMNS = 20  # images in a row
_NUM_LARGE_COLUMNS = 10  # of images whose side is _LARGE_PX or more
_LARGE_PX = 64
_MAX_SIDE_PX = 128  # a row of large images is printed at about this size; larger ones are shrunk
_BLOCK_GAP_PX = 6  # between the instances that share a row
_IMAGE_GAP_PX = 1
_LABEL_WIDTH_IN = 1.35
_BACKGROUND = 255


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
        kinds = ["png"] if self.is_picture else ["png", "svg"]
        return {f"{self.name}.{kind}": render_figure(self.figure, kind) for kind in kinds}

    @property
    def data_uri(self) -> str:
        """The PNG as the src of an img element."""
        return "data:image/png;base64," + base64.b64encode(self.files[f"{self.name}.png"]).decode()


@paper_style()
def render_figure(figure: Figure, kind: str) -> bytes:
    """Render a figure as "png" or "svg"."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, **_FILES[kind])
    return buffer.getvalue()


def count_columns(images: Images) -> int:
    """Return how many of the stored images stand in a row: fewer of large ones."""
    return _NUM_LARGE_COLUMNS if max(images.shape[2:]) >= _LARGE_PX else _NUM_COLUMNS


def read_sample_row(root: Path, cohort: str, label: str, instances: Sequence[Instance]) -> ImageRow:
    """Read a row of generated images, shared evenly by some instances of a cohort."""
    stores = [open_images(get_samples_file(root, cohort, instance)) for instance in instances]
    num_each = count_columns(stores[0]) // len(stores)
    return label, [images[:num_each] for images in stores]


@paper_style()
def draw_image_rows(rows: Sequence[ImageRow]) -> Figure:
    """Draw rows of images with a label each, from top to bottom."""
    strips = [_join_blocks(blocks) for _, blocks in rows]
    aspects = [strip.shape[0] / strip.shape[1] for strip in strips]
    heights_in = [(WIDTH_IN - _LABEL_WIDTH_IN) * aspect + 0.03 for aspect in aspects]
    figure = Figure(figsize=(WIDTH_IN, sum(heights_in)))
    figure.set_layout_engine("none")  # the axes are placed by hand
    top = 1.0
    for (label, _), strip, height_in in zip(rows, strips, heights_in, strict=True):
        height = height_in / sum(heights_in)
        top -= height
        left = _LABEL_WIDTH_IN / WIDTH_IN
        axes = figure.add_axes((left, top, 1 - left, height))
        is_wide = strip.shape[1] > (WIDTH_IN - _LABEL_WIDTH_IN) * DPI  # more pixels than printed
        interpolation = "antialiased" if is_wide else "nearest"
        axes.imshow(strip, cmap="gray", vmin=0, vmax=255, interpolation=interpolation)
        axes.set_axis_off()
        figure.text(left - 0.012, top + height / 2, label, ha="right", va="center")
    return figure


def shrink_maps(maps: npt.NDArray[Any], max_side_px: int = _MAX_SIDE_PX) -> npt.NDArray[Any]:
    """Shrink maps [..., H, W] with a larger side by means over squares; a rest is cut off."""
    *others, height, width = maps.shape
    factor = math.ceil(max(height, width) / max_side_px)
    if factor == 1:
        return maps
    rows, columns = height // factor, width // factor
    whole = maps[..., : rows * factor, : columns * factor]
    squares = whole.reshape(*others, rows, factor, columns, factor)
    means: npt.NDArray[Any] = squares.mean(axis=(-3, -1))
    return means


def shrink_images(images: ImageArray, max_side_px: int = _MAX_SIDE_PX) -> ImageArray:
    """Shrink images uint8 [N, C, H, W] as `shrink_maps` does."""
    shrunk: ImageArray = np.rint(shrink_maps(images, max_side_px)).astype(np.uint8)
    return shrunk


def _join_blocks(blocks: Sequence[ImageArray]) -> ImageArray:
    """Put all images of a row side by side: uint8 [H, W], or [H, W, 3] in colour."""
    joined = [_join(shrink_images(block), _IMAGE_GAP_PX) for block in blocks]
    strip = _join(joined, _BLOCK_GAP_PX)
    return strip[0] if strip.shape[0] == 1 else strip.transpose(1, 2, 0)


def _join(images: Iterable[ImageArray], gap_px: int) -> ImageArray:
    """Put images [C, H, W] side by side with a gap between them."""
    padding = ((0, 0), (0, 0), (0, gap_px))
    padded = [np.pad(image, padding, constant_values=_BACKGROUND) for image in images]
    return np.concatenate(padded, axis=2)[:, :, :-gap_px]
