"""Stored images in one .npy file, which is mapped into memory; no torch here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import hash_file

Images = npt.NDArray[np.uint8]
StoreShape = tuple[int, int, int, int]


class ImageStore:
    """A read-only view of images, uint8 [N, C, H, W]; see `open_images`, `hold_images`."""

    def __init__(self, images: Images, path: Path | None = None) -> None:
        num_images, channels, height, width = images.shape
        self.shape: StoreShape = (num_images, channels, height, width)
        self._images, self._path = images, path

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, start: int, stop: int) -> Images:
        """Return a copy of consecutive images, as a slice would give them."""
        return np.array(self._images[start:stop])

    def take(self, indices: npt.NDArray[np.int64]) -> Images:
        """Return a copy of the images of int64 [n] indices, in any order."""
        return np.array(self._images[indices])

    def compute_sha256(self) -> str:
        """Return the file's sha256; raises ValueError for images that are only in memory."""
        if self._path is None:
            raise ValueError("images in memory have no file")
        return hash_file(self._path)


def open_images(path: Path) -> ImageStore:
    """Open a .npy file of images, reading its header; raises UserError for anything else."""
    array = load_array(path, is_mapped=True)
    if array.dtype != np.uint8 or array.ndim != 4:
        raise UserError(f"{path}: holds {array.dtype} {array.shape}, uint8 [N, C, H, W] is needed")
    return ImageStore(np.asarray(array, np.uint8), path)


def hold_images(images: Images) -> ImageStore:
    """Give images that are in memory, uint8 [N, C, H, W], the form of a store without a file."""
    return ImageStore(images)


def load_array(path: Path, is_mapped: bool = False) -> npt.NDArray[np.generic]:
    """Read any whole .npy file, else UserError; a mapped one is read from disk as it is used."""
    try:
        array: npt.NDArray[np.generic] = np.load(
            path, mmap_mode="r" if is_mapped else None, allow_pickle=False
        )
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, EOFError) as error:
        raise UserError(f"{path}: not a whole .npy file ({error})") from error
    return array
