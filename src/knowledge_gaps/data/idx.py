"""MNIST and its relatives: four files in the IDX format (LeCun, Cortes & Burges), plain or gzip.

Another dataset in IDX format needs no code: its name and directory in params.yaml are enough, and
its checksums are checked when the directory holds a checksums.json (file name to sha256).
"""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import hash_file, read_json
from knowledge_gaps.core.layout import (
    TEST_IMAGES,
    TEST_LABELS_FILE,
    TRAIN_IMAGES,
    TRAIN_LABELS_FILE,
)
from knowledge_gaps.data.images import MapImages, save_array
from knowledge_gaps.data.store import Images
from knowledge_gaps.study import DataSettings

_MAGIC = b"\0\0\x08"  # the third byte is the type of the values, uint8
_GZIP_MAGIC = b"\x1f\x8b"

CHECKSUMS_FILE = "checksums.json"
IMAGE_FILES = {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}
LABEL_FILES = {"train": "train-labels-idx1-ubyte", "test": "t10k-labels-idx1-ubyte"}
STORED = {"train": (TRAIN_IMAGES, TRAIN_LABELS_FILE), "test": (TEST_IMAGES, TEST_LABELS_FILE)}

# sha256 of the values (without header and compression) of the full MNIST, so that it does not
# matter how the files are packed; made from files with the published MD5
_MNIST_VALUES = {
    IMAGE_FILES["train"]: "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    LABEL_FILES["train"]: "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    IMAGE_FILES["test"]: "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
    LABEL_FILES["test"]: "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
}
_TORCHVISION_CLASSES = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "kmnist": "KMNIST"}


class Dataset:
    """Reals by file name: images uint8 [N, C, H, W] and labels int64 [N] of both splits."""

    def __init__(self, name: str, arrays: dict[str, npt.NDArray[np.generic]]) -> None:
        self.name, self.arrays = name, arrays
        self.num_train, self.num_test = len(arrays[TRAIN_IMAGES]), len(arrays[TEST_IMAGES])
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
    """Load reals from IDX files; see `reals.open_reals`."""
    directory = root / settings.directory
    if settings.source == "torchvision":
        directory = _download(settings.name, directory)
    if settings.source == "reduced" and not (directory / CHECKSUMS_FILE).exists():
        raise UserError(f"{directory / CHECKSUMS_FILE}: missing, the reduced sample needs it")
    train, test = (_load_split(settings, directory, split) for split in STORED)
    train_px, test_px = train[TRAIN_IMAGES].shape[2:], test[TEST_IMAGES].shape[2:]
    if train_px != test_px:
        raise UserError(f"{directory}: training images are {train_px} px, test images {test_px} px")
    return Dataset(settings.name, {**train, **test})


def _load_split(
    settings: DataSettings, directory: Path, split: str
) -> dict[str, npt.NDArray[np.generic]]:
    images = _read_checked(settings, directory, IMAGE_FILES[split])
    labels = _read_checked(settings, directory, LABEL_FILES[split])
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise UserError(
            f"{directory}: {split} images {images.shape} and labels {labels.shape} do not fit; "
            "[N, height, width] and [N] are needed"
        )
    if images.size == 0:
        raise UserError(f"{directory}: {split} images {images.shape} hold no pixel")
    count = settings.num_train if split == "train" else settings.num_test
    if count is not None and count > len(images):
        raise UserError(f"data.num_{split}: {count} found, the source has {len(images)} images")
    images_file, labels_file = STORED[split]
    # [N, H, W] -> [N, 1, H, W]
    return {
        images_file: images[:count, np.newaxis],
        labels_file: labels[:count].astype(np.int64),
    }


def _read_checked(settings: DataSettings, directory: Path, name: str) -> Images:
    candidates = [directory / name, directory / f"{name}.gz"]
    path = next((path for path in candidates if path.exists()), None)
    if path is None:
        raise UserError(f"{candidates[0]}: missing, and so is {candidates[1].name}")
    listing = directory / CHECKSUMS_FILE
    if listing.exists():
        expected, found = read_json(listing).get(path.name), hash_file(path)
        if expected is None:
            raise UserError(f"{listing}: does not list {path.name}")
        if found != expected:
            raise UserError(f"{path}: wrong checksum, sha256 is {found}, {expected} is listed")
    values = read_idx(path)
    is_full = settings.name == "mnist" and settings.source != "reduced"
    if is_full and hashlib.sha256(values.tobytes()).hexdigest() != _MNIST_VALUES[name]:
        raise UserError(f"{path}: wrong checksum, these are not the values of the full 'mnist' set")
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
