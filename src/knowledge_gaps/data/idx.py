"""MNIST and its relatives: four files in the IDX format (LeCun, Cortes & Burges), plain or gzip.

Another dataset in IDX format needs no code: its name and directory in params.yaml are enough, and
its checksums are checked when the directory holds a checksums.json (file name to sha256). A pair of
files for the dev split may lie beside them; without it dev is the end of the training file.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import hash_file, read_json
from knowledge_gaps.core.layout import (
    DEV_IMAGES,
    DEV_LABELS_FILE,
    TEST_IMAGES,
    TEST_LABELS_FILE,
    TRAIN_IMAGES,
    TRAIN_LABELS_FILE,
)
from knowledge_gaps.data.images import MapImages, save_array
from knowledge_gaps.data.store import Images
from knowledge_gaps.study import DataSettings

_Arrays = dict[str, npt.NDArray[np.generic]]  # by the files to write

_MAGIC = b"\0\0\x08"  # the third byte is the type of the values, uint8
_GZIP_MAGIC = b"\x1f\x8b"

CHECKSUMS_FILE = "checksums.json"
IMAGE_FILES = {
    "train": "train-images-idx3-ubyte",
    "test": "t10k-images-idx3-ubyte",
    "dev": "dev-images-idx3-ubyte",
}
LABEL_FILES = {
    "train": "train-labels-idx1-ubyte",
    "test": "t10k-labels-idx1-ubyte",
    "dev": "dev-labels-idx1-ubyte",
}
STORED = {
    "train": (TRAIN_IMAGES, TRAIN_LABELS_FILE),
    "test": (TEST_IMAGES, TEST_LABELS_FILE),
    "dev": (DEV_IMAGES, DEV_LABELS_FILE),
}

# sha256 of the values (without header and compression) of full sets by data.name, so that it does
# not matter how the files are packed; MNIST's were made from files with the published MD5. Those of
# Fashion-MNIST ("fashion-mnist") and KMNIST belong here, made likewise from files whose MD5 is that
# of torchvision's `datasets.FashionMNIST.resources`; without them the source torchvision alone
# knows these files, by that MD5.
_FULL_VALUES = {
    "mnist": {
        IMAGE_FILES["train"]: "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
        LABEL_FILES["train"]: "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
        IMAGE_FILES["test"]: "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
        LABEL_FILES["test"]: "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
    }
}
# the same of the images of data/mnist_reduced
_REDUCED_IMAGES = (
    "8e6cf80285a072318849aebf4d00b4d0517f59285f5320b288536d15ab66efe9",
    "ee16db886922d99b7120599e19f71cbf5fa23366ed3a996f1c0911ee9ada5dd3",
)
# what images are by the sha256 of their values, whatever data.name calls them
_KNOWN_IMAGES = {
    values[IMAGE_FILES[split]]: name
    for name, values in _FULL_VALUES.items()
    for split in ("train", "test")
} | dict.fromkeys(_REDUCED_IMAGES, "mnist")
_TORCHVISION_CLASSES = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "kmnist": "KMNIST"}


class _Split(NamedTuple):
    """Labelled images as their files hold them: uint8 [N, H, W] and [N]."""

    images: Images
    labels: Images

    def take(self, part: slice) -> _Split:
        return _Split(self.images[part], self.labels[part])


class Dataset:
    """Reals by file name: images uint8 [N, C, H, W] and labels int64 [N] of all splits."""

    has_labels = True

    def __init__(self, name: str, arrays: _Arrays, content: str | None = None) -> None:
        self.name, self.arrays, self.content = name, arrays, content
        self.num_train, self.num_test = len(arrays[TRAIN_IMAGES]), len(arrays[TEST_IMAGES])
        self.num_dev = len(arrays[DEV_IMAGES]) if DEV_IMAGES in arrays else 0
        _, channels, height, width = arrays[TRAIN_IMAGES].shape
        self.image_shape = (channels, height, width)

    def write(self, directory: Path, map_images: MapImages[Any]) -> dict[str, Any]:
        """Write images and labels; return their hash for dataset.json."""
        for name, array in self.arrays.items():
            save_array(directory / name, array)
        return {"sha256": self.compute_sha256()}

    def compute_sha256(self) -> str:
        """Hash name, shapes and values, for people who compare datasets."""
        digest = hashlib.sha256(self.name.encode())
        for array in self.arrays.values():
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def load_dataset(settings: DataSettings, root: Path) -> Dataset:
    """Load reals from IDX files; see `reals.open_reals`.

    The dev split is of its own pair of files, or else the last images of the training file.
    """
    directory = root / settings.directory
    if settings.source == "torchvision":
        directory = _download(settings.name, directory)
    if settings.source == "reduced" and not (directory / CHECKSUMS_FILE).exists():
        raise UserError(f"{directory / CHECKSUMS_FILE}: missing, the reduced sample needs it")
    splits = {name: _read_split(settings, directory, name) for name in ("train", "test")}
    content = _find_content(splits)
    if settings.num_dev is not None:
        has_files = any(_find_file(directory, files["dev"]) for files in (IMAGE_FILES, LABEL_FILES))
        if has_files:
            splits["dev"] = _read_split(settings, directory, "dev")
        else:
            splits["train"], splits["dev"] = _cut_dev(settings, splits["train"])
    arrays: _Arrays = {}
    for name, split in splits.items():
        sides_px = [each.images.shape[1:] for each in (splits["train"], split)]
        if sides_px[0] != sides_px[1]:
            raise UserError(
                f"{directory}: training images are {sides_px[0]} px, {name} images {sides_px[1]} px"
            )
        arrays |= _take_first(settings, name, split)
    return Dataset(settings.name, arrays, content)


def _find_content(splits: Mapping[str, _Split]) -> str | None:
    """Name the known set that all images are of, by their values; None where it is another."""
    found = {_KNOWN_IMAGES.get(_hash_values(split.images)) for split in splits.values()}
    return found.pop() if len(found) == 1 else None


def _read_split(settings: DataSettings, directory: Path, name: str) -> _Split:
    """Read a pair of files and check that they fit each other."""
    images = _read_checked(settings, directory, IMAGE_FILES[name])
    labels = _read_checked(settings, directory, LABEL_FILES[name])
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise UserError(
            f"{directory}: {name} images {images.shape} and labels {labels.shape} do not fit; "
            "[N, height, width] and [N] are needed"
        )
    if images.size == 0:
        raise UserError(f"{directory}: {name} images {images.shape} hold no pixel")
    return _Split(images, labels)


def _cut_dev(settings: DataSettings, train: _Split) -> tuple[_Split, _Split]:
    """Cut the dev split off the end of the training images; num_train of them must be left."""
    assert settings.num_dev is not None
    num_dev, num_train = settings.num_dev, 1 if settings.num_train is None else settings.num_train
    num_left = len(train.images) - num_dev
    if num_left < num_train:
        raise UserError(
            f"data.num_train + data.num_dev: {num_train} + {num_dev} found, the source has "
            f"{len(train.images)} training images, and no {IMAGE_FILES['dev']}"
        )
    return train.take(slice(num_left)), train.take(slice(num_left, None))


def _take_first(settings: DataSettings, name: str, split: _Split) -> _Arrays:
    """Take the first images of a split, as many as are asked for, by the files to write."""
    count: int | None = getattr(settings, f"num_{name}")
    if count is not None and count > len(split.images):
        raise UserError(
            f"data.num_{name}: {count} found, the source has {len(split.images)} images"
        )
    images_file, labels_file = STORED[name]
    # [N, H, W] -> [N, 1, H, W]
    return {
        images_file: split.images[:count, np.newaxis],
        labels_file: split.labels[:count].astype(np.int64),
    }


def _find_file(directory: Path, name: str) -> Path | None:
    candidates = (directory / name, directory / f"{name}.gz")
    return next((path for path in candidates if path.exists()), None)


def _hash_values(values: Images) -> str:
    return hashlib.sha256(values.tobytes()).hexdigest()


def _read_checked(settings: DataSettings, directory: Path, name: str) -> Images:
    path = _find_file(directory, name)
    if path is None:
        raise UserError(f"{directory / name}: missing, and so is {name}.gz")
    listing = directory / CHECKSUMS_FILE
    if listing.exists():
        expected, found = read_json(listing).get(path.name), hash_file(path)
        if expected is None:
            raise UserError(f"{listing}: does not list {path.name}")
        if found != expected:
            raise UserError(f"{path}: wrong checksum, sha256 is {found}, {expected} is listed")
    values = read_idx(path)
    known = {} if settings.source == "reduced" else _FULL_VALUES.get(settings.name, {})
    if name in known and _hash_values(values) != known[name]:
        raise UserError(
            f"{path}: wrong checksum, these are not the values of the full {settings.name!r} set"
        )
    return values


def _download(name: str, directory: Path) -> Path:
    if name not in _TORCHVISION_CLASSES:
        known = ", ".join(sorted(_TORCHVISION_CLASSES))
        raise UserError(f"data.name: torchvision downloads {known}, not {name!r}; use source: idx")
    from torchvision import datasets

    dataset = getattr(datasets, _TORCHVISION_CLASSES[name])
    try:
        dataset(directory, train=True, download=True)  # both splits
    except (RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"data.source: torchvision could not download {name!r} into {directory} ({reason}); "
            "put the four IDX files into a directory and use source: idx"
        ) from error
    raw = directory / _TORCHVISION_CLASSES[name] / "raw"
    for file_name, md5 in dataset.resources:  # torchvision trusts files that are there already
        if not datasets.utils.check_integrity(str(raw / file_name), md5):
            raise UserError(f"{raw / file_name}: missing or wrong checksum, md5 {md5} is needed")
    return raw


def read_idx(path: Path) -> Images:
    """Read an IDX file of unsigned bytes, plain or gzip; raises UserError when it is none."""
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if content.startswith(_GZIP_MAGIC) else content
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path}: truncated or corrupt gzip file ({error})") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if len(content) < 4 or not content.startswith(_MAGIC):
        found = content[:4].hex() or "nothing"
        raise UserError(f"{path}: bad magic number {found}, an IDX file starts with 000008xx")
    header_bytes = 4 + 4 * content[3]  # the number of dimensions
    if len(content) < header_bytes:
        raise UserError(f"{path}: truncated inside the header ({len(content)} bytes)")
    shape = struct.unpack(f">{content[3]}I", content[4:header_bytes])
    needed = header_bytes + math.prod(shape)
    if len(content) != needed:
        raise UserError(f"{path}: holds {len(content)} bytes, its header {shape} needs {needed}")
    return np.frombuffer(content, dtype=np.uint8, offset=header_bytes).reshape(shape)
