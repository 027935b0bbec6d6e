"""Reading of the arrays that a stage stored, without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from knowledge_gaps.core.errors import UserError


def read_array(path: Path, num_dims: int) -> npt.NDArray[np.float64]:
    """Read a .npy file that has `num_dims` axes, as float64.

    Raises:
        UserError: when it cannot be read or has another number of axes.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: cannot be read as a NumPy array ({error})") from error
    if array.ndim != num_dims:
        raise UserError(f"{path}: found {array.ndim} axes, {num_dims} are needed")
    return np.asarray(array, np.float64)
