"""An extractor for images of any kind and size: a VGG that was never trained, with fixed weights.

Random features still tell sets of images apart (Naeem et al. 2020) where the Inception of FID has
no weights file, or images are like no photograph of ImageNet.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from knowledge_gaps.data.images import to_float
from knowledge_gaps.evaluation.registry import FeatureExtractor

_SEED = 64
_BLOCKS = ((16, 16), (32, 32), (64, 64, 64), (128, 128, 128), (128, 128, 128))
_NUM_HIDDEN = 512
_NUM_FEATURES = 64
_POOLED_PX = 2
_COLOURS = 3


class RandomVgg(FeatureExtractor):
    """VGG-16 at a quarter of its width, its weights drawn once and for all.

    Source: Naeem et al., Reliable fidelity and diversity metrics for generative models, 2020, whose
    R64 is a VGG-16 with random weights and 64 features; layers as configuration D of Simonyan &
    Zisserman 2015, weights as He et al. 2015, eq. 10.
    DEVIATION: a quarter of the channels, maps averaged to 2 x 2 px in place of the last pooling, so
    that images may be of any size, 512 hidden units, and no ReLU behind the features: random units
    are mostly on or off for all images alike, and those that are off would have no variance.
    """

    image_shape = (None, None, None)

    def __init__(self) -> None:
        super().__init__()
        with torch.device("meta"):  # no weights from the global generator
            self.trunk = nn.Sequential(
                *_list_layers(), nn.AdaptiveAvgPool2d(_POOLED_PX), nn.Flatten()
            )
            self.hidden = nn.Linear(_BLOCKS[-1][-1] * _POOLED_PX**2, _NUM_HIDDEN)
            self.features = nn.Linear(_NUM_HIDDEN, _NUM_FEATURES)
        self.to_empty(device="cpu")
        generator = torch.Generator(device="cpu").manual_seed(_SEED)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        self.to(memory_format=torch.channels_last)
        self.eval().requires_grad_(False)

    @torch.no_grad()
    def extract(self, images: Tensor) -> tuple[Tensor, None]:
        """Return features float32 [N, 64] of uint8 [N, 1 or 3, H, W], and no class logits."""
        coloured = to_float(images).expand(-1, _COLOURS, -1, -1)
        hidden = self.hidden(self.trunk(coloured)).relu()
        return self.features(hidden), None

    @classmethod
    def load(cls, weights: Path | None) -> RandomVgg:
        """Draw the network; it needs no file."""
        return cls()


def _list_layers() -> list[nn.Module]:
    """List the convolutions with their ReLUs, and the maxima between the blocks."""
    layers: list[nn.Module] = []
    channels_in = _COLOURS
    for block in _BLOCKS:
        # no image is too small: a map of one pixel is its own maximum
        layers += [nn.MaxPool2d(2, ceil_mode=True)] if layers else []
        for channels in block:
            layers += [nn.Conv2d(channels_in, channels, kernel_size=3, padding=1), nn.ReLU()]
            channels_in = channels
    return layers


EXTRACTOR = RandomVgg
