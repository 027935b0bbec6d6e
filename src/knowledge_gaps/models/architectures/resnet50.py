"""ResNet-50, torchvision's own, as a GAN-classifier.

Source: He et al. 2016; torchvision 0.26's `resnet50`, whose stride is in the 3x3 convolution.
"""

from __future__ import annotations

from torch import nn

from knowledge_gaps.models.registry import (
    ClassifierArchitecture,
    ImagenetWeights,
    ImageShape,
    classifier_architectures,
)
from knowledge_gaps.models.torchvision_nets import (
    TorchvisionClassifier,
    TorchvisionSettings,
    build_classifier,
    load_body,
    make_input_spec,
)


def build(settings: TorchvisionSettings, input_shape: ImageShape) -> TorchvisionClassifier:
    """Build the network; it takes any size of input."""
    return build_classifier(settings, _make_body, initialise)


def initialise(body: nn.Module) -> None:
    """Initialise as torchvision does: convolutions by He et al. 2015, eq. 10, over the fan-out."""
    for layer in body.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


def _make_body() -> nn.Module:
    from torchvision.models import resnet50

    body: nn.Module = resnet50(num_classes=1)
    return body


classifier_architectures.register(
    ClassifierArchitecture(
        "resnet50",
        TorchvisionSettings,
        build,
        make_input_spec,
        blocks=("Bottleneck",),
        imagenet=ImagenetWeights(
            "resnet50-11ad3fa6.pth",
            lambda network, state: load_body(network, state, ("fc",)),
            {"width_divisor": 1},
        ),
    )
)
