"""The IDX format of MNIST and its relatives (LeCun, Cortes & Burges), plain or gzip-compressed.

`knowledge_gaps.data.source` makes a data set of four such files.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import write_bytes

_UINT8_CODE = 0x08  # third byte of the magic number: the type of the values
_GZIP_MAGIC = b"\x1f\x8b"


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes; gzip is recognised by its content.

    Returns:
        The array in the file's own shape: [N, H, W] for images, [N] for labels.

    Raises:
        UserError: when the file is missing, no IDX file of unsigned bytes, or truncated.
    """
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if content.startswith(_GZIP_MAGIC) else content
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path}: truncated or corrupt gzip file ({error})") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _UINT8_CODE:
        found = content[:4].hex() or "nothing"
        raise UserError(f"{path}: bad magic number {found}, an IDX file starts with 000008xx")
    num_dimensions = content[3]
    header_bytes = 4 + 4 * num_dimensions
    if len(content) < header_bytes:
        raise UserError(f"{path}: truncated inside the header ({len(content)} bytes)")
    shape = struct.unpack(f">{num_dimensions}I", content[4:header_bytes])
    needed = header_bytes + math.prod(shape)
    if len(content) != needed:
        raise UserError(f"{path}: holds {len(content)} bytes, its header {shape} needs {needed}")
    return np.frombuffer(content, dtype=np.uint8, offset=header_bytes).reshape(shape)


def write_idx(path: Path, values: npt.NDArray[np.uint8]) -> str:
    """Write an array as gzip-compressed IDX with a fixed timestamp; return the file's sha256."""
    header = struct.pack(f">4B{values.ndim}I", 0, 0, _UINT8_CODE, values.ndim, *values.shape)
    return write_bytes(path, gzip.compress(header + values.tobytes(), 9, mtime=0))
