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


def write_reals(directory: Path) -> None:
    """Write random IDX files: 24 training and 16 test images of 28 px, packed, and labels."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 24), ("test", 16)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        write_idx(directory / f"{IMAGE_FILES[split]}.gz", images)
        write_idx(directory / f"{LABEL_FILES[split]}.gz", np.arange(count, dtype=np.uint8) % 10)
