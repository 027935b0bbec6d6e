"""A generator that replays reals, known faults of its images, and the way that its images take.

It takes the place of a GAN's generator, and its images show what reals show. So a classifier that
tells them from reals uses how they were converted or stored.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from knowledge_gaps.data.images import load_images, save_batches, to_float
from knowledge_gaps.evaluation.batches import count_sampled
from knowledge_gaps.models.frozen import freeze
from knowledge_gaps.models.registry import Generator
from knowledge_gaps.training.batches import sample_images

NO_FAULT = "none"
NUM_LEVELS = 256
JPEG_QUALITY = 95
_MAX_OFFSET = 0.49  # of a level: rounding to the nearest one removes it
_HALF_RANGE = 127.5  # levels in half of [-1, 1]
_GOLDEN = 0.6180339887498949  # its multiples, modulo 1, cover [0, 1) evenly

Images = npt.NDArray[np.uint8]


class ReplayGenerator(Generator):
    """A generator whose images are stored reals, off the stored levels as a network's output is.

    The first latent chooses the image, all equally likely; the second one shifts all of its values
    by less than half a level, so that only a conversion that rounds to the nearest level returns
    the stored image.

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


def _compress(image: Images) -> Images:
    buffer = io.BytesIO()
    pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=JPEG_QUALITY)
    returned = np.asarray(Image.open(buffer))
    return returned[None] if len(image) == 1 else returned.transpose(2, 0, 1)


# known shortcuts, put into the replay to show that the audit finds them
FAULTS: dict[str, Callable[[Images], Images]] = {
    "one_level": shift_levels,
    "jpeg": compress_images,
}


def make_replay(images: Images, fault: str = NO_FAULT) -> ReplayGenerator:
    """Make a frozen generator that replays images, uint8 [N, C, H, W], with a fault or "none"."""
    replayed = images if fault == NO_FAULT else FAULTS[fault](images)
    return freeze(ReplayGenerator(torch.from_numpy(replayed)))


def pass_through(replay: ReplayGenerator, index: Tensor, path: Path) -> Images:
    """Send images the way of generated ones: generator, uint8, file.

    Args:
        replay: frozen, on the device that samples are made on.
        index: int64 [N], which of its images.
        path: of the file that they are stored in.

    Returns:
        uint8 [N, C, H, W], as read from the file.
    """
    images = next(replay.buffers())
    latents = replay.encode(index).to(images.device)
    batches = latents.split(count_sampled(images.shape[1:]))
    samples = (sample_images(replay, batch).cpu().numpy() for batch in batches)
    save_batches(path, len(index), samples)
    return load_images(path)
