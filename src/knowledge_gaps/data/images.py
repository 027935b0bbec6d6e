"""The one conversion between stored images (uint8) and what networks see ([-1, 1]), and writing.

Reading stored images a few at a time is in `knowledge_gaps.data.store`.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import replace_atomically, write_bytes
from knowledge_gaps.data.store import SHARD_BYTES, name_shard, open_images

_HALF_RANGE = 127.5


def to_float(images: Tensor) -> Tensor:
    """Map stored images to what networks see.

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


def save_batches(path: Path, num_images: int, batches: Iterable[npt.NDArray[np.uint8]]) -> None:
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
    with replace_atomically(path) as temporary, temporary.open("wb") as file:
        for batch in batches:
            if num_written == 0:
                shape = (num_images, *batch.shape[1:])
                header = {"descr": batch.dtype.str, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(batch.tobytes())
            num_written += len(batch)
        if num_written != num_images:
            raise ValueError(f"{path}: {num_written} images came, {num_images} were announced")


def save_shards(directory: Path, images: Iterable[npt.NDArray[np.uint8]]) -> None:
    """Store images as a folder of shards, with one shard in memory at a time.

    Args:
        directory: of the shards.
        images: uint8 [C, H, W] each, or all of them as one array; none make no folder.

    Raises:
        UserError: as `save_array`.
    """
    rest = iter(images)
    for index, first in enumerate(rest):
        num_more = SHARD_BYTES // first.size - 1
        save_array(directory / name_shard(index), np.stack([first, *islice(rest, num_more)]))


def load_images(path: Path) -> npt.NDArray[np.uint8]:
    """Read all stored images of a file or of a folder of shards.

    Returns:
        uint8 [N, C, H, W].

    Raises:
        UserError: when the file is missing, truncated or holds anything else.
    """
    store = open_images(path)
    return store.read(0, len(store))


def load_array(path: Path, is_mapped: bool = False) -> npt.NDArray[np.generic]:
    """Read any .npy file without pickle.

    Args:
        path: of the file.
        is_mapped: leave it on disk, to be read where it is looked at.

    Raises:
        UserError: when it is missing or not whole.
    """
    try:
        array: npt.NDArray[np.generic] = np.load(
            path, mmap_mode="r" if is_mapped else None, allow_pickle=False
        )
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, EOFError) as error:
        raise UserError(f"{path}: not a whole .npy file ({error})") from error
    if not isinstance(array, np.ndarray):
        raise UserError(f"{path}: not an .npy file")
    return array


def save_grid(path: Path, images: npt.NDArray[np.uint8], scale: int = 2) -> str:
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
