"""A folder or a zip archive of images, such as FFHQ, as train and test split.

The images are used in the order of their names: the first `num_train` train, the last `num_test`
test. Each is read once, resized once where a resolution is asked for, and stored as uint8; nothing
is encoded again. Images that cannot be used are listed with their reasons and are refused, except
those that params.yaml names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import write_text
from knowledge_gaps.core.layout import TEST_IMAGES, TRAIN_IMAGES
from knowledge_gaps.data.image_files import (
    MODES,
    BadImageError,
    ImageForm,
    decode_image,
    identify_image,
    list_images,
    read_entry,
    read_listing,
)
from knowledge_gaps.data.images import create_images, write_images
from knowledge_gaps.data.mapping import MapImages, cut_batches
from knowledge_gaps.data.store import Images
from knowledge_gaps.study import DataSettings

BAD_IMAGES_FILE = "bad_images.txt"
_NUM_SHOWN = 3  # bad images in the one line of an error


@dataclass(frozen=True)
class _Batch:
    """Consecutive images that one worker reads and stores."""

    names: Sequence[str]
    checksums: Mapping[str, str] | None  # sha256 of each, None where there is no listing
    target: Path
    start: int  # index of the first one in the target


class ImageFolder:
    """Images of a folder or archive, with the last ones as test split.

    Args:
        settings: the study's `data` section, of source "images".
        path: of the folder or archive.
        state: folder for the list of images that cannot be used.

    Raises:
        UserError: when it is missing, holds too few images or others than its listing has.
    """

    def __init__(self, settings: DataSettings, path: Path, state: Path) -> None:
        self._path, self._bad_file = path, state / BAD_IMAGES_FILE
        self._allowed, names = sorted(set(settings.allow_bad)), list_images(path)
        for name in self._allowed:
            if name not in names:
                raise UserError(f"data.allow_bad: {name!r} found, {path} has no such image")
        self._listing, self._checksums = read_listing(path, names)
        self._usable = [name for name in names if name not in self._allowed]
        self.num_train, self.num_test = _count_splits(settings, path, len(self._usable))
        self._form = _choose_form(settings, path, self._usable)
        self.image_shape = (self._form.channels, self._form.side_px, self._form.side_px)

    def write(self, directory: Path, map_images: MapImages) -> dict[str, Any]:
        """Read all images and write both splits.

        Args:
            directory: of the files.
            map_images: reads batches side by side.

        Returns:
            What dataset.json holds of them beside shapes and counts.

        Raises:
            UserError: for images that cannot be used and are not named in data.allow_bad, and for
                images that are named there and can be used.
        """
        splits = {
            directory / TRAIN_IMAGES: self._usable[: self.num_train],
            directory / TEST_IMAGES: self._usable[-self.num_test :],
        }
        batches = []
        for target, names in splits.items():
            create_images(target, (len(names), *self.image_shape))
            for start, part in cut_batches(names, self.image_shape):
                batches.append(_Batch(part, self._select_checksums(part), target, start))
        bad: dict[str, str] = {}
        store = partial(_store_batch, self._path, self._form)
        for found in map_images(store, batches, f"images of {self._path.name}"):
            bad.update(found)
        self._refuse(bad)
        left_out = {name: self._find_reason(name) for name in self._allowed}
        return {"left_out": left_out, "checked_against": self._listing}

    def _refuse(self, bad: Mapping[str, str]) -> None:
        """Refuse bad images; all are listed in a file."""
        self._bad_file.unlink(missing_ok=True)  # of an earlier run
        if not bad:
            return
        write_text(self._bad_file, "".join(f"{name}: {bad[name]}\n" for name in sorted(bad)))
        shown = "; ".join(f"{name} ({bad[name]})" for name in sorted(bad)[:_NUM_SHOWN])
        raise UserError(
            f"{self._path}: {len(bad)} images cannot be used: {shown}; {self._bad_file} lists all; "
            "mend them, or name each in data.allow_bad to leave it out"
        )

    def _find_reason(self, name: str) -> str:
        """Say why an image that is left out cannot be used; one that can be is refused."""
        try:
            _read_image(self._path, self._form, self._select_checksums([name]), name)
        except BadImageError as error:
            return str(error)
        raise UserError(f"data.allow_bad: {name!r} found, that image can be used")

    def _select_checksums(self, names: Sequence[str]) -> dict[str, str] | None:
        if self._listing is None:
            return None
        return {name: self._checksums[name] for name in names if name in self._checksums}


def _store_batch(path: Path, form: ImageForm, batch: _Batch) -> dict[str, str]:
    """Store the images of a batch; return the reason of each that cannot be used."""
    shape = (len(batch.names), form.channels, form.side_px, form.side_px)
    images = np.zeros(shape, np.uint8)
    bad = {}
    for index, name in enumerate(batch.names):
        try:
            images[index] = _read_image(path, form, batch.checksums, name)
        except BadImageError as error:
            bad[name] = str(error)
    write_images(batch.target, batch.start, images)
    return bad


def _read_image(
    path: Path, form: ImageForm, checksums: Mapping[str, str] | None, name: str
) -> Images:
    """Read, check and resize an image, uint8 [C, H, W]; raises BadImageError."""
    content = read_entry(path, name)
    if checksums is not None:
        found = hashlib.sha256(content).hexdigest()
        if name not in checksums:
            raise BadImageError("its checksum is not listed")
        if found != checksums[name]:
            raise BadImageError(f"wrong checksum, sha256 is {found}, {checksums[name]} is listed")
    return decode_image(content, form)


def _count_splits(settings: DataSettings, path: Path, num_usable: int) -> tuple[int, int]:
    """Return the numbers of training and test images, which share none."""
    assert settings.num_test is not None
    num_train = settings.num_train
    if num_train is None:
        num_train = max(1, num_usable - settings.num_test)
    if num_train + settings.num_test > num_usable:
        raise UserError(
            f"data.num_train + data.num_test: {num_train} + {settings.num_test} found, "
            f"{path} has {num_usable} images"
        )
    return num_train, settings.num_test


def _choose_form(settings: DataSettings, path: Path, names: Sequence[str]) -> ImageForm:
    """Return the form of all images: as params.yaml has it, or else the first usable one's."""
    first_reason = ""
    for name in names:
        try:
            return _make_form(settings, *identify_image(read_entry(path, name)))
        except BadImageError as error:
            first_reason = first_reason or f"{name} ({error})"
    raise UserError(f"{path}: none of its {len(names)} images can be used: {first_reason}")


def _make_form(settings: DataSettings, mode: str, size: tuple[int, int]) -> ImageForm:
    known: dict[str, int] = {mode: number for number, mode in MODES.items()}
    channels = known.get(mode) if settings.channels is None else settings.channels
    if channels is None:
        raise BadImageError(f"mode {mode}, {' or '.join(MODES.values())} is needed")
    if settings.resolution_px is not None:
        return ImageForm(channels, settings.resolution_px, resizes=True)
    if size[0] != size[1]:
        raise BadImageError(f"{size[0]} x {size[1]} px, a square image is needed")
    return ImageForm(channels, size[0], resizes=False)
