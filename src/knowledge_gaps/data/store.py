"""Stored images in one .npy file, which is mapped into memory; no torch here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from knowledge_gaps.core.errors import UserError

Images = npt.NDArray[np.uint8]  # [N, C, H, W], on disk or in memory
StoreShape = tuple[int, int, int, int]


def open_images(path: Path) -> Images:
    """Map a .npy file of images, uint8 [N, C, H, W], read-only; UserError for anything else."""
    array = load_array(path, is_mapped=True)
    if array.dtype != np.uint8 or array.ndim != 4:
        raise UserError(f"{path}: holds {array.dtype} {array.shape}, uint8 [N, C, H, W] is needed")
    return np.asarray(array, np.uint8)


def load_array(path: Path, is_mapped: bool = False) -> npt.NDArray[np.generic]:
    """Read any whole .npy file, else UserError; a mapped one is read from disk as it is used."""
    try:
        if is_mapped:
            return np.lib.format.open_memmap(path, mode="r")
        with path.open("rb") as file:
            array: npt.NDArray[np.generic] = np.lib.format.read_array(file, allow_pickle=False)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise UserError(f"{path}: not a whole .npy file ({error})") from error
    return array
