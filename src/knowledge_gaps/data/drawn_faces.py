"""Cartoon faces drawn by seed, for machines without a data set of faces: DiceBear's styles.

A style puts a face together from parts by hashing a seed, as SVG; resvg draws it. Both come from
the package index with the optional extra `faces`, styles and their licences included. The faces are
drawings and are called so wherever they are shown; what a study says of them it does not say of
photographs.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.fingerprint import get_versions
from knowledge_gaps.core.layout import TEST_IMAGES, TRAIN_IMAGES
from knowledge_gaps.data.blocks import cut_blocks, make_blocks
from knowledge_gaps.data.images import save_shards
from knowledge_gaps.data.store import Images
from knowledge_gaps.study import DataSettings

if TYPE_CHECKING:
    from dicebear import Style

BACKGROUND = "#ffffff"
_SUPERSAMPLING = 4  # every pixel is the mean of a square of so many pixels a side
_MOST_TURNS = 10  # of as many seeds as faces; then the style has no more distinct ones
_LIBRARIES = ("dicebear-core", "dicebear-styles", "resvg_py")


@dataclass(frozen=True)
class FaceMaker:
    """Draws faces by seed; a `blocks.Maker`."""

    style: str
    resolution_px: int
    channels: int

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a face."""
        return (self.channels, self.resolution_px, self.resolution_px)

    def describe(self) -> list[Any]:
        """Name all that the faces depend on beside their seeds and the code."""
        style = hashlib.sha256(_read_definition(self.style).encode()).hexdigest()
        return [style, self.image_shape, get_versions((*_LIBRARIES, "pillow"))]

    def make(self, item: str) -> Images:
        """Draw the face of a seed, uint8 [C, H, W]."""
        return draw_face(self.style, item, self.resolution_px, self.channels)


class DrawnFaces:
    """Distinct faces of one style: of the seeds 0, 1, 2 ... those that look like none before.

    Args:
        settings: the study's `data` section, of source "dicebear".
        state: folder of blocks that are kept until all are there.

    Raises:
        UserError: when the extra is not installed, or has no such style.
    """

    def __init__(self, settings: DataSettings, state: Path) -> None:
        assert settings.style is not None
        assert settings.resolution_px is not None
        assert settings.num_train is not None
        assert settings.num_test is not None
        self._maker = FaceMaker(settings.style, settings.resolution_px, settings.channels or 3)
        self._state, self._source = state, describe_style(settings.style)
        self.image_shape = self._maker.image_shape
        self.num_train, self.num_test = settings.num_train, settings.num_test

    def write(self, directory: Path) -> dict[str, Any]:
        """Draw the faces and write both splits as shards; return what dataset.json says of them."""
        with closing(self._draw_distinct()) as faces:
            save_shards(directory / TRAIN_IMAGES, islice(faces, self.num_train))
            save_shards(directory / TEST_IMAGES, islice(faces, self.num_test))
        return {"drawn_faces": {**self._source, "versions": get_versions(_LIBRARIES)}}

    def _draw_distinct(self) -> Generator[Images, None, None]:
        """Draw as many faces as are asked for, block after block, each as uint8 [C, H, W]."""
        num_faces = self.num_train + self.num_test
        seen: set[bytes] = set()
        for turn in range(_MOST_TURNS):
            seeds = [str(seed) for seed in range(turn * num_faces, (turn + 1) * num_faces)]
            blocks = cut_blocks(self._maker, seeds, self._state)
            for block in make_blocks(blocks, f"drawn faces of {self._maker.style}"):
                for face in block.load():
                    digest = hashlib.sha256(face.tobytes()).digest()
                    if digest not in seen:
                        seen.add(digest)
                        yield face
        maker = self._maker
        raise UserError(
            f"data.num_train + data.num_test: {num_faces} found, style {maker.style!r} has "
            f"{len(seen)} distinct faces of {maker.resolution_px} px (in {num_faces} x "
            f"{_MOST_TURNS} seeds)"
        )


def draw_face(style: str, seed: str, resolution_px: int, channels: int) -> Images:
    """Draw the face of a seed on a plain background.

    Args:
        style: a name of DiceBear's styles.
        seed: any text.
        resolution_px: side of the image.
        channels: 1 for grey, 3 for colour.

    Returns:
        uint8 [C, H, W].
    """
    from dicebear import Avatar
    from resvg_py import svg_to_bytes

    side_px = _SUPERSAMPLING * resolution_px
    svg = Avatar(_load_style(style), {"seed": seed, "backgroundColor": [BACKGROUND]}).to_string()
    png = svg_to_bytes(
        svg_string=svg,
        width=side_px,
        height=side_px,
        background=BACKGROUND,
        skip_system_fonts=True,  # or the drawing would hang on the machine
    )
    with Image.open(io.BytesIO(png)) as picture:
        reduced = picture.convert("RGB").reduce(_SUPERSAMPLING)
    pixels = np.asarray(reduced if channels == 3 else reduced.convert("L"))
    return np.atleast_3d(pixels).transpose(2, 0, 1)


def list_styles() -> list[str]:
    """List the styles of the installed packages.

    Raises:
        UserError: when the extra is not installed.
    """
    try:
        import dicebear  # noqa: F401
        import resvg_py  # noqa: F401

        entries = list(files("dicebear_styles").iterdir())
    except ImportError as error:
        raise UserError(
            f"data.source: 'dicebear' needs the optional extra faces, {error.name} is missing: "
            "pip install 'knowledge-gaps[faces]'"
        ) from error
    names = (entry.name for entry in entries if entry.name.endswith(".json"))
    return sorted(name.removesuffix(".json") for name in names)


def describe_style(style: str) -> dict[str, str]:
    """Say who made a style and under which licence, as its definition says.

    Raises:
        UserError: when there is no such style, or the extra is not installed.
    """
    known = list_styles()
    if style not in known:
        raise UserError(f"data.style: {style!r} found, one of {', '.join(known)} is needed")
    meta = json.loads(_read_definition(style))["meta"]
    return {
        "style": style,
        "title": meta.get("source", {}).get("name", style),
        "creator": meta.get("creator", {}).get("name", "not named"),
        "licence": meta.get("license", {}).get("name", "not named"),
        "licence_url": meta.get("license", {}).get("url", ""),
        "source_url": meta.get("source", {}).get("url", ""),
    }


def _read_definition(style: str) -> str:
    return files("dicebear_styles").joinpath(f"{style}.json").read_text("utf-8")


@cache
def _load_style(style: str) -> Style:
    from dicebear import Style

    return Style(json.loads(_read_definition(style)))
