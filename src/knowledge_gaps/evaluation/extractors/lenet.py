"""The yardstick for 28x28 grey images: a LeNet trained once on MNIST and kept in the package.

Its penultimate layer gives the features of FID, KID, precision and recall, its class logits the
class entropy. Everyone loads the same weights, so numbers of different machines share one scale.
How the weights came about is in `knowledge_gaps.evaluation.extractors.train_lenet`, what is computed from the
features in `knowledge_gaps.evaluation.quality`. torch-fidelity is imported by `register_extractor`
alone: code that only trains runs without it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from knowledge_gaps.core.checkpoint import read_tensors
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import read_json
from knowledge_gaps.data.images import to_float

if TYPE_CHECKING:
    from torch_fidelity import FeatureExtractorBase

IMAGE_SHAPE = (1, 28, 28)  # C, H, W
NUM_CLASSES = 10
NUM_FEATURES = 84
FEATURES = "features"  # names of the two outputs, in this order
LOGITS = "logits"
EXTRACTOR_NAME = "lenet-mnist"  # in torch-fidelity's registry
WEIGHTS_PATH = Path(__file__).parent / "assets" / "lenet_mnist.safetensors"

_NUM_MAPS_1 = 12
_NUM_MAPS_2 = 24
_NUM_HIDDEN = 120


class LeNet(nn.Module):
    """LeNet-5 with ReLU, max pooling and wider convolutions.

    Source: LeCun et al., Gradient-based learning applied to document recognition, 1998, figure 2.
    DEVIATION: 12 and 24 maps instead of 6 and 16, ReLU, max pooling, fully connected maps and a
    linear output layer. The three fully connected layers keep their 120, 84 and 10 units.
    """

    name = "lenet"  # as in the names of the metrics: fid_lenet_4k
    image_shape = IMAGE_SHAPE
    input_px = None

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, _NUM_MAPS_1, kernel_size=5, padding=2),  # 28x28
            nn.ReLU(),
            nn.MaxPool2d(2),  # 14x14
            nn.Conv2d(_NUM_MAPS_1, _NUM_MAPS_2, kernel_size=5),  # 10x10
            nn.ReLU(),
            nn.MaxPool2d(2),  # 5x5
            nn.Flatten(),
            nn.Linear(_NUM_MAPS_2 * 5 * 5, _NUM_HIDDEN),
            nn.ReLU(),
        )
        self.penultimate = nn.Linear(_NUM_HIDDEN, NUM_FEATURES)
        self.head = nn.Linear(NUM_FEATURES, NUM_CLASSES)
        self.to(memory_format=torch.channels_last)  # halves the time of a forward pass on the CPU

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return penultimate features and class logits.

        Args:
            images: float32 [N, 1, 28, 28] in [-1, 1].

        Returns:
            Features float32 [N, 84], non-negative, and logits float32 [N, 10].
        """
        features = self.penultimate(self.trunk(images)).relu()
        return features, self.head(features)

    @torch.no_grad()
    def rescale_features(self, factor: float) -> None:
        """Multiply every feature by a positive factor and leave the logits as they are."""
        self.penultimate.weight.mul_(factor)
        self.penultimate.bias.mul_(factor)
        self.head.weight.div_(factor)

    @torch.no_grad()
    def extract(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return features and logits of stored images: uint8 [N, 1, 28, 28], as `forward`."""
        features, logits = self(to_float(images))
        return features, logits


def load_lenet(weights: Path = WEIGHTS_PATH) -> LeNet:
    """Load the packaged LeNet in eval mode, its parameters frozen.

    Args:
        weights: safetensors file; the card of the same name with suffix .json lies beside it.

    Raises:
        UserError: when a file is missing, the weights do not match the sha256 on the card, or they
            are of another architecture.
    """
    card = read_json(weights.with_suffix(".json"))
    tensors = read_tensors(weights, sha256=str(card.get("sha256", "nothing")))
    lenet = LeNet()
    try:
        lenet.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{weights}: not the weights of this LeNet ({reason})") from error
    return lenet.eval().requires_grad_(False)


def register_extractor() -> str:
    """Register the LeNet with torch-fidelity, once, and return the name to ask for.

    Afterwards `torch_fidelity.calculate_metrics(feature_extractor=register_extractor(), ...)`
    takes datasets of uint8 [1, 28, 28] tensors.
    """
    from torch_fidelity import register_feature_extractor
    from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

    if EXTRACTOR_NAME not in FEATURE_EXTRACTORS_REGISTRY:
        register_feature_extractor(EXTRACTOR_NAME, build_extractor_class())
    return EXTRACTOR_NAME


@cache
def build_extractor_class() -> type[FeatureExtractorBase]:
    """Make the torch-fidelity extractor around `load_lenet`; the import waits until it is asked."""
    from torch_fidelity import FeatureExtractorBase

    class LeNetExtractor(FeatureExtractorBase):  # type: ignore[misc]
        """The packaged LeNet under the interface of torch-fidelity."""

        def __init__(self, name: str, features_list: list[str], **_options: Any) -> None:
            super().__init__(name, features_list)
            self.lenet = load_lenet()

        @staticmethod
        def get_provided_features_list() -> tuple[str, str]:
            return FEATURES, LOGITS

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return LOGITS if metric == "isc" else FEATURES

        @staticmethod
        def can_be_compiled() -> bool:
            return False

        @staticmethod
        def get_dummy_input_for_compile() -> torch.Tensor:
            return torch.zeros(4, *IMAGE_SHAPE, dtype=torch.uint8)

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
            outputs = dict(zip((FEATURES, LOGITS), self.lenet.extract(images), strict=True))
            return tuple(outputs[name] for name in self.features_list)

    return LeNetExtractor
