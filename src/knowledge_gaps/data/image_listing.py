"""The listing of a folder or archive of images: the sha256 of each, by its name.

A JSON object in a file checksums.json or manifest.json: in the folder, in the archive, or beside
them with their name in front (ffhq.checksums.json beside ffhq/ or ffhq.zip).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.data.image_files import has_image_suffix, is_archive, open_archive

_NAMES = ("checksums.json", "manifest.json")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Listing:
    """What a folder or archive should hold.

    Attributes:
        path: of the folder or archive.
        name: of the file that says so.
        checksums: sha256 by the image's name.
    """

    path: Path
    name: str
    checksums: dict[str, str]

    def require_all_of(self, names: Collection[str]) -> None:
        """Refuse a folder that lacks an image of the listing; raises UserError.

        An image that is not in the listing is found when it is read.
        """
        missing = sorted(name for name in self.checksums if name not in names)
        if missing:
            raise UserError(
                f"{self.path}: {self.name} lists {len(self.checksums)} images, "
                f"{len(missing)} of them are missing, the first is {missing[0]}"
            )


@cache
def read_listing(path: Path) -> Listing | None:
    """Read the listing of a folder or archive once a process, or None where there is none.

    Raises:
        UserError: when it is no JSON object of sha256 by name.
    """
    for name, text in _find_texts(path):
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: {name} is not valid JSON ({error})") from error
        if not isinstance(content, dict):
            raise UserError(f"{path}: {name} holds no JSON object of sha256 by name")
        for key, value in content.items():
            if not isinstance(value, str) or not _SHA256.fullmatch(value):
                raise UserError(f"{path}: {name} has {value!r} for {key}, a sha256 is needed")
        images = {key: value for key, value in content.items() if has_image_suffix(key)}
        return Listing(path, name, images)
    return None


def _find_texts(path: Path) -> Iterator[tuple[str, bytes]]:
    for name in _NAMES:
        if is_archive(path):
            archive = open_archive(path)
            if name in archive.namelist():
                yield name, archive.read(name)
        elif (path / name).is_file():
            yield name, (path / name).read_bytes()
        beside = path.with_name(f"{path.stem if is_archive(path) else path.name}.{name}")
        if beside.is_file():
            yield beside.name, beside.read_bytes()
