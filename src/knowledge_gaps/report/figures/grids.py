"""Rows of images: reals, and generated images of cohorts or of a rising phi.

The generated images are those that the classifiers scored (data/samples/), the first of each
generator: none is picked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from knowledge_gaps.report.figures.style import WIDTH_IN, paper_style
from knowledge_gaps.runtime.errors import UserError
from knowledge_gaps.runtime.layout import get_samples_file

ImageArray = npt.NDArray[np.uint8]

NUM_COLUMNS = 20  # images in a row
_BLOCK_GAP_PX = 6  # between the instances that share a row
_IMAGE_GAP_PX = 1
_LABEL_WIDTH_IN = 1.35
_BACKGROUND = 255


@dataclass(frozen=True)
class ImageRow:
    """A row of a grid.

    Attributes:
        label: stands on the left.
        blocks: images of one source each, uint8 [N, C, H, W].
    """

    label: str
    blocks: tuple[ImageArray, ...]


def read_images(path: Path, num_images: int) -> ImageArray:
    """Read the first images of a .npy file without reading the rest.

    Returns:
        uint8 [N, C, H, W] with N at most num_images and C 1 or 3.

    Raises:
        UserError: when the file cannot be read or holds something else.
    """
    return np.array(_open_images(path)[:num_images])


def read_image(path: Path, index: int) -> ImageArray:
    """Read one image of a .npy file, uint8 [1, C, H, W].

    Raises:
        UserError: when the file cannot be read, holds something else or too few images.
    """
    images = _open_images(path)
    if index >= len(images):
        raise UserError(f"{path}: holds {len(images)} images, image {index} is needed")
    return np.array(images[index : index + 1])


def _open_images(path: Path) -> ImageArray:
    try:
        images: ImageArray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: cannot be read as a NumPy array ({error})") from error
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise UserError(
            f"{path}: found {images.dtype} {list(images.shape)}, uint8 [N, 1 or 3, H, W] is needed"
        )
    return images


def read_sample_row(root: Path, cohort: str, label: str, instances: Sequence[int]) -> ImageRow:
    """Read a row of generated images, shared evenly by the instances of a cohort.

    Args:
        root: of the repository.
        cohort: name of the GAN cohort.
        label: of the row.
        instances: which ones; at most as many as a row has columns.
    """
    num_each = NUM_COLUMNS // len(instances)
    blocks = tuple(
        read_images(get_samples_file(root, cohort, instance), num_each) for instance in instances
    )
    return ImageRow(label, blocks)


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
        axes.imshow(strip, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_axis_off()
        figure.text(left - 0.012, top + height / 2, row.label, ha="right", va="center")
    return figure


def _join_blocks(blocks: Sequence[ImageArray]) -> ImageArray:
    """Put all images of a row side by side: uint8 [H, W], or [H, W, 3] in colour."""
    gap = np.full((*blocks[0].shape[1:3], _BLOCK_GAP_PX), _BACKGROUND, dtype=np.uint8)
    parts = [_join_images(blocks[0])]
    for block in blocks[1:]:
        parts.extend((gap, _join_images(block)))
    strip = np.concatenate(parts, axis=2)  # [C, H, W]
    return strip[0] if strip.shape[0] == 1 else strip.transpose(1, 2, 0)


def _join_images(images: ImageArray) -> ImageArray:
    """Put images [N, C, H, W] side by side as [C, H, W of all]."""
    padding = ((0, 0), (0, 0), (0, 0), (0, _IMAGE_GAP_PX))
    padded = np.pad(images, padding, constant_values=_BACKGROUND)
    joined: ImageArray = np.concatenate(list(padded), axis=2)[:, :, :-_IMAGE_GAP_PX]
    return joined
