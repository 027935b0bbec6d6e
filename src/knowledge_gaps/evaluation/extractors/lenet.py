"""The extractor for grey images of 28 px: a LeNet trained once on MNIST and kept in the package.

The script that trained it is data/lenet_mnist/train.py.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from knowledge_gaps.core.checkpoint import read_tensors
from knowledge_gaps.core.files import read_json
from knowledge_gaps.data.images import to_float
from knowledge_gaps.evaluation.registry import FeatureExtractor

NUM_FEATURES = 84
WEIGHTS_PATH = Path(__file__).parent / "assets" / "lenet_mnist.safetensors"


class LeNet(FeatureExtractor):
    """LeNet-5 with ReLU, max pooling and wider convolutions.

    Source: LeCun et al., Gradient-based learning applied to document recognition, 1998, figure 2.
    DEVIATION: 12 and 24 maps instead of 6 and 16, ReLU, max pooling, fully connected maps and a
    linear output layer. The three fully connected layers keep their 120, 84 and 10 units.
    """

    image_shape = (1, 28, 28)
    num_classes = 10
    is_fid = True

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 12, kernel_size=5, padding=2),  # 28x28
            nn.ReLU(),
            nn.MaxPool2d(2),  # 14x14
            nn.Conv2d(12, 24, kernel_size=5),  # 10x10
            nn.ReLU(),
            nn.MaxPool2d(2),  # 5x5
            nn.Flatten(),
            nn.Linear(24 * 5 * 5, 120),
            nn.ReLU(),
        )
        self.penultimate = nn.Linear(120, NUM_FEATURES)
        self.head = nn.Linear(NUM_FEATURES, 10)
        self.to(memory_format=torch.channels_last)  # halves the time of a forward pass on the CPU

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [N, 84] and class logits [N, 10] of images [N, 1, 28, 28] in [-1, 1]."""
        features = self.penultimate(self.trunk(images)).relu()
        return features, self.head(features)

    @torch.no_grad()
    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features and logits of uint8 [N, 1, 28, 28], as `forward`."""
        features, logits = self(to_float(images))
        return features, logits

    @classmethod
    def load(cls, weights: Path | None) -> LeNet:
        """Load the packaged weights, whose sha256 is on the card beside them."""
        card = read_json(WEIGHTS_PATH.with_suffix(".json"))
        lenet = cls()
        lenet.load_state_dict(read_tensors(WEIGHTS_PATH, sha256=card["sha256"]))
        return lenet.eval().requires_grad_(False)


EXTRACTOR = LeNet
