"""MobileNetV2, torchvision's own, as a GAN-classifier.

Source: Sandler et al. 2018; torchvision 0.26's `mobilenet_v2` at width 1.0.
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

_HEAD_STD = 0.01


def build(settings: TorchvisionSettings, input_shape: ImageShape) -> TorchvisionClassifier:
    """Build the network; it takes any size of input."""
    return build_classifier(settings, _make_body, initialise)


def initialise(body: nn.Module) -> None:
    """Initialise as torchvision does: He et al. 2015 over the fan-out, a small head."""
    for layer in body.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out")
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0.0, _HEAD_STD)
            nn.init.zeros_(layer.bias)


def _make_body() -> nn.Module:
    from torchvision.models import mobilenet_v2

    body: nn.Module = mobilenet_v2(num_classes=1)
    return body


classifier_architectures.register(
    ClassifierArchitecture(
        "mobilenet_v2",
        TorchvisionSettings,
        build,
        make_input_spec,
        blocks=("InvertedResidual",),
        imagenet=ImagenetWeights(
            "mobilenet_v2-7ebf99e0.pth",
            lambda network, state: load_body(network, state, ("classifier.1",)),
            {"width_divisor": 1},
        ),
    )
)
