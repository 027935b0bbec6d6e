"""The LeNet: its network, and how labelled images make an extractor of it.

data/lenet_mnist/train.py trained the packaged one, the extractor `lenet`; `prepare` trains another
one on a study's own reals, the extractor `lenet_on_reals`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knowledge_gaps.core.fingerprint import get_versions
from knowledge_gaps.core.seeding import derive_seed, make_generator
from knowledge_gaps.data.images import to_float
from knowledge_gaps.evaluation.registry import FeatureExtractor

NUM_FEATURES = 84
MIN_SIDE_PX, SIDE_MULTIPLE_PX = 16, 4
_BATCH_SIZE = 250  # where nothing is trained


class LeNetExtractor(FeatureExtractor):
    """LeNet-5 with ReLU, max pooling and wider convolutions, for grey and colour images.

    Their sides are multiples of 4 px from 16 px on.

    Source: LeCun et al., Gradient-based learning applied to document recognition, 1998, figure 2.
    DEVIATION: 12 and 24 maps instead of 6 and 16, ReLU, max pooling, fully connected maps and a
    linear output layer. The fully connected layers keep their 120 and 84 units, and 10 for digits.
    """

    is_fid = True

    def __init__(self, shape: tuple[int, int, int] = (1, 28, 28), num_classes: int = 10) -> None:
        super().__init__()
        self.num_classes = num_classes
        channels, height, width = shape
        num_pooled = (height // 4 - 2) * (width // 4 - 2)
        self.trunk = nn.Sequential(  # sides of 28 px become
            nn.Conv2d(channels, 12, kernel_size=5, padding=2),  # 28
            nn.ReLU(),
            nn.MaxPool2d(2),  # 14
            nn.Conv2d(12, 24, kernel_size=5),  # 10
            nn.ReLU(),
            nn.MaxPool2d(2),  # 5
            nn.Flatten(),
            nn.Linear(24 * num_pooled, 120),
            nn.ReLU(),
        )
        self.penultimate = nn.Linear(120, NUM_FEATURES)
        self.head = nn.Linear(NUM_FEATURES, num_classes)
        self.to(memory_format=torch.channels_last)  # halves the time of a forward pass on the CPU

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [N, 84] and class logits [N, K] of images [N, C, H, W] in [-1, 1]."""
        features = self.penultimate(self.trunk(images)).relu()
        return features, self.head(features)

    @torch.no_grad()
    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features and logits of uint8 [N, C, H, W], as `forward`."""
        features, logits = self(to_float(images))
        return features, logits


_LeNet = TypeVar("_LeNet", bound=LeNetExtractor)


@dataclass(frozen=True)
class LeNetSettings:
    """What the weights depend on besides the images and their labels."""

    seed: int = 0
    steps: int = 8000
    batch_size: int = 128
    learning_rate: float = 2e-3  # Adam's, decayed to zero along a cosine
    max_rotation_deg: float = 10.0
    max_scale: float = 0.1  # relative change of size
    max_shift_px: float = 2.0


@dataclass(frozen=True)
class LabelledImages:
    """Stored images uint8 [N, C, H, W], and labels int64 [N] from 0 on."""

    images: Tensor
    labels: Tensor


def train_lenet(
    build: Callable[[], _LeNet], data: LabelledImages, settings: LeNetSettings
) -> _LeNet:
    """Train a fresh LeNet with Adam on distorted images; return it frozen, in eval mode.

    Its features are normalised at the end.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(settings.seed, "lenet_init"))
        lenet = build()
    optimizer = torch.optim.Adam(lenet.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=settings.steps)
    for step in range(settings.steps):
        images, labels = draw_batch(data, settings, step)
        _, logits = lenet(images)
        loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    normalise_features(lenet, data.images)
    return lenet.eval().requires_grad_(False)


def draw_batch(data: LabelledImages, settings: LeNetSettings, step: int) -> tuple[Tensor, Tensor]:
    """Draw the batch of one step: every epoch its own order, every step its own distortion.

    Returns images float32 [N, C, H, W] in [-1, 1] and labels int64 [N].
    """
    num_batches = max(1, len(data.labels) // settings.batch_size)  # the rest of an epoch is left
    epoch, batch = divmod(step, num_batches)
    order = make_generator(settings.seed, "lenet_order", epoch)
    indices = torch.randperm(len(data.labels), generator=order)
    indices = indices[batch * settings.batch_size :][: settings.batch_size]
    distortion = make_generator(settings.seed, "lenet_distortion", step)
    images = distort_images(to_float(data.images[indices]), settings, distortion)
    return images, data.labels[indices]


def distort_images(images: Tensor, settings: LeNetSettings, generator: torch.Generator) -> Tensor:
    """Rotate, scale and shift every image by its own random amount; float32 [N, C, H, W]."""
    uniform = torch.rand(len(images), 4, generator=generator) * 2.0 - 1.0  # in [-1, 1)
    angle = uniform[:, 0] * math.radians(settings.max_rotation_deg)
    scale = 1.0 + uniform[:, 1] * settings.max_scale
    width_height = torch.tensor([images.shape[3], images.shape[2]])
    shift = uniform[:, 2:] * settings.max_shift_px * 2.0 / width_height  # the grid spans [-1, 1]
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    rows = [cosine, -sine, shift[:, 0], sine, cosine, shift[:, 1]]
    affine = torch.stack(rows, dim=1).view(-1, 2, 3)
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    # the border is filled with 0, so the background must be 0 while the images move
    return F.grid_sample(images + 1.0, grid, align_corners=False) - 1.0


@torch.no_grad()
def normalise_features(lenet: LeNetExtractor, images: Tensor) -> None:
    """Give the features a root mean square of 1 over stored images; the logits stay.

    The cubic kernel of KID, (x.y / F + 1)^3, expects features of this size: much larger ones
    leave only their third power.
    """
    batches = images.split(_BATCH_SIZE)
    sum_squares = math.fsum(float(lenet.extract(batch)[0].square().sum()) for batch in batches)
    factor = math.sqrt(len(images) * NUM_FEATURES / sum_squares)
    lenet.penultimate.weight.mul_(factor)
    lenet.penultimate.bias.mul_(factor)
    lenet.head.weight.div_(factor)


def measure_accuracy(lenet: LeNetExtractor, data: LabelledImages) -> float:
    """Return the share of images that the LeNet classifies correctly, in [0, 1]."""
    batches = zip(data.images.split(_BATCH_SIZE), data.labels.split(_BATCH_SIZE), strict=True)
    num_right = sum(
        int((lenet.extract(images)[1].argmax(dim=1) == labels).sum()) for images, labels in batches
    )
    return num_right / len(data.labels)


def describe_lenet(lenet: LeNetExtractor, settings: LeNetSettings) -> dict[str, Any]:
    """Describe the layers and the training of a LeNet, for its card."""
    return {
        "architecture": [str(layer) for layer in lenet.modules() if not list(layer.children())],
        "settings": asdict(settings),
        "seed": settings.seed,
        "steps": settings.steps,
        "versions": get_versions(("torch",)),
    }
