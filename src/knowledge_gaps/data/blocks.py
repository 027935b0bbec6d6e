"""Images made block by block, by all cores, and kept from an interrupted run.

A block is a few hundred images that one worker reads or draws and stores as one file, named by the
hash of all that it depends on. So a run that was killed is taken up where it stopped, a file that
was mended is read again, and the memory of a worker does not grow with the number of images.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from knowledge_gaps.core.cache import make_key
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import read_json, write_json
from knowledge_gaps.core.fingerprint import hash_code
from knowledge_gaps.core.progress import track_items
from knowledge_gaps.data.images import load_images, save_array
from knowledge_gaps.data.store import Images, open_images
from knowledge_gaps.execution.parallel import map_parallel

BLOCK_IMAGES = 1024
BLOCK_BYTES = 64 << 20


class BadImageError(Exception):
    """An image that cannot be used; the message says why."""


class Maker(Protocol):
    """Makes one image at a time; crosses processes."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image."""

    def describe(self) -> Any:
        """Name, JSON-able, all that an image depends on beside its item and the code."""

    def make(self, item: str) -> Images:
        """Make an image, uint8 [C, H, W]; raises BadImageError when that is not possible."""


@dataclass(frozen=True)
class Block:
    """Images that one worker makes and stores.

    Attributes:
        maker: of the images.
        items: what they are made from, in order.
        file: where they go; those that are bad are missing there and named in a file beside it.
    """

    maker: Maker
    items: tuple[str, ...]
    file: Path

    @property
    def bad_file(self) -> Path:
        """Where the bad items are named with their reasons; written last."""
        return self.file.with_suffix(".json")

    def is_made(self) -> bool:
        """Tell whether both files are there and whole."""
        try:
            self.read_bad()
            open_images(self.file)
        except UserError:
            return False
        return True

    def load(self) -> Images:
        """Read the images that are not bad, uint8 [n, C, H, W]."""
        return load_images(self.file)

    def read_bad(self) -> dict[str, str]:
        """Read the reason of every bad item."""
        return read_json(self.bad_file)


def cut_blocks(
    maker: Maker, items: Sequence[str], state: Path, stamps: Mapping[str, str] | None = None
) -> list[Block]:
    """Cut a row of items into blocks.

    Args:
        maker: of the images.
        items: what they are made from, in order.
        state: folder of the blocks.
        stamps: what changes with the content of an item, where that is not the item itself.
    """
    shared = [maker.describe(), hash_code(("data",))]
    num_each = max(1, min(BLOCK_IMAGES, BLOCK_BYTES // math.prod(maker.image_shape)))
    blocks = []
    for start in range(0, len(items), num_each):
        part = tuple(items[start : start + num_each])
        key = make_key(shared, part, [(stamps or {}).get(item) for item in part])
        blocks.append(Block(maker, part, state / f"{key}.npy"))
    return blocks


def make_blocks(blocks: Sequence[Block], title: str) -> Iterator[Block]:
    """Make the blocks that are not there yet, on all cores, and yield all of them in order.

    Args:
        blocks: of `cut_blocks`.
        title: stands before the progress.
    """
    missing = [block for block in blocks if not block.is_made()]
    if len(missing) < len(blocks):
        print(f"{title}: {len(blocks) - len(missing)} of {len(blocks)} blocks were there already")
    made = track_items(map_parallel(_make_block, missing, __name__), title, len(missing))
    to_make = set(missing)
    for block in blocks:
        if block in to_make:
            next(made)
        yield block


def _make_block(block: Block) -> None:
    images = np.empty((len(block.items), *block.maker.image_shape), np.uint8)
    num_good = 0
    bad: dict[str, str] = {}
    for item in block.items:
        try:
            images[num_good] = block.maker.make(item)
        except BadImageError as error:
            bad[item] = str(error)
        else:
            num_good += 1
    save_array(block.file, images[:num_good])
    write_json(block.bad_file, bad)
