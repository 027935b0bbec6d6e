"""JPEG compression, as of images that are shared."""

from __future__ import annotations

import io
from functools import partial

from PIL import Image

from knowledge_gaps.data.store import Images
from knowledge_gaps.evaluation.perturbing import map_pictures


def compress(images: Images, start: int = 0, *, quality: int) -> Images:
    """Store images, uint8 [N, 1 or 3, H, W], as JPEG of a quality from 0 to 95, and read them.

    By Pillow with its defaults: the colours of an RGB image have half of its resolution.
    """
    return map_pictures(images, partial(_compress, quality=quality))


def _compress(picture: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=quality)
    return Image.open(buffer)


PERTURBATIONS = {f"jpeg_{quality}": partial(compress, quality=quality) for quality in (95, 75)}
