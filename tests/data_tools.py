"""What tests of the data room share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from knowledge_gaps.data.idx import IMAGE_FILES, LABEL_FILES, write_idx

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def map_here(
    function: Callable[[_Item], _Result], items: Sequence[_Item], title: str
) -> Iterator[_Result]:
    """Make images in this process, a `data.images.MapImages`."""
    return map(function, items)


def write_reals(directory: Path, num_train: int, num_test: int, *shape: int) -> None:
    """Write random images and labels as packed IDX files."""
    rng = np.random.default_rng(0)
    for split, count in (("train", num_train), ("test", num_test)):
        images = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
        write_idx(directory / f"{IMAGE_FILES[split]}.gz", images)
        write_idx(directory / f"{LABEL_FILES[split]}.gz", np.arange(count, dtype=np.uint8) % 10)
