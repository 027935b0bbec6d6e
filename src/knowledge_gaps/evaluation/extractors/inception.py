"""The extractor of FID: torch-fidelity's Inception, with the weights file that the user has.

Nothing is downloaded. The file is torch-fidelity's weights-inception-2015-12-05-6726825d.pth, or
pytorch-fid's pt_inception-2015-12-05-6726825d.pth, which has the same bytes. No other file is read:
FIDs of two machines can be compared, and torch-fidelity unpickles the file.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import hash_file
from knowledge_gaps.evaluation.registry import FeatureExtractor

WEIGHTS_FILE = "weights-inception-2015-12-05-6726825d.pth"
WEIGHTS_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"

_KEY = "evaluation.extractor_weights"
_NEEDED = (
    f"extractor 'inception' needs torch-fidelity's {WEIGHTS_FILE} with sha256 {WEIGHTS_SHA256} "
    "there, nothing is downloaded; extractor 'random_vgg' needs no file"
)
_FEATURES, _LOGITS = "2048", "logits"  # torch-fidelity's names


class Inception(FeatureExtractor):
    """The Inception of FID (Heusel et al. 2017), as torch-fidelity ports it from TensorFlow.

    It resizes images to 299 px by itself, bilinearly and without antialiasing, as TensorFlow 1 did:
    that is part of the protocol.
    """

    image_shape = (3, None, None)
    input_px = 299
    num_classes = 1008
    is_fid = True
    takes_weights = True

    def __init__(self, weights: Path) -> None:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        super().__init__()
        self.network = FeatureExtractorInceptionV3(
            "inception", [_FEATURES, _LOGITS], feature_extractor_weights_path=str(weights)
        )

    @torch.no_grad()
    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features float32 [N, 2048] and logits float32 [N, 1008] of uint8 [N, 3, H, W]."""
        features, logits = self.network(images)
        return features, logits

    @classmethod
    def load(cls, weights: Path | None) -> Inception:
        """Load the published file; by default from torch's cache, where torch-fidelity keeps it."""
        path = weights or Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS_FILE
        if not path.is_file():
            raise UserError(f"{_KEY}: {path} is no file; {_NEEDED}")
        if (found := hash_file(path)) != WEIGHTS_SHA256:
            raise UserError(f"{_KEY}: {path} has sha256 {found}; {_NEEDED}")
        return cls(path)


EXTRACTOR = Inception
