"""Rows of stored images: reals, or generated ones that the classifiers scored."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.layout import get_samples_file
from knowledge_gaps.data.store import ImageStore, open_images
from knowledge_gaps.readings.figures.style import DPI, WIDTH_IN, paper_style

ImageArray = npt.NDArray[np.uint8]

_NUM_COLUMNS = 20  # images in a row
_NUM_LARGE_COLUMNS = 10  # of images whose side is _LARGE_PX or more
_LARGE_PX = 64
_MAX_SIDE_PX = 128  # a row of large images is printed at about this size; larger ones are shrunk
_BLOCK_GAP_PX = 6  # between the instances that share a row
_IMAGE_GAP_PX = 1
_LABEL_WIDTH_IN = 1.35
_BACKGROUND = 255


@dataclass(frozen=True)
class ImageRow:
    """A row of a grid: the text on its left, and images uint8 [N, C, H, W] of each source."""

    label: str
    blocks: tuple[ImageArray, ...]


def open_drawable(path: Path) -> ImageStore:
    """Open stored images of 1 or 3 channels.

    Raises:
        UserError: when the file cannot be read or holds something else.
    """
    images = open_images(path)
    if images.shape[1] not in (1, 3):
        raise UserError(f"{path}: found images {list(images.shape)}, [N, 1 or 3, H, W] is needed")
    return images


def count_columns(images: ImageStore) -> int:
    """Return how many of the stored images stand in a row: fewer of large ones."""
    return _NUM_LARGE_COLUMNS if max(images.shape[2:]) >= _LARGE_PX else _NUM_COLUMNS


def read_sample_row(root: Path, cohort: str, label: str, instances: Sequence[int]) -> ImageRow:
    """Read a row of generated images, shared evenly by some instances of a cohort."""
    stores = [open_drawable(get_samples_file(root, cohort, instance)) for instance in instances]
    num_each = count_columns(stores[0]) // len(stores)
    return ImageRow(label, tuple(images.read(0, num_each) for images in stores))


@paper_style()
def draw_image_rows(rows: Sequence[ImageRow]) -> Figure:
    """Draw rows of images with a label each, from top to bottom."""
    strips = [_join_blocks(row.blocks) for row in rows]
    aspects = [strip.shape[0] / strip.shape[1] for strip in strips]
    heights_in = [(WIDTH_IN - _LABEL_WIDTH_IN) * aspect + 0.03 for aspect in aspects]
    figure = Figure(figsize=(WIDTH_IN, sum(heights_in)))
    figure.set_layout_engine("none")  # the axes are placed by hand
    top = 1.0
    for row, strip, height_in in zip(rows, strips, heights_in, strict=True):
        height = height_in / sum(heights_in)
        top -= height
        left = _LABEL_WIDTH_IN / WIDTH_IN
        axes = figure.add_axes((left, top, 1 - left, height))
        is_wide = strip.shape[1] > (WIDTH_IN - _LABEL_WIDTH_IN) * DPI  # more pixels than printed
        interpolation = "antialiased" if is_wide else "nearest"
        axes.imshow(strip, cmap="gray", vmin=0, vmax=255, interpolation=interpolation)
        axes.set_axis_off()
        figure.text(left - 0.012, top + height / 2, row.label, ha="right", va="center")
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
