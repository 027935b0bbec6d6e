"""Rows of images: reals, and generated images of cohorts or of a rising phi.

The generated images are those that the classifiers scored (data/samples/), the first of each
generator: none is picked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
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

NUM_COLUMNS = 20  # images in a row
_NUM_LARGE_COLUMNS = 10  # of images whose side is _LARGE_PX or more
_LARGE_PX = 64
_MAX_SIDE_PX = 128  # a row of large images is printed at about this size; larger ones are shrunk
_BLOCK_GAP_PX = 6  # between the instances that share a row
_IMAGE_GAP_PX = 1
_LABEL_WIDTH_IN = 1.35
_BACKGROUND = 255


@dataclass(frozen=True)
class ImageRow:
    """A row of a grid.

    Attributes:
        label: text on the left.
        blocks: images of one source each, uint8 [N, C, H, W].
    """

    label: str
    blocks: tuple[ImageArray, ...]


def read_images(path: Path, num_images: int) -> ImageArray:
    """Read the first stored images without reading the rest.

    Returns:
        uint8 [N, C, H, W] with N at most num_images and C 1 or 3.

    Raises:
        UserError: when the file cannot be read or holds something else.
    """
    return _open_images(path).read(0, num_images)


def read_image(path: Path, index: int) -> ImageArray:
    """Read one stored image, uint8 [1, C, H, W].

    Raises:
        UserError: when the file cannot be read, holds something else or too few images.
    """
    images = _open_images(path)
    if index >= len(images):
        raise UserError(f"{path}: holds {len(images)} images, image {index} is needed")
    return images.read(index, index + 1)


def count_columns(path: Path) -> int:
    """Return how many of the stored images stand in a row: fewer of large ones.

    Raises:
        UserError: when the file cannot be read or holds something else.
    """
    return _NUM_LARGE_COLUMNS if max(_open_images(path).shape[2:]) >= _LARGE_PX else NUM_COLUMNS


def _open_images(path: Path) -> ImageStore:
    images = open_images(path)
    if images.shape[1] not in (1, 3):
        raise UserError(f"{path}: found images {list(images.shape)}, [N, 1 or 3, H, W] is needed")
    return images


def read_sample_row(root: Path, cohort: str, label: str, instances: Sequence[int]) -> ImageRow:
    """Read a row of generated images, shared evenly by the instances of a cohort.

    Args:
        root: of the repository.
        cohort: name of the GAN cohort.
        label: of the row.
        instances: which ones; at most as many as a row has columns.
    """
    files = [get_samples_file(root, cohort, instance) for instance in instances]
    num_each = count_columns(files[0]) // len(files)
    return ImageRow(label, tuple(read_images(path, num_each) for path in files))


@paper_style()
def draw_image_rows(rows: Sequence[ImageRow]) -> Figure:
    """Draw rows of images with a label each.

    Args:
        rows: at least one, top to bottom.
    """
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
    """Shrink images or maps that are larger than they are printed, by means over squares.

    Args:
        maps: [..., H, W].
        max_side_px: the most that a side may have.

    Returns:
        float [..., h, w] with no larger sides, what does not fill a square cut off; the
        maps themselves where they are no larger.
    """
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
    first, *others = [_join_images(block) for block in blocks]
    gap = np.full((*first.shape[:2], _BLOCK_GAP_PX), _BACKGROUND, dtype=np.uint8)
    parts = [first]
    for joined in others:
        parts.extend((gap, joined))
    strip = np.concatenate(parts, axis=2)  # [C, H, W]
    return strip[0] if strip.shape[0] == 1 else strip.transpose(1, 2, 0)


def _join_images(images: ImageArray) -> ImageArray:
    """Put images [N, C, H, W] side by side as [C, H, W of all]."""
    padding = ((0, 0), (0, 0), (0, 0), (0, _IMAGE_GAP_PX))
    padded = np.pad(shrink_images(images), padding, constant_values=_BACKGROUND)
    joined: ImageArray = np.concatenate(list(padded), axis=2)[:, :, :-_IMAGE_GAP_PX]
    return joined
