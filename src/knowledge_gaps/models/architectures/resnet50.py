"""ResNet-50, torchvision's own, as a GAN-classifier.

Source: He et al. 2016; torchvision 0.26's `resnet50`, whose stride is in the 3x3 convolution.
"""

from __future__ import annotations

from torch import nn

from knowledge_gaps.models.registry import classifier_architectures
from knowledge_gaps.models.torchvision_nets import make_architecture


def initialise(body: nn.Module) -> None:
    """Initialise as torchvision does: convolutions by He et al. 2015, eq. 10, over the fan-out."""
    for layer in body.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


classifier_architectures.register(
    make_architecture(
        "resnet50",
        initialise,
        blocks=("Bottleneck",),
        heads=("fc",),
        file_name="resnet50-11ad3fa6.pth",
    )
)
