"""MNIST and its relatives, as four IDX files, with their checksums.

Another dataset in IDX format needs no code: its name and directory in params.yaml are enough, and
its checksums are checked when the directory holds a checksums.json (file name to sha256).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
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
from knowledge_gaps.data.idx import read_idx
from knowledge_gaps.data.images import save_array, save_shards
from knowledge_gaps.study import DataSettings

CHECKSUMS_FILE = "checksums.json"
IMAGE_FILES = {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}
LABEL_FILES = {"train": "train-labels-idx1-ubyte", "test": "t10k-labels-idx1-ubyte"}

# sha256 of the values (without header and compression) of the full sets, so that it does not
# matter how the files are packed; made by `hash_values` from files with the published MD5
_KNOWN_VALUES = {
    "mnist": {
        "train-images-idx3-ubyte": "741c988805d008ac6e4c904b69001ba1"
        "84c24b2c540a4ef403f4c71b676cf757",
        "train-labels-idx1-ubyte": "1feba77c54802fa5339a11837ea4b286"
        "6434b83314ec45192930f1df69120c13",
        "t10k-images-idx3-ubyte": "6d87418db22cc8025d05968bec9bd5c3"
        "932904b23485740db143a061a2c9d161",
        "t10k-labels-idx1-ubyte": "ddeff807876a9661a1110d45c266c862"
        "39a3a1b7d37da0c3716a7a683c852ff5",
    },
}
_TORCHVISION_CLASSES = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "kmnist": "KMNIST"}


@dataclass(frozen=True)
class Split:
    """Images and labels of one split.

    Attributes:
        images: uint8 [N, C, H, W].
        labels: int64 [N].
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """Reals: the official training split trains, the official test split measures."""

    name: str
    train: Split
    test: Split

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width

    @property
    def num_train(self) -> int:
        """How many images train."""
        return len(self.train.images)

    @property
    def num_test(self) -> int:
        """How many images measure."""
        return len(self.test.images)

    def write(self, directory: Path) -> dict[str, Any]:
        """Write images as shards, and labels; return what dataset.json says of them."""
        save_shards(directory / TRAIN_IMAGES, self.train.images)
        save_array(directory / TRAIN_LABELS_FILE, self.train.labels)
        save_shards(directory / TEST_IMAGES, self.test.images)
        save_array(directory / TEST_LABELS_FILE, self.test.labels)
        return {"sha256": self.compute_sha256()}

    def compute_sha256(self) -> str:
        """Hash name, shapes and values, for people who compare datasets."""
        digest = hashlib.sha256(self.name.encode())
        for split in (self.train, self.test):
            for array in (split.images, split.labels):
                digest.update(f"{array.dtype}{array.shape}".encode())
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def load_dataset(settings: DataSettings, root: Path) -> Dataset:
    """Load the reals of a study.

    Args:
        settings: the study's `data` section.
        root: what a relative directory is relative to.

    Raises:
        UserError: when a file is missing, corrupt, of the wrong checksum or does not fit.
    """
    directory = root / settings.directory
    if settings.source == "torchvision":
        directory = _download(settings.name, directory)
    if settings.source == "reduced" and not (directory / CHECKSUMS_FILE).exists():
        raise UserError(f"{directory / CHECKSUMS_FILE}: missing, the reduced sample needs it")
    is_full = settings.source != "reduced"
    train = _load_split(directory, "train", settings.name, is_full)
    test = _load_split(directory, "test", settings.name, is_full)
    if train.images.shape[1:] != test.images.shape[1:]:
        raise UserError(
            f"{directory}: training images are {train.images.shape[2:]} px, "
            f"test images {test.images.shape[2:]} px"
        )
    return Dataset(
        name=settings.name,
        train=_take_first(train, settings.num_train, "num_train"),
        test=_take_first(test, settings.num_test, "num_test"),
    )


def hash_values(values: npt.NDArray[np.uint8]) -> str:
    """Hash the values of an IDX file without its header."""
    return hashlib.sha256(values.tobytes()).hexdigest()


def _load_split(directory: Path, split: str, name: str, is_full: bool) -> Split:
    images = _read_checked(directory, IMAGE_FILES[split], name, is_full)
    labels = _read_checked(directory, LABEL_FILES[split], name, is_full)
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise UserError(
            f"{directory}: {split} images {images.shape} and labels {labels.shape} do not fit; "
            "[N, height, width] and [N] are needed"
        )
    if images.size == 0:
        raise UserError(f"{directory}: {split} images {images.shape} hold no pixel")
    return Split(images[:, np.newaxis], labels.astype(np.int64))


def _read_checked(
    directory: Path, file_name: str, name: str, is_full: bool
) -> npt.NDArray[np.uint8]:
    candidates = [directory / file_name, directory / f"{file_name}.gz"]
    path = next((path for path in candidates if path.exists()), None)
    if path is None:
        raise UserError(f"{candidates[0]}: missing, and so is {candidates[1].name}")
    _check_listed(path)
    values = read_idx(path)
    known = _KNOWN_VALUES.get(name, {}).get(file_name) if is_full else None
    if known is not None and hash_values(values) != known:
        raise UserError(
            f"{path}: wrong checksum, these are not the values of the full {name!r} set"
        )
    return values


def _check_listed(path: Path) -> None:
    listing = path.parent / CHECKSUMS_FILE
    if not listing.exists():
        return
    expected = read_json(listing).get(path.name)
    if expected is None:
        raise UserError(f"{listing}: does not list {path.name}")
    found = hash_file(path)
    if found != expected:
        raise UserError(f"{path}: wrong checksum, sha256 is {found}, {listing.name} has {expected}")


def _take_first(split: Split, count: int | None, key: str) -> Split:
    if count is None:
        return split
    if count > len(split.images):
        raise UserError(f"data.{key}: {count} found, the source has {len(split.images)} images")
    return Split(split.images[:count], split.labels[:count])


def _download(name: str, directory: Path) -> Path:
    if name not in _TORCHVISION_CLASSES:
        known = ", ".join(sorted(_TORCHVISION_CLASSES))
        raise UserError(f"data.name: torchvision downloads {known}, not {name!r}; use source: idx")
    from torchvision import datasets

    class_name = _TORCHVISION_CLASSES[name]
    dataset = getattr(datasets, class_name)
    try:
        for is_train in (True, False):
            dataset(directory, train=is_train, download=True)
    except (RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"data.source: torchvision could not download {name!r} into {directory} ({reason}); "
            "put the four IDX files into a directory and use source: idx"
        ) from error
    raw = directory / class_name / "raw"
    for file_name, md5 in dataset.resources:  # torchvision trusts files that are there already
        if not datasets.utils.check_integrity(str(raw / file_name), md5):
            raise UserError(f"{raw / file_name}: missing or wrong checksum, md5 {md5} is needed")
    return raw
