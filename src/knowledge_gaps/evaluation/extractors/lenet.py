"""The extractor for MNIST's digits: a LeNet trained once on MNIST and kept in the package.

The script that trained it is data/lenet_mnist/train.py. Images of anything else have no meaning to
its features and classes, so it is refused for reals whose values are not MNIST's.
"""

from __future__ import annotations

from pathlib import Path

from knowledge_gaps.core.checkpoint import read_tensors
from knowledge_gaps.core.files import read_json
from knowledge_gaps.data.reals import Reals
from knowledge_gaps.evaluation.lenet import LeNetExtractor

WEIGHTS_PATH = Path(__file__).parent / "assets" / "lenet_mnist.safetensors"

_CONTENT = "mnist"


class LeNet(LeNetExtractor):
    """The packaged LeNet: features float32 [N, 84] and logits of the ten digits."""

    image_shape = (1, 28, 28)
    num_classes = 10

    @classmethod
    def find_misfit(cls, reals: Reals) -> str | None:
        """Ask for MNIST's digits, full or reduced, known by their values."""
        misfit = super().find_misfit(reals)
        if misfit is None and reals.content != _CONTENT:
            misfit = "is for MNIST's digits, and the values of these reals are not theirs"
        return misfit

    @classmethod
    def load(cls, weights: Path | None) -> LeNet:
        """Load the packaged weights, whose sha256 is on the card beside them."""
        card = read_json(WEIGHTS_PATH.with_suffix(".json"))
        lenet = cls()
        lenet.load_state_dict(read_tensors(WEIGHTS_PATH, sha256=card["sha256"]))
        return lenet.eval().requires_grad_(False)


EXTRACTOR = LeNet
