"""A folder or a zip archive of images, such as FFHQ, as train and test split.

The images are used in the order of their names: the first `num_train` train, the last `num_test`
test. Each is read once, resized once where a resolution is asked for, and stored as uint8; nothing
is encoded again. Images that cannot be used are listed with their reasons and are refused, but for
those that params.yaml names. What a single image must be like is known by
`knowledge_gaps.data.image_files`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import write_text
from knowledge_gaps.core.fingerprint import get_versions
from knowledge_gaps.core.layout import TEST_IMAGES, TRAIN_IMAGES
from knowledge_gaps.data.blocks import BadImageError, Block, cut_blocks, make_blocks
from knowledge_gaps.data.image_files import (
    MODES,
    ImageForm,
    check_checksum,
    decode_image,
    identify_image,
    list_images,
    read_entry,
)
from knowledge_gaps.data.image_listing import read_listing
from knowledge_gaps.data.store import Images, name_shard
from knowledge_gaps.study import DataSettings

BAD_IMAGES_FILE = "bad_images.txt"
_NUM_SHOWN = 3  # bad images in the one line of an error


@dataclass(frozen=True)
class FileMaker:
    """Reads images of a folder or archive by name; a `blocks.Maker`."""

    path: Path
    form: ImageForm

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image."""
        return self.form.image_shape

    def describe(self) -> list[Any]:
        """Name what the images depend on beside their files and the code."""
        return [str(self.path), self.image_shape, self.form.resizes, get_versions(["pillow"])]

    def make(self, item: str) -> Images:
        """Read, check and resize an image, uint8 [C, H, W]; raises BadImageError."""
        content = read_entry(self.path, item)
        listing = read_listing(self.path)
        if listing is not None:
            check_checksum(content, listing.checksums.get(item), listing.name)
        return decode_image(content, self.form)


class ImageFolder:
    """Images of a folder or archive, with the last ones as test split.

    Args:
        settings: the study's `data` section, of source "images".
        path: of the folder or archive.
        state: folder of what is kept until all images are read.

    Raises:
        UserError: when it is missing, holds too few images or others than its listing has.
    """

    def __init__(self, settings: DataSettings, path: Path, state: Path) -> None:
        self._path, self._state, self._allowed = path, state, frozenset(settings.allow_bad)
        self._stamps = list_images(path)
        for name in sorted(self._allowed - self._stamps.keys()):
            raise UserError(f"data.allow_bad: {name!r} found, {path} has no such image")
        self._listing = read_listing(path)
        if self._listing is not None:
            self._listing.require_all_of(self._stamps)
        usable = [name for name in self._stamps if name not in self._allowed]
        self.num_train, self.num_test = _count_splits(settings, path, len(usable))
        form = _choose_form(settings, path, usable)
        self._maker, self.image_shape = FileMaker(path, form), form.image_shape
        self._splits = self._split(usable)

    def write(self, directory: Path) -> dict[str, Any]:
        """Read all images and write both splits as shards.

        Returns:
            What dataset.json says of them beside shapes and counts.

        Raises:
            UserError: for images that cannot be used and are not named in data.allow_bad, and for
                images that are named there and can be used.
        """
        blocks = {name: self._cut(names) for name, names in self._splits.items()}
        bad: dict[str, str] = {}
        every = [block for part in blocks.values() for block in part]
        for block in make_blocks(every, f"images of {self._path.name}"):
            bad.update(block.read_bad())
        self._refuse(bad)
        left_out = {name: self._find_reason(name) for name in sorted(self._allowed)}
        for name, part in blocks.items():
            _link_shards(part, directory / name)
        listing = None if self._listing is None else self._listing.name
        return {"left_out": left_out, "checked_against": listing}

    def _split(self, usable: Sequence[str]) -> dict[str, list[str]]:
        """Name the images of each split, with those between them that are known to be bad.

        A name that is added to data.allow_bad then moves no border between two blocks.
        """
        last_train, first_test = usable[self.num_train - 1], usable[-self.num_test]
        names = list(self._stamps)
        return {
            TRAIN_IMAGES: names[: names.index(last_train) + 1],
            TEST_IMAGES: names[names.index(first_test) :],
        }

    def _cut(self, names: Sequence[str]) -> list[Block]:
        checksums = {} if self._listing is None else self._listing.checksums
        stamps = {name: f"{self._stamps[name]} {checksums.get(name)}" for name in names}
        return cut_blocks(self._maker, names, self._state, stamps)

    def _refuse(self, bad: Mapping[str, str]) -> None:
        """Refuse bad images that are not named in data.allow_bad; all are listed in a file."""
        refused = {name: bad[name] for name in sorted(bad) if name not in self._allowed}
        if not refused:
            return
        file = self._state / BAD_IMAGES_FILE
        write_text(file, "".join(f"{name}: {reason}\n" for name, reason in refused.items()))
        shown = "; ".join(f"{name} ({refused[name]})" for name in list(refused)[:_NUM_SHOWN])
        raise UserError(
            f"{self._path}: {len(refused)} images cannot be used: {shown}; {file} lists all; "
            "mend them, or name each in data.allow_bad to leave it out"
        )

    def _find_reason(self, name: str) -> str:
        """Say why an image that is left out cannot be used; one that can be is refused."""
        try:
            self._maker.make(name)
        except BadImageError as error:
            return str(error)
        raise UserError(f"data.allow_bad: {name!r} found, that image can be used")


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
    """Return what all images are like: as params.yaml says, or else as the first usable one is."""
    first_reason = ""
    for name in names:
        try:
            mode, size = identify_image(read_entry(path, name))
            return _make_form(settings, mode, size)
        except BadImageError as error:
            first_reason = first_reason or f"{name} ({error})"
    raise UserError(f"{path}: none of its {len(names)} images can be used: {first_reason}")


def _make_form(settings: DataSettings, mode: str, size: tuple[int, int]) -> ImageForm:
    channels: int | None = settings.channels
    if channels is None:
        channels = next((number for number, known in MODES.items() if known == mode), None)
        if channels is None:
            raise BadImageError(f"mode {mode}, {' or '.join(MODES.values())} is needed")
    if settings.resolution_px is not None:
        return ImageForm(channels, settings.resolution_px, resizes=True)
    if size[0] != size[1]:
        raise BadImageError(f"{size[0]} x {size[1]} px, a square image is needed")
    return ImageForm(channels, size[0], resizes=False)


def _link_shards(blocks: Sequence[Block], directory: Path) -> None:
    """Give the files of blocks the names of shards, without a second copy where that goes."""
    directory.mkdir(parents=True)
    files = [block.file for block in blocks if len(block.read_bad()) < len(block.items)]
    for index, file in enumerate(files):
        try:
            os.link(file, directory / name_shard(index))
        except OSError:  # another file system, or one without links
            shutil.copyfile(file, directory / name_shard(index))
