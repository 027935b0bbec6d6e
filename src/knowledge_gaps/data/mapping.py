"""Making images side by side; `knowledge_gaps.stages.prepare` passes in where that happens."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

BATCH_IMAGES = 1024
_BATCH_BYTES = 64 << 20  # of stored images

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class MapImages(Protocol):
    """Applies a function to items, by several processes where it can, in the items' order."""

    def __call__(
        self, function: Callable[[_Item], _Result], items: Sequence[_Item], title: str
    ) -> Iterator[_Result]:
        """Yield the results of a function that can be pickled; the title is of the progress."""


def cut_batches(
    items: Sequence[_Item], image_shape: tuple[int, int, int]
) -> Iterator[tuple[int, Sequence[_Item]]]:
    """Cut items, each of one image [C, H, W], into small batches; yield each with its start."""
    num_each = max(1, min(BATCH_IMAGES, _BATCH_BYTES // math.prod(image_shape)))
    for start in range(0, len(items), num_each):
        yield start, items[start : start + num_each]
