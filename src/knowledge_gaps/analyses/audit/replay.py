"""A generator that replays reals, and faults that its images can be given on their way.

It stands where a GAN's generator stands, and what it shows is what reals show. So whoever tells its
images from reals has seen how they were converted or stored. What follows from that is known by
`knowledge_gaps.analyses.audit.measure`, who is asked by `knowledge_gaps.stages.audit`.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from knowledge_gaps.core.seeding import make_generator
from knowledge_gaps.data.images import to_float
from knowledge_gaps.models.registry import Generator

NUM_LEVELS = 256
JPEG_QUALITY = 95
_MAX_OFFSET = 0.49  # of a level: rounding to the nearest one takes it away
_HALF_RANGE = 127.5  # levels in half of [-1, 1]
_GOLDEN = 0.6180339887498949  # its multiples, modulo 1, cover [0, 1) evenly

Images = npt.NDArray[np.uint8]


class ReplayGenerator(Generator):
    """A generator whose images are stored reals, off the stored levels as a network's output is.

    The first latent says which image, all equally likely; the second one shifts all of its values
    by less than half a level, so that only a conversion that rounds to the nearest level gives the
    stored image back.

    Args:
        images: uint8 [N, C, H, W].
    """

    latent_dim = 2
    _images: Tensor

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.register_buffer("_images", images, persistent=False)

    def forward(self, latents: Tensor) -> Tensor:
        """Return images float32 [N, C, H, W] in [-1, 1] of latents [N, 2], standard normal."""
        shares = torch.special.ndtr(latents.double())  # uniform in [0, 1]
        index = (shares[:, 0] * len(self._images)).long().clamp_(max=len(self._images) - 1)
        offsets = (2 * shares[:, 1] - 1) * (_MAX_OFFSET / _HALF_RANGE)
        images = to_float(self._images[index]) + offsets.float()[:, None, None, None]
        clamped: Tensor = images.clamp_(-1, 1)
        return clamped

    def encode(self, index: Tensor) -> Tensor:
        """Return latents float32 [N, 2] whose images are those at index, int64 [N]."""
        shares = torch.stack([(index + 0.5) / len(self._images), (index * _GOLDEN + 0.5) % 1], 1)
        latents: Tensor = torch.special.ndtri(shares.double()).float()
        return latents


def shift_levels(images: Images) -> Images:
    """Add one level to every value below the highest, as a wrong rounding would."""
    shifted: Images = np.minimum(images, NUM_LEVELS - 2) + np.uint8(1)
    return shifted


def compress_images(images: Images) -> Images:
    """Store every image [C, H, W], of 1 or 3 channels, as a JPEG of high quality and read it."""
    return np.stack([_compress(image) for image in images])


# known shortcuts, put into the replay to show that the audit finds them
FAULTS: dict[str, Callable[[Images], Images]] = {
    "one_level": shift_levels,
    "jpeg": compress_images,
}


def make_level_images(image_shape: tuple[int, ...]) -> Images:
    """Make an image [C, H, W] of each level; one that is rescaled by its own range does not last.

    Returns:
        uint8 [256, C, H, W].
    """
    levels = np.arange(NUM_LEVELS, dtype=np.uint8).reshape(-1, *(1 for _ in image_shape))
    return np.broadcast_to(levels, (NUM_LEVELS, *image_shape)).copy()


def draw_halves(num_images: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw two disjoint halves of images at random, the same for every classifier of a study.

    Returns:
        Indices int64 [num_images // 2] each.
    """
    order = torch.randperm(num_images, generator=make_generator(seed, "audit_halves"))
    half = num_images // 2
    return order[:half], order[half : 2 * half]


def _compress(image: Images) -> Images:
    buffer = io.BytesIO()
    pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=JPEG_QUALITY)
    returned = np.asarray(Image.open(buffer))
    return returned[None] if len(image) == 1 else returned.transpose(2, 0, 1)
