"""The conversion between stored images (uint8) and values of networks ([-1, 1]), and writing."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from knowledge_gaps.core.files import replace_atomically, write_bytes
from knowledge_gaps.data.store import Images, StoreShape, load_array

_HALF_RANGE = 127.5

_Item = TypeVar("_Item")
MapImages = Callable[[Callable[[_Item], Any], Sequence[_Item], str], Iterator[Any]]
"""Yields the results of a function for items, in their order; the text is the progress's title.

The function can be pickled, for `knowledge_gaps.stages.prepare` lets several processes apply it.
"""


def to_float(images: Tensor) -> Tensor:
    """Map stored images, uint8 [N, C, H, W], to what networks take: float32 in [-1, 1]."""
    return images.float().div(_HALF_RANGE).sub_(1)


def to_uint8(images: Tensor) -> Tensor:
    """Map generated images, float [N, C, H, W], to how reals are stored: scaled, rounded, clamped.

    So no classifier can tell them apart by their levels.
    """
    return images.float().add(1).mul_(_HALF_RANGE).round_().clamp_(0, 255).to(torch.uint8)


def save_array(path: Path, array: npt.NDArray[np.generic]) -> None:
    """Store images (uint8 [N, C, H, W]) or labels as .npy, atomically."""
    with replace_atomically(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def save_batches(path: Path, num_images: int, batches: Iterable[Images]) -> None:
    """Store images that come in batches, uint8 [n, C, H, W], one of them in memory at a time."""
    num_written = 0
    with replace_atomically(path) as temporary:
        for batch in batches:
            if num_written == 0:
                create_images(temporary, (num_images, *batch.shape[1:]))
            write_images(temporary, num_written, batch)
            num_written += len(batch)
        if num_written != num_images:
            raise ValueError(f"{path}: {num_written} images came, {num_images} were announced")


def create_images(path: Path, shape: StoreShape) -> None:
    """Create a .npy file for images that `write_images` writes in parts; all are 0 at first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)


def write_images(path: Path, start: int, images: Images) -> None:
    """Write images, uint8 [n, C, H, W], into a file of `create_images` from an index on.

    Raises OSError when the disk is full, where a mapped write would end the process.
    """
    stored = load_array(path, is_mapped=True)
    assert isinstance(stored, np.memmap)
    with path.open("r+b") as file:
        file.seek(stored.offset + start * images[0].nbytes)
        file.write(images.tobytes())


def save_grid(path: Path, images: Images, scale: int = 2) -> str:
    """Write images, uint8 [N, C, H, W], as one PNG, `scale` px a pixel; return its sha256."""
    num_columns = math.ceil(math.sqrt(len(images)))
    num_rows = math.ceil(len(images) / num_columns)
    _, channels, height, width = images.shape
    tiles = np.zeros((num_rows * num_columns, channels, height, width), np.uint8)
    tiles[: len(images)] = images
    grid = tiles.reshape(num_rows, num_columns, channels, height, width)
    pixels = grid.transpose(0, 3, 1, 4, 2).reshape(num_rows * height, num_columns * width, channels)
    enlarged = pixels.repeat(scale, axis=0).repeat(scale, axis=1)
    picture = Image.fromarray(enlarged[:, :, 0] if channels == 1 else enlarged)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return write_bytes(path, buffer.getvalue())
