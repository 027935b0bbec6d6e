"""What tests of the data room share."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from knowledge_gaps.data.idx import IMAGE_FILES, LABEL_FILES, write_idx

SIDE_PX = 8  # of drawn pictures

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


def draw_picture(shade: int, mode: str = "RGB", size: tuple[int, int] = (SIDE_PX,) * 2) -> Any:
    width, height = size
    rows, columns = np.mgrid[:height, :width]
    colours = np.stack([20 * shade + 4 * rows, 100 + 4 * columns, 200 - 3 * rows], axis=-1)
    return Image.fromarray(colours.astype(np.uint8)).convert(mode)


def save_picture(path: Path, picture: Image.Image, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".webp":
        options = {"lossless": True, **options}
    picture.save(path, **options)


def make_deep_png() -> bytes:
    """A colour image of 16 bits a channel, which Pillow reads as one of 8 but cannot write."""

    def make_chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", SIDE_PX, SIDE_PX, 16, 2, 0, 0, 0)
    row = b"\0" + bytes(range(6 * SIDE_PX))
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(row * SIDE_PX)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(make_chunk(*chunk) for chunk in chunks)
