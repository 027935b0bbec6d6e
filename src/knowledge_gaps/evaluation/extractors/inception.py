"""The extractor of FID: torch-fidelity's Inception, with the weights file that the user has.

Nothing is downloaded. The file is torch-fidelity's weights-inception-2015-12-05-6726825d.pth, or
pytorch-fid's pt_inception-2015-12-05-6726825d.pth: the same bytes, whose sha256 begins as both are
called. No other file is read, so that FIDs of two machines can be compared, and because
torch-fidelity unpickles it. torch-fidelity is imported when the network is built: code that only
checks the file runs without it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import hash_file
from knowledge_gaps.study import EvaluationSettings

WEIGHTS_FILE = "weights-inception-2015-12-05-6726825d.pth"  # as torch-fidelity calls it
WEIGHTS_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"

_KEY = "evaluation.inception_weights"
_NEEDED = (
    f"extractor 'inception' needs torch-fidelity's {WEIGHTS_FILE} with sha256 {WEIGHTS_SHA256} "
    "there, nothing is downloaded; extractor 'random_vgg' needs no file"
)
_FEATURES, _LOGITS = "2048", "logits"  # torch-fidelity's names


class Inception(nn.Module):
    """The Inception of FID (Heusel et al. 2017), as torch-fidelity ports it from TensorFlow.

    It resizes images to 299 px by itself, bilinearly and without antialiasing, as TensorFlow 1 did:
    that is part of the protocol.

    Args:
        weights: the file; `check_weights` says whether it is the right one.
    """

    name = "inception"
    image_shape = (3, None, None)
    input_px = 299

    def __init__(self, weights: Path) -> None:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        super().__init__()
        check_weights(weights)
        self.network = FeatureExtractorInceptionV3(
            self.name, [_FEATURES, _LOGITS], feature_extractor_weights_path=str(weights)
        )

    @torch.no_grad()
    def extract(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return features float32 [N, 2048] and class logits float32 [N, 1008].

        Args:
            images: uint8 [N, 3, H, W].
        """
        features, logits = self.network(images)
        return features, logits


def check_extractor(settings: EvaluationSettings, root: Path) -> None:
    """Make sure that a study's extractor has its weights, before hours of training.

    Args:
        settings: the section `evaluation`.
        root: of the repository.

    Raises:
        UserError: when it is the Inception, whose weights file is missing or another.
    """
    if settings.extractor == Inception.name:
        check_weights(find_weights(root, settings.inception_weights))


def find_weights(root: Path, configured: str | None) -> Path:
    """Return where the weights file should be.

    Args:
        root: of the repository.
        configured: evaluation.inception_weights; None for torch's cache, where torch-fidelity
            keeps the file that it downloads.
    """
    if configured is not None:
        return root / configured
    return Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS_FILE


def check_weights(path: Path) -> None:
    """Make sure that a file is the weights file.

    Raises:
        UserError: when it is missing or holds anything else.
    """
    if not path.is_file():
        raise UserError(f"{_KEY}: {path} is no file; {_NEEDED}")
    found = hash_file(path)
    if found != WEIGHTS_SHA256:
        raise UserError(f"{_KEY}: {path} has sha256 {found}; {_NEEDED}")
