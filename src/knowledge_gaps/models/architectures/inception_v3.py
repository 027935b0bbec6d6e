"""Inception-v3, torchvision's own, as a GAN-classifier with its auxiliary head in training.

Source: Szegedy et al. 2016 (the auxiliary head is section 4's); torchvision 0.26's `inception_v3`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

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

# the auxiliary head pools its map of 17 px to the 5 px of its convolution; with less there is none
AUXILIARY_PX = 299
_AUXILIARY, _AUXILIARY_HEAD = "AuxLogits", "AuxLogits.fc"
_STD, _AUXILIARY_STD = 0.1, 0.001


class InceptionSettings(TorchvisionSettings):
    """Sizes of an Inception-v3."""

    input_px: Annotated[int, Field(ge=75)] = 299
    """Side of the square that images are resized to. Below 75 px, strides without padding leave no
    pixel at the end; below 299 px, there is no auxiliary head."""
    transform_input: bool = False
    """The network turns ImageNet's normalisation, which the InputSpec applies, into values in [-1,
    1], for which its published weights were made."""


def build(settings: InceptionSettings, input_shape: ImageShape) -> TorchvisionClassifier:
    """Build the network for the settings' size of input."""
    has_auxiliary = settings.input_px >= AUXILIARY_PX
    return build_classifier(
        settings, lambda: _make_body(has_auxiliary, settings.transform_input), initialise
    )


def initialise(body: nn.Module) -> None:
    """Initialise as torchvision does: one spread for all layers but the auxiliary head."""
    for name, layer in body.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            std = _AUXILIARY_STD if name == _AUXILIARY_HEAD else _STD
            nn.init.trunc_normal_(layer.weight, 0.0, std, a=-2.0, b=2.0)


def load_imagenet(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load the published state, without the auxiliary head where the network has none."""
    assert isinstance(network, TorchvisionClassifier)
    has_auxiliary = network.body.AuxLogits is not None
    load_body(network, state, ("fc", _AUXILIARY_HEAD if has_auxiliary else _AUXILIARY))


def _make_body(has_auxiliary: bool, transform_input: bool) -> nn.Module:
    from torchvision.models import inception_v3

    body: nn.Module = inception_v3(
        num_classes=1, aux_logits=has_auxiliary, transform_input=transform_input, init_weights=True
    )
    return body


classifier_architectures.register(
    ClassifierArchitecture(
        "inception_v3",
        InceptionSettings,
        build,
        make_input_spec,
        blocks=("InceptionA", "InceptionB", "InceptionC", "InceptionD", "InceptionE"),
        imagenet=ImagenetWeights(
            "inception_v3_google-0cc3c7bd.pth",
            load_imagenet,
            {"width_divisor": 1, "transform_input": True},
        ),
    )
)
