"""How many images are processed together: a function of their size that keeps memory flat.

The last bits of a number depend on it, so it depends on nothing of the machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from knowledge_gaps.data.store import Images
from knowledge_gaps.models.input_spec import InputSpec

_FORWARD_BATCH = 64  # images of a forward pass, as long as they are small: more exceed the cache
_BACKWARD_BATCH = 100  # images whose gradients are taken together, as long as they are small
_FORWARD_VALUES = 1 << 23  # 32 MiB as float32; a ResNet-50 then holds about 1 GiB
_BACKWARD_VALUES = 1 << 20  # a backward pass keeps what a forward pass lets go
_SAMPLED_VALUES = 1 << 21  # a generator's last maps have many times the channels of an image


def count_together(
    image_shape: Sequence[int], most: int = _FORWARD_BATCH, max_values: int = _FORWARD_VALUES
) -> int:
    """Count the images [C, H, W] of a batch; a single one may have more values than that."""
    return max(1, min(most, max_values // math.prod(image_shape)))


def count_sampled(image_shape: Sequence[int]) -> int:
    """Count the images [C, H, W] that a generator makes in a batch."""
    return count_together(image_shape, max_values=_SAMPLED_VALUES)


def count_scored(spec: InputSpec, has_gradients: bool = False) -> int:
    """Count the images of a classifier's batch, by what it resizes them to."""
    limits = (_BACKWARD_BATCH, _BACKWARD_VALUES) if has_gradients else ()
    shapes = ((spec.channels, *spec.image_px), spec.input_shape)
    return min(count_together(shape, *limits) for shape in shapes)


def split_images(images: Images, size: int, num_images: int | None = None) -> Iterator[Images]:
    """Read the first images, or all, in batches uint8 [size, C, H, W], the last perhaps smaller."""
    stop = len(images) if num_images is None else min(num_images, len(images))
    for start in range(0, stop, size):
        yield np.array(images[start : min(start + size, stop)])
