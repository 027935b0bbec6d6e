"""Stored images, read a few at a time from one .npy file.

Rows are read by position: a mapped file would count towards this process's memory what it has
touched. Stores of at most RESIDENT_BYTES are kept in memory once images are drawn from them. No
torch here, so a process that only hashes images stays light; `knowledge_gaps.data.images` writes
them and converts their values.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import hash_file

RESIDENT_BYTES = 64 << 20

Images = npt.NDArray[np.uint8]
StoreShape = tuple[int, int, int, int]


class ImageStore:
    """A read-only view of stored images, uint8 [N, C, H, W]; see `open_images`, `hold_images`.

    Args:
        shape: of all images together.
        path: the .npy file; None for images that are only in memory.
        offset: where its first image starts, in bytes.
        resident: all images, where they are in memory already.
    """

    def __init__(
        self,
        shape: StoreShape,
        path: Path | None = None,
        offset: int = 0,
        resident: Images | None = None,
    ) -> None:
        self.shape, self.offset = shape, offset
        self._path, self._resident = path, resident

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
            UserError: when the file is gone or has shrunk.
        """
        if self._resident is not None:
            return self._resident[start:stop].copy()
        num_images, size = max(min(stop, len(self)) - start, 0), math.prod(self.shape[1:])
        path, offset = self._require_path(), self.offset + start * size
        try:
            values = np.fromfile(path, np.uint8, count=num_images * size, offset=offset)
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
        if len(values) < num_images * size:
            raise UserError(f"{path}: truncated since it was opened")
        return values.reshape(num_images, *self.shape[1:])

    def take(self, indices: npt.NDArray[np.int64]) -> Images:
        """Read images in any order, some of them more than once.

        Args:
            indices: int64 [n], each in [0, N).

        Returns:
            uint8 [n, C, H, W].

        Raises:
            IndexError: for an index outside.
            UserError: when the file is gone or has shrunk.
        """
        if len(indices) > 0 and (indices.min() < 0 or indices.max() >= len(self)):
            raise IndexError(f"indices {indices.min()} to {indices.max()} of {len(self)} images")
        if self._resident is None and math.prod(self.shape) <= RESIDENT_BYTES:
            self._resident = self.read(0, len(self))
        if self._resident is not None:
            return self._resident[indices]
        images = np.empty((len(indices), *self.shape[1:]), np.uint8)
        for position, index in enumerate(indices.tolist()):
            images[position] = self.read(index, index + 1)[0]
        return images

    def compute_sha256(self) -> str:
        """Return the file's sha256; raises ValueError for images that are only in memory."""
        return hash_file(self._require_path())

    def _require_path(self) -> Path:
        if self._path is None:
            raise ValueError("images in memory have no file")
        return self._path


def open_images(path: Path) -> ImageStore:
    """Open a .npy file of images; only its header is read.

    Raises:
        UserError: when it is missing, not whole or holds anything else than images.
    """
    array = load_array(path, is_mapped=True)
    is_images = array.dtype == np.uint8 and array.ndim == 4 and array.flags.c_contiguous
    if not is_images or not isinstance(array, np.memmap):
        raise UserError(f"{path}: holds {array.dtype} {array.shape}, uint8 [N, C, H, W] is needed")
    num_images, channels, height, width = array.shape
    return ImageStore((num_images, channels, height, width), path, array.offset)


def hold_images(images: Images) -> ImageStore:
    """Give images that are in memory, uint8 [N, C, H, W], the form of a store without a file."""
    num_images, channels, height, width = images.shape
    return ImageStore((num_images, channels, height, width), resident=images)


def load_array(path: Path, is_mapped: bool = False) -> npt.NDArray[np.generic]:
    """Read any .npy file without pickle.

    Args:
        path: of the file.
        is_mapped: leave it on disk; values are read when they are used.

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
