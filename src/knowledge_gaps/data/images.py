"""The one conversion between stored images (uint8) and the values of networks ([-1, 1]); writing.

Reading stored images a few at a time is in `knowledge_gaps.data.store`.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from knowledge_gaps.core.files import replace_atomically, write_bytes
from knowledge_gaps.data.store import Images, StoreShape, open_images

_HALF_RANGE = 127.5


def to_float(images: Tensor) -> Tensor:
    """Map stored images to the values that networks take.

    Args:
        images: uint8 [N, C, H, W].

    Returns:
        float32 of the same shape in [-1, 1].
    """
    return images.float().div(_HALF_RANGE).sub_(1)


def to_uint8(images: Tensor) -> Tensor:
    """Map generated images to how reals are stored: scaled, rounded, clamped.

    Args:
        images: float [N, C, H, W], nominally in [-1, 1].

    Returns:
        uint8 of the same shape; `to_float(to_uint8(x))` puts generated images onto the same 256
        levels as reals, so that no classifier can tell them apart by their levels.
    """
    return images.float().add(1).mul_(_HALF_RANGE).round_().clamp_(0, 255).to(torch.uint8)


def save_array(path: Path, array: npt.NDArray[np.generic]) -> None:
    """Store images (uint8 [N, C, H, W]) or labels as .npy, atomically.

    Raises:
        UserError: when the disk is full or the folder cannot be written.
    """
    with replace_atomically(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def save_batches(path: Path, num_images: int, batches: Iterable[Images]) -> None:
    """Store images that come in batches, one in memory at a time; the bytes are `save_array`'s.

    Args:
        path: of the .npy file.
        num_images: in all batches together, at least 1.
        batches: uint8 [n, C, H, W] each.

    Raises:
        UserError: as `save_array`.
        ValueError: when the batches hold another number of images.
    """
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
    """Create a .npy file for images that `write_images` writes in parts; all are 0 at first.

    Raises:
        OSError: when the disk is full or the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)


def write_images(path: Path, start: int, images: Images) -> None:
    """Write consecutive images into a file of `create_images`; processes may do so side by side.

    Args:
        path: of the .npy file.
        start: index of the first image.
        images: uint8 [n, C, H, W].

    Raises:
        OSError: when the disk is full; a mapped file would end the process instead.
    """
    store = open_images(path)
    with path.open("r+b") as file:
        file.seek(store.offset + start * math.prod(store.shape[1:]))
        file.write(images.tobytes())


def load_images(path: Path) -> Images:
    """Read all stored images of a file.

    Returns:
        uint8 [N, C, H, W].

    Raises:
        UserError: when the file is missing, truncated or holds anything else.
    """
    store = open_images(path)
    return store.read(0, len(store))


def save_grid(path: Path, images: Images, scale: int = 2) -> str:
    """Write images as one PNG, in rows that are about as long as there are rows.

    Args:
        path: the file to write.
        images: uint8 [N, C, H, W] with 1 or 3 channels.
        scale: every pixel becomes so many pixels a side.

    Returns:
        The file's sha256.
    """
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
