"""Cartoon faces drawn by seed, for machines without a data set of faces: DiceBear's styles.

A style makes SVG of a seed, and resvg draws it; both come with the optional extra `faces`.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Generator
from contextlib import closing
from functools import cache, partial
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.fingerprint import get_versions
from knowledge_gaps.core.layout import DEV_IMAGES, TEST_IMAGES, TRAIN_IMAGES
from knowledge_gaps.data.images import MapImages, save_batches
from knowledge_gaps.data.store import Images
from knowledge_gaps.study import DataSettings

if TYPE_CHECKING:
    from dicebear import Style

_BACKGROUND = "#ffffff"
_SUPERSAMPLING = 4  # every pixel is the mean of a square of so many pixels a side
_MOST_TURNS = 10  # of as many seeds as faces; then the style has no more distinct ones
_LIBRARIES = ("dicebear-core", "dicebear-styles", "resvg_py")


class DrawnFaces:
    """Distinct faces of one style: of the seeds 0, 1, 2 ... those that differ from all before."""

    content: str | None = None
    has_labels = False

    def __init__(self, settings: DataSettings) -> None:
        assert settings.style is not None
        assert settings.resolution_px is not None
        assert settings.num_train is not None
        assert settings.num_test is not None
        self._style, self._source = settings.style, describe_style(settings.style)
        self.image_shape = (settings.channels or 3, settings.resolution_px, settings.resolution_px)
        self.num_train, self.num_test = settings.num_train, settings.num_test
        self.num_dev = 0 if settings.num_dev is None else settings.num_dev

    def write(self, directory: Path, map_images: MapImages[int]) -> dict[str, Any]:
        """Draw and write all splits; return maker and versions. UserError for too few faces."""
        splits = {TRAIN_IMAGES: self.num_train, DEV_IMAGES: self.num_dev}
        with closing(self._draw_distinct(map_images)) as faces:
            for name, number in (splits | {TEST_IMAGES: self.num_test}).items():
                if number > 0:
                    save_batches(directory / name, number, islice(faces, number))
        return {"drawn_faces": {**self._source, "versions": get_versions(_LIBRARIES)}}

    def _draw_distinct(self, map_images: MapImages[int]) -> Generator[Images, None, None]:
        """Draw as many faces as are asked for, each as uint8 [1, C, H, W]."""
        num_faces = self.num_train + self.num_dev + self.num_test
        channels, resolution_px, _ = self.image_shape
        draw = partial(draw_face, self._style, resolution_px=resolution_px, channels=channels)
        known: set[bytes] = set()
        for turn in range(_MOST_TURNS):
            seeds = range(turn * num_faces, (turn + 1) * num_faces)
            for face in map_images(draw, seeds, f"drawn faces of {self._style}"):
                digest = hashlib.sha256(face.tobytes()).digest()
                if digest not in known:
                    known.add(digest)
                    yield face[np.newaxis]
        dev = " + data.num_dev" if self.num_dev > 0 else ""
        raise UserError(
            f"data.num_train{dev} + data.num_test: {num_faces} found, style {self._style!r} has "
            f"{len(known)} distinct faces of {self.image_shape[1]} px (in {num_faces} x "
            f"{_MOST_TURNS} seeds)"
        )


def draw_face(style: str, seed: int, resolution_px: int, channels: int) -> Images:
    """Draw the face of a seed on a plain background, uint8 [C, H, W], in grey or colour."""
    from dicebear import Avatar
    from resvg_py import svg_to_bytes

    side_px = _SUPERSAMPLING * resolution_px
    options = {"seed": str(seed), "backgroundColor": [_BACKGROUND]}
    svg = Avatar(_load_style(style), options).to_string()
    png = svg_to_bytes(
        svg_string=svg,
        width=side_px,
        height=side_px,
        background=_BACKGROUND,
        skip_system_fonts=True,  # or the drawing would hang on the machine
    )
    with Image.open(io.BytesIO(png)) as picture:
        reduced = picture.convert("RGB").reduce(_SUPERSAMPLING)
    pixels = np.asarray(reduced if channels == 3 else reduced.convert("L"))
    return np.atleast_3d(pixels).transpose(2, 0, 1)


def describe_style(style: str) -> dict[str, str]:
    """Return maker and licence of a style; UserError for an unknown style, or without the extra."""
    try:
        import dicebear  # noqa: F401
        import resvg_py  # noqa: F401

        known = {entry.name.removesuffix(".json") for entry in files("dicebear_styles").iterdir()}
    except ImportError as error:
        raise UserError(
            f"data.source: 'dicebear' needs the optional extra faces, {error.name} is missing: "
            "pip install 'knowledge-gaps[faces]'"
        ) from error
    if style not in known:
        names = ", ".join(sorted(name for name in known if "." not in name and name[0] != "_"))
        raise UserError(f"data.style: {style!r} found, one of {names} is needed")
    meta = _read_definition(style)["meta"]
    source, maker, licence = (meta.get(key, {}) for key in ("source", "creator", "license"))
    return {
        "style": style,
        "title": source.get("name", style),
        "creator": maker.get("name", "not named"),
        "licence": licence.get("name", "not named"),
        "licence_url": licence.get("url", ""),
        "source_url": source.get("url", ""),
    }


def _read_definition(style: str) -> Any:
    return json.loads(files("dicebear_styles").joinpath(f"{style}.json").read_text("utf-8"))


@cache
def _load_style(style: str) -> Style:
    from dicebear import Style

    return Style(_read_definition(style))
