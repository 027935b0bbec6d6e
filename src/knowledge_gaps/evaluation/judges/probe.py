"""A fresh network of another architecture than the study's classifiers: it scores small patches.

Every patch is normalised, so that a faint texture counts as much as an edge; no patch is compared
with another one, and the image's score is of the mean over its patches.

Source: Chai et al. 2020, "What makes fake images detectable? Understanding properties that
generalize", whose classifiers see patches alone.
DEVIATION: a perceptron of 4 x 4 px in place of the first blocks of a ResNet, for seconds of a core.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knowledge_gaps.data.images import to_float
from knowledge_gaps.data.store import Images
from knowledge_gaps.evaluation.judging import Features, Judge, Score
from knowledge_gaps.losses import LABEL_GENERATED, LABEL_REAL

_MOST_PX = 64  # a side; of larger images it takes the middle, at full resolution
_PATCH_PX = 4
_NUM_UNITS = 64
_NUM_STEPS = 400
_BATCH_SIZE = 64  # reals of a batch, and as many generated images
_LEARNING_RATE = 1e-2  # of Adam, at the start; it falls to 0 along a line
_SCORED_BATCH = 500


def describe(images: Images) -> Images:
    """Cut out the middle of images, uint8 [N, C, H, W]: at most 64 px a side."""
    height, width = (min(side_px, _MOST_PX) for side_px in images.shape[2:])
    top, left = (images.shape[2] - height) // 2, (images.shape[3] - width) // 2
    return images[:, :, top : top + height, left : left + width]


class Probe(nn.Module):
    """A perceptron of patches that do not overlap, and a linear head on its mean over patches."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        num_values = channels * _PATCH_PX**2
        self.cut = nn.Unfold(_PATCH_PX, stride=_PATCH_PX)
        self.layers = nn.Sequential(
            nn.LayerNorm(num_values),
            nn.Linear(num_values, _NUM_UNITS),
            nn.ReLU(),
            nn.Linear(_NUM_UNITS, _NUM_UNITS),
            nn.ReLU(),
        )
        self.head = nn.Linear(_NUM_UNITS, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [N], positive = real, of images float32 [N, C, H, W] in [-1, 1]."""
        patches = self.cut(images).transpose(1, 2)  # [N, P, 16 C]
        logits: Tensor = self.head(self.layers(patches).mean(dim=1))  # [N, P, 64] -> [N, 1]
        return logits.squeeze(1)


def fit(images_real: Features, images_generated: Features, seed: int) -> Score:
    """Train a probe on reals, uint8 [N, C, H, W], and generated images, uint8 [M, C, H, W]."""
    kinds = [torch.from_numpy(images) for images in (images_real, images_generated)]
    with torch.random.fork_rng(devices=[]):  # the global generator is left alone
        torch.manual_seed(seed)
        probe = Probe(images_real.shape[1])
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(probe.parameters(), _LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=_NUM_STEPS)
    labels = torch.tensor([LABEL_REAL, LABEL_GENERATED]).repeat_interleave(_BATCH_SIZE).float()
    for _ in range(_NUM_STEPS):
        drawn = [torch.randint(len(one), (_BATCH_SIZE,), generator=generator) for one in kinds]
        batch = torch.cat([one[index] for one, index in zip(kinds, drawn, strict=True)])
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(probe(to_float(batch)), labels).backward()
        optimizer.step()
        schedule.step()

    @torch.no_grad()
    def score(images: Features) -> npt.NDArray[np.float32]:
        batches = torch.from_numpy(images).split(_SCORED_BATCH)
        scores: npt.NDArray[np.float32] = torch.cat(
            [probe(to_float(batch)) for batch in batches]
        ).numpy()
        return scores

    return score


JUDGE = Judge(describe, fit)
