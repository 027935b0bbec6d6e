"""Images as files: those of a folder or of a zip archive, and what one must be like to be used.

What is made of them is known by `knowledge_gaps.data.folder`.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.data.blocks import BadImageError
from knowledge_gaps.data.store import Images

Mode = Literal["L", "RGB"]
MODES: dict[int, Mode] = {1: "L", 3: "RGB"}  # Pillow's name by channels
_FORMATS = ("PNG", "JPEG", "WEBP")
_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}
# images too, and listed so that none is left out unnoticed
_OTHER_SUFFIXES = {".avif", ".bmp", ".gif", ".heic", ".jp2", ".tif", ".tiff"}
_PNG_DEPTH = 24  # where a PNG file says how many bits a channel has


@dataclass(frozen=True)
class ImageForm:
    """What every image of a data set is like once it is stored.

    Attributes:
        channels: 1 for grey, 3 for colour.
        side_px: of the stored image.
        resizes: larger images are made smaller; otherwise all have that side already.
    """

    channels: int
    side_px: int
    resizes: bool

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return (self.channels, self.side_px, self.side_px)


def is_archive(path: Path) -> bool:
    """Tell whether a path is read as a zip archive: any file is."""
    return path.is_file()


def list_images(path: Path) -> dict[str, str]:
    """List the images of a folder and of the folders in it, or of a zip archive.

    Args:
        path: of the folder or archive.

    Returns:
        By name in sorted order, relative to the folder or as in the archive: what changes with the
        content (size and time of a file, size and checksum of an archive's entry).

    Raises:
        UserError: when it is missing, no zip archive, holds no image, or one whose name is not
            UTF-8 (no message or table could name it).
    """
    if not path.exists():
        raise UserError(f"{path}: missing; data.directory is a folder or a zip archive of images")
    listed = _list_archive(path) if is_archive(path) else _list_folder(path)
    if not listed:
        raise UserError(f"{path}: holds no image; PNG, JPEG and WebP are read")
    for name in listed:
        if not _is_utf8(name):
            raise UserError(f"{path}: {name!a} found, a name in UTF-8 is needed")
    return {name: listed[name] for name in sorted(listed)}


def read_entry(path: Path, name: str) -> bytes:
    """Read a file of a folder or archive; raises BadImageError when it cannot be."""
    try:
        return open_archive(path).read(name) if is_archive(path) else (path / name).read_bytes()
    except OSError as error:
        raise BadImageError(f"cannot be read ({error.strerror or error})") from error
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
        raise BadImageError(f"cannot be unpacked ({error})") from error


@cache
def open_archive(path: Path) -> zipfile.ZipFile:
    """Open a zip archive once a process; raises UserError when it is none."""
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not a whole zip archive ({error})") from error


def identify_image(content: bytes) -> tuple[str, tuple[int, int]]:
    """Return mode and size of an image from its header; raises BadImageError."""
    with _open_image(content) as image:
        return image.mode, image.size


def decode_image(content: bytes, form: ImageForm) -> Images:
    """Turn a file into a stored image; a larger one is resized once, by Lanczos.

    The filter is Pillow's, whose support grows with the scale: it averages what it leaves out.

    Args:
        content: of a PNG, JPEG or WebP file.
        form: of the stored image.

    Returns:
        uint8 [C, H, W].

    Raises:
        BadImageError: when it is damaged, has another mode or size than it should, or holds more
            than can be stored (16 bits a channel, transparency), which Pillow would drop.
    """
    with _open_image(content) as image:
        _check_form(image, form)
        if image.format == "PNG" and content[_PNG_DEPTH] > 8:
            raise BadImageError(f"{content[_PNG_DEPTH]} bits a channel, 8 are needed")
        if "transparency" in image.info:
            raise BadImageError("a transparent colour, none is needed")
        image.load()
        upright = ImageOps.exif_transpose(image)
        if upright.width != form.side_px:
            upright = upright.resize((form.side_px, form.side_px), Image.Resampling.LANCZOS)
        return np.atleast_3d(np.asarray(upright)).transpose(2, 0, 1)


def check_checksum(content: bytes, expected: str | None, listing: str) -> None:
    """Compare a file with its sha256 in a listing; raises BadImageError when they differ."""
    if expected is None:
        raise BadImageError(f"not in {listing}")
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise BadImageError(f"wrong checksum, sha256 is {found}, {listing} has {expected}")


def has_image_suffix(name: str) -> bool:
    """Tell whether a name is an image's, of a format that is read or of another one."""
    pure = PurePosixPath(name)
    is_hidden = any(part.startswith((".", "__MACOSX")) for part in pure.parts)
    return not is_hidden and pure.suffix.lower() in _SUFFIXES | _OTHER_SUFFIXES


def _list_folder(path: Path) -> dict[str, str]:
    listed = {}
    for file in path.rglob("*"):
        name = file.relative_to(path).as_posix()
        if has_image_suffix(name) and file.is_file():
            stat = file.stat()
            listed[name] = f"{stat.st_size} {stat.st_mtime_ns}"
    return listed


def _list_archive(path: Path) -> dict[str, str]:
    listed: dict[str, str] = {}
    for entry in open_archive(path).infolist():
        if entry.is_dir() or not has_image_suffix(entry.filename):
            continue
        if entry.filename in listed:
            raise UserError(f"{path}: holds {entry.filename} twice")
        listed[entry.filename] = f"{entry.file_size} {entry.CRC:08x}"
    return listed


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def _open_image(content: bytes) -> Iterator[Image.Image]:
    """Open an image; whatever its decoder raises, then and later, says that it is damaged."""
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            yield image
    except BadImageError:
        raise
    except UnidentifiedImageError as error:
        raise BadImageError("not a PNG, JPEG or WebP image") from error
    except Exception as error:  # of damaged bytes Pillow raises what its parsers happen to meet
        raise BadImageError(f"damaged ({' '.join(str(error).split())})") from error


def _check_form(image: Image.Image, form: ImageForm) -> None:
    num_frames = getattr(image, "n_frames", 1)
    if num_frames != 1:
        raise BadImageError(f"{num_frames} frames, one is needed")
    if image.mode != MODES[form.channels]:
        raise BadImageError(f"mode {image.mode}, {MODES[form.channels]} is needed")
    width, height = image.size
    if width != height:
        raise BadImageError(f"{width} x {height} px, a square image is needed")
    if form.resizes and width < form.side_px:
        raise BadImageError(f"{width} px, {form.side_px} px or more are needed")
    if not form.resizes and width != form.side_px:
        raise BadImageError(f"{width} px, others have {form.side_px} px; set data.resolution_px")
