"""Images as files: those of a folder or of a zip archive, and which of them can be used."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import parse_json
from knowledge_gaps.data.store import Images

_MODES = {1: "L", 3: "RGB"}  # Pillow's name by channels
_FORMATS = ("PNG", "JPEG", "WEBP")
# other formats are listed too, so that none is left out unnoticed
_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}
_SUFFIXES |= {".avif", ".bmp", ".gif", ".heic", ".jp2", ".tif", ".tiff"}
_LISTINGS = ("checksums.json", "manifest.json")
_PNG_DEPTH = 24  # where a PNG file says how many bits a channel has


class BadImageError(Exception):
    """An image that cannot be used; the message says why."""


@dataclass(frozen=True)
class ImageForm:
    """Channels and side of every stored image; larger files are resized to it, or refused."""

    channels: int
    side_px: int
    resizes: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self.channels, self.side_px, self.side_px


def list_images(path: Path) -> list[str]:
    """Return the sorted names of the images in a folder and its folders, or in a zip archive.

    Raises UserError also for a name that is not UTF-8: no message or table could name it.
    """
    if not path.exists():
        raise UserError(f"{path}: missing; data.directory is a folder or a zip archive of images")
    names = sorted(name for name in _list_files(path) if _is_image(name))
    if not names:
        raise UserError(f"{path}: holds no image; PNG, JPEG and WebP are read")
    for name, following in pairwise([*names, ""]):
        if name == following:
            raise UserError(f"{path}: holds {name} twice")
        if any("\ud800" <= letter <= "\udfff" for letter in name):
            raise UserError(f"{path}: {name!a} found, a name in UTF-8 is needed")
    return names


def read_listing(path: Path, images: Sequence[str]) -> tuple[str | None, Mapping[str, str | None]]:
    """Read the name of the listing, and every image's sha256: "" where the listing lacks it.

    It is in the folder or archive, or beside it (ffhq.checksums.json beside ffhq/ or ffhq.zip);
    all are None where there is none.
    """
    for name, content in _find_listings(path):
        listed = parse_json(content, f"{path}: {name}")
        names = set(filter(_is_image, listed))
        missing = sorted(names - set(images))
        if missing:
            raise UserError(
                f"{path}: {name} lists {len(names)} images, "
                f"{len(missing)} of them are missing, the first is {missing[0]}"
            )
        return name, {image: str(listed.get(image, "")) for image in images}
    return None, dict.fromkeys(images)


def read_entry(path: Path, name: str) -> bytes:
    """Read a file of a folder or archive; raises BadImageError when it cannot be read."""
    try:
        return open_archive(path).read(name) if path.is_file() else (path / name).read_bytes()
    except OSError as error:
        raise BadImageError(f"cannot be read ({error.strerror or error})") from error
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, zlib.error) as error:
        raise BadImageError(f"cannot be unpacked ({error})") from error


@cache
def open_archive(path: Path) -> zipfile.ZipFile:
    """Open a zip archive once a process; raises UserError when it is none."""
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not a whole zip archive ({error})") from error


def find_form(content: bytes, channels: int | None, resolution_px: int | None) -> ImageForm:
    """Return the form of stored images, an image's own where left open; raises BadImageError."""
    with _open_image(content) as image:
        known = {mode: number for number, mode in _MODES.items()}
        channels = known.get(image.mode) if channels is None else channels
        if channels is None:
            raise BadImageError(f"mode {image.mode}, {' or '.join(known)} is needed")
        if resolution_px is not None:
            return ImageForm(channels, resolution_px, resizes=True)
        _check_square(image)
        return ImageForm(channels, image.width, resizes=False)


def decode_image(content: bytes, form: ImageForm) -> Images:
    """Turn a file into a stored image, uint8 [C, H, W]; a larger one is resized once, by Lanczos.

    Raises BadImageError for what does not fit or would be lost (16 bits, transparency).
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
        return np.atleast_3d(np.asarray(upright)).transpose(2, 0, 1)  # [H, W, C] -> [C, H, W]


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    is_hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    return not is_hidden and path.suffix.lower() in _SUFFIXES


def _list_files(path: Path) -> Iterator[str]:
    if path.is_file():
        return (entry.filename for entry in open_archive(path).infolist() if not entry.is_dir())
    files = (file for file in path.rglob("*") if file.is_file())
    return (file.relative_to(path).as_posix() for file in files)


def _find_listings(path: Path) -> Iterator[tuple[str, bytes]]:
    files = set(_list_files(path))
    for name in _LISTINGS:
        beside = path.with_name(f"{path.stem if path.is_file() else path.name}.{name}")
        if name in files:
            yield name, read_entry(path, name)
        if beside.is_file():
            yield beside.name, beside.read_bytes()


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
    num_frames, width = getattr(image, "n_frames", 1), image.width
    if num_frames != 1:
        raise BadImageError(f"{num_frames} frames, one is needed")
    if image.mode != _MODES[form.channels]:
        raise BadImageError(f"mode {image.mode}, {_MODES[form.channels]} is needed")
    _check_square(image)
    if form.resizes and width < form.side_px:
        raise BadImageError(f"{width} px, {form.side_px} px or more are needed")
    if not form.resizes and width != form.side_px:
        raise BadImageError(f"{width} px, others have {form.side_px} px; set data.resolution_px")


def _check_square(image: Image.Image) -> None:
    if image.width != image.height:
        raise BadImageError(f"{image.width} x {image.height} px, a square image is needed")
