"""A folder or a zip archive of images, such as FFHQ, as train, dev and test split.

In the order of their names, the first `num_train` train, the last `num_test` test, and the
`num_dev` before these dev. Images that cannot be used are refused, except those that params.yaml
names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.layout import DEV_IMAGES, TEST_IMAGES, TRAIN_IMAGES
from knowledge_gaps.data.image_files import (
    BadImageError,
    ImageForm,
    decode_image,
    find_form,
    list_images,
    read_entry,
    read_listing,
)
from knowledge_gaps.data.images import MapImages, create_images, write_images
from knowledge_gaps.data.store import Images
from knowledge_gaps.study import DataSettings

_NUM_SHOWN = 3  # bad images in the one line of an error

# where a worker stores an image, file and index; its name, and its sha256 as in `read_listing`
_Item = tuple[Path, int, str, str | None]


class ImageFolder:
    """Images of a folder or archive, with the last ones as test split; see `reals.open_reals`."""

    content: str | None = None
    has_labels = False

    def __init__(self, settings: DataSettings, path: Path) -> None:
        self._path = path
        self._allowed, names = sorted(set(settings.allow_bad)), list_images(path)
        for name in self._allowed:
            if name not in names:
                raise UserError(f"data.allow_bad: {name!r} found, {path} has no such image")
        self._listing, self._checksums = read_listing(path, names)
        self._usable = [name for name in names if name not in self._allowed]
        counts = _count_splits(settings, path, len(self._usable))
        self.num_train, self.num_dev, self.num_test = counts
        self._form = _choose_form(settings, path, self._usable)
        self.image_shape = self._form.shape

    def write(self, directory: Path, map_images: MapImages[_Item]) -> dict[str, Any]:
        """Read all images and write all splits; return what was left out, and the listing's name.

        Raises UserError for images that cannot be used, and for named ones that can.
        """
        first_test = len(self._usable) - self.num_test
        splits = {
            TRAIN_IMAGES: self._usable[: self.num_train],
            DEV_IMAGES: self._usable[first_test - self.num_dev : first_test],
            TEST_IMAGES: self._usable[first_test:],
        }
        items: list[_Item] = []
        for file, names in splits.items():
            if not names:  # no dev split
                continue
            create_images(directory / file, (len(names), *self.image_shape))
            for index, name in enumerate(names):
                items.append((directory / file, index, name, self._checksums[name]))
        store = partial(_store_image, self._path, self._form)
        reasons = map_images(store, items, f"images of {self._path.name}")
        found = zip(items, reasons, strict=True)
        self._refuse({name: reason for (_, _, name, _), reason in found if reason is not None})
        left_out = {name: self._find_reason(name) for name in self._allowed}
        return {"left_out": left_out, "checked_against": self._listing}

    def _refuse(self, bad: Mapping[str, str]) -> None:
        """Refuse bad images; all are printed, a line each."""
        if not bad:
            return
        print("\n".join(f"{name}: {bad[name]}" for name in sorted(bad)))
        shown = "; ".join(f"{name} ({bad[name]})" for name in sorted(bad)[:_NUM_SHOWN])
        raise UserError(
            f"{self._path}: {len(bad)} images cannot be used: {shown}; all are printed before this "
            "line: mend them, or name each in data.allow_bad to leave it out"
        )

    def _find_reason(self, name: str) -> str:
        """Say why an image that is left out cannot be used; one that can be is refused."""
        try:
            _read_image(self._path, self._form, name, self._checksums[name])
        except BadImageError as error:
            return str(error)
        raise UserError(f"data.allow_bad: {name!r} found, that image can be used")


def _store_image(path: Path, form: ImageForm, item: _Item) -> str | None:
    """Store an image; return the reason where it cannot be used."""
    target, index, name, expected = item
    try:
        write_images(target, index, _read_image(path, form, name, expected)[np.newaxis])
    except BadImageError as error:
        return str(error)
    return None


def _read_image(path: Path, form: ImageForm, name: str, expected: str | None) -> Images:
    """Read, check and resize an image, uint8 [C, H, W]; raises BadImageError."""
    content = read_entry(path, name)
    found = hashlib.sha256(content).hexdigest()
    if expected == "":
        raise BadImageError("its checksum is not listed")
    if expected not in (None, found):
        raise BadImageError(f"wrong checksum, sha256 is {found}, {expected} is listed")
    return decode_image(content, form)


def _count_splits(settings: DataSettings, path: Path, num_usable: int) -> tuple[int, int, int]:
    """Return the numbers of training, dev and test images, which share none."""
    assert settings.num_test is not None
    asked = {"num_dev": settings.num_dev, "num_test": settings.num_test}
    rest = {key: number for key, number in asked.items() if number is not None}
    num_rest = sum(rest.values())
    num_train = settings.num_train or max(1, num_usable - num_rest)
    if num_train + num_rest > num_usable:
        keys = " + ".join(f"data.{key}" for key in ("num_train", *rest))
        found = " + ".join(map(str, (num_train, *rest.values())))
        raise UserError(f"{keys}: {found} found, {path} has {num_usable} images")
    return num_train, rest.get("num_dev", 0), settings.num_test


def _choose_form(settings: DataSettings, path: Path, names: Sequence[str]) -> ImageForm:
    """Return the form of all images: as params.yaml has it, or else the first usable one's."""
    first_reason = ""
    for name in names:
        try:
            return find_form(read_entry(path, name), settings.channels, settings.resolution_px)
        except BadImageError as error:
            first_reason = first_reason or f"{name} ({error})"
    raise UserError(f"{path}: none of its {len(names)} images can be used: {first_reason}")
