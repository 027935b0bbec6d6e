"""Resizing to a smaller size and back, as of images that are shown elsewhere."""

from __future__ import annotations

from PIL import Image

from knowledge_gaps.data.store import Images
from knowledge_gaps.evaluation.perturbing import map_pictures

_SHARE = 6 / 7  # of the side: 24 of 28 px


def resize(images: Images, start: int) -> Images:
    """Shrink images, uint8 [N, 1 or 3, H, W], to 6/7 of their sides, and enlarge them again.

    Both by Pillow's bilinear filter, whose support grows with the scale: no aliasing.
    """
    return map_pictures(images, _shrink_and_enlarge)


def _shrink_and_enlarge(picture: Image.Image) -> Image.Image:
    width, height = (max(1, round(side_px * _SHARE)) for side_px in picture.size)
    small = picture.resize((width, height), Image.Resampling.BILINEAR)
    return small.resize(picture.size, Image.Resampling.BILINEAR)


PERTURBATIONS = {"resize": resize}
