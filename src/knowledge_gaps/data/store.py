"""Stored images, read a few at a time: one .npy file, or a folder of them, the shards.

Every image is read by position from its file, so memory stays flat however many there are; a mapped
file would count towards this process what it has touched. Stores of at most RESIDENT_BYTES are kept
in memory once images are drawn from them. No torch here: the process that only hashes what its
workers train on stays light. What the values mean, and how images are written, is known by
`knowledge_gaps.data.images`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
import numpy.typing as npt

from knowledge_gaps.core.errors import UserError

SHARD_BYTES = 256 << 20  # of images, the most that one file of a folder holds
RESIDENT_BYTES = 64 << 20
_CHUNK_BYTES = 1 << 20

Images = npt.NDArray[np.uint8]
StoreShape = tuple[int, int, int, int]


@dataclass(frozen=True)
class _Shard:
    """One file of images, of which the header was read."""

    path: Path
    shape: StoreShape
    offset: int  # where the first image starts, bytes

    def read_into(self, images: Images, start: int) -> None:
        """Fill `images`, uint8 [n, C, H, W] and contiguous, with those from `start` on."""
        if images.size == 0:
            return
        left = images.data.cast("B")
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(self.offset + start * math.prod(self.shape[1:]))
                while num_bytes := file.readinto(left):
                    left = left[num_bytes:]
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read ({error.strerror})") from error
        if left:
            raise UserError(f"{self.path}: truncated since it was opened")


class ImageStore:
    """A read-only view of stored images, uint8 [N, C, H, W]; see `open_images`, `hold_images`.

    Args:
        shards: files in order; all images have one shape.
        resident: all images, where they are in memory already.
    """

    def __init__(self, shards: Sequence[_Shard], resident: Images | None = None) -> None:
        self._shards, self._resident = shards, resident
        shapes = [shard.shape for shard in shards] if resident is None else [resident.shape]
        self._starts = [0, *accumulate(shape[0] for shape in shapes)]
        _, channels, height, width = shapes[0]
        self.shape: StoreShape = (self._starts[-1], channels, height, width)

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, start: int, stop: int) -> Images:
        """Read consecutive images.

        Args:
            start: of the first one.
            stop: behind the last one; beyond the end means the end, as in a slice.

        Returns:
            uint8 [n, C, H, W], the caller's own.

        Raises:
            UserError: when a file has gone or shrunk.
        """
        stop = min(stop, len(self))
        if self._resident is not None:
            return self._resident[start:stop].copy()
        images = np.empty((max(stop - start, 0), *self.shape[1:]), np.uint8)
        for shard, first in zip(self._shards, self._starts, strict=False):
            low, high = max(start, first), min(stop, first + shard.shape[0])
            if low < high:
                shard.read_into(images[low - start : high - start], low - first)
        return images

    def take(self, indices: npt.NDArray[np.int64]) -> Images:
        """Read images in any order, some of them more than once.

        Args:
            indices: int64 [n], each in [0, N).

        Returns:
            uint8 [n, C, H, W].

        Raises:
            IndexError: for an index outside.
            UserError: when a file has gone or shrunk.
        """
        if len(indices) > 0 and (indices.min() < 0 or indices.max() >= len(self)):
            raise IndexError(f"indices {indices.min()} to {indices.max()} of {len(self)} images")
        if self._resident is None and math.prod(self.shape) <= RESIDENT_BYTES:
            self._resident = self.read(0, len(self))
        if self._resident is not None:
            return self._resident[indices]
        images = np.empty((len(indices), *self.shape[1:]), np.uint8)
        for position, index in enumerate(indices):
            which = int(np.searchsorted(self._starts, index, side="right")) - 1
            start = int(index) - self._starts[which]
            self._shards[which].read_into(images[position : position + 1], start)
        return images

    def iterate(self, num_images: int) -> Iterator[Images]:
        """Read all images in order, so many at a time."""
        for start in range(0, len(self), num_images):
            yield self.read(start, start + num_images)

    def compute_sha256(self) -> str:
        """Hash the files' bytes in order; of a store of one file it is that file's sha256.

        Raises:
            ValueError: for a store that has no files.
        """
        if not self._shards:
            raise ValueError("images in memory have no files to hash")
        digest = hashlib.sha256()
        for shard in self._shards:
            with shard.path.open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    digest.update(chunk)
        return digest.hexdigest()


def open_images(path: Path) -> ImageStore:
    """Open stored images; only headers are read.

    Args:
        path: a .npy file, or a folder of 00000.npy, 00001.npy and so on.

    Raises:
        UserError: when it is missing, a file is not whole or missing from the row, or it holds
            anything else than images of one shape.
    """
    if not path.is_dir():
        return ImageStore([_open_shard(path)])
    files = sorted(path.glob("*.npy"))
    for index, file in enumerate(files):
        if file.name != name_shard(index):
            raise UserError(f"{path / name_shard(index)}: missing, {file.name} is there")
    if not files:
        raise UserError(f"{path}: holds no shard, {name_shard(0)} is needed")
    shards = [_open_shard(file) for file in files]
    needed = shards[0].shape[1:]
    for shard in shards:
        if shard.shape[1:] != needed:
            raise UserError(f"{shard.path}: holds images {shard.shape[1:]}, others are {needed}")
    return ImageStore(shards)


def hold_images(images: Images) -> ImageStore:
    """Give images that are in memory, uint8 [N, C, H, W], the form of a store without files."""
    return ImageStore([], images)


def name_shard(index: int) -> str:
    """Name the file of a shard; the order of names is the order of images."""
    return f"{index:05d}.npy"


def _open_shard(path: Path) -> _Shard:
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read_header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            shape, is_fortran, dtype = read_header(file)
            offset = file.tell()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError) as error:
        raise UserError(f"{path}: not a whole .npy file ({error})") from error
    if dtype != np.uint8 or len(shape) != 4 or is_fortran:
        raise UserError(f"{path}: holds {dtype} {shape}, uint8 [N, C, H, W] is needed")
    num_bytes = path.stat().st_size
    if num_bytes != offset + math.prod(shape):
        raise UserError(
            f"{path}: not a whole .npy file ({num_bytes} bytes, its header {shape} needs "
            f"{offset + math.prod(shape)})"
        )
    return _Shard(path, shape, offset)
