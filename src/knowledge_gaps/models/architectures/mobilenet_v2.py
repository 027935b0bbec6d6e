"""MobileNetV2, torchvision's own, as a GAN-classifier.

Source: Sandler et al. 2018; torchvision 0.26's `mobilenet_v2` at width 1.0.
"""

from __future__ import annotations

from torch import nn

from knowledge_gaps.models.registry import classifier_architectures
from knowledge_gaps.models.torchvision_nets import make_architecture


def initialise(body: nn.Module) -> None:
    """Initialise as torchvision does: He et al. 2015 over the fan-out, a small head."""
    for layer in body.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out")
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0.0, 0.01)
            nn.init.zeros_(layer.bias)


classifier_architectures.register(
    make_architecture(
        "mobilenet_v2",
        initialise,
        blocks=("InvertedResidual",),
        heads=("classifier.1",),
        file_name="mobilenet_v2-7ebf99e0.pth",
    )
)
