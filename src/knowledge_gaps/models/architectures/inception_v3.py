"""Inception-v3, torchvision's own, as a GAN-classifier with its auxiliary head in training.

Source: Szegedy et al. 2016 (the auxiliary head is section 4's); torchvision 0.26's `inception_v3`.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from torch import nn

from knowledge_gaps.models.registry import classifier_architectures
from knowledge_gaps.models.torchvision_nets import TorchvisionSettings, make_architecture

# the auxiliary head pools its map of 17 px to the 5 px of its convolution; with less there is none
_AUXILIARY_PX = 299
_AUXILIARY_HEAD = "AuxLogits.fc"
_STD, _AUXILIARY_STD = 0.1, 0.001


class InceptionSettings(TorchvisionSettings):
    """Sizes of an Inception-v3."""

    input_px: Annotated[int, Field(ge=75)] = 299
    """Side of the square that images are resized to. Below 75 px, strides without padding leave no
    pixel at the end; below 299 px, there is no auxiliary head."""
    transform_input: bool = False
    """The network turns ImageNet's normalisation, which the InputSpec applies, into values in [-1,
    1], for which its published weights were made."""

    def list_options(self) -> dict[str, Any]:
        """List further arguments of torchvision's constructor."""
        return {
            "aux_logits": self.input_px >= _AUXILIARY_PX,
            "transform_input": self.transform_input,
            "init_weights": True,
        }


def initialise(body: nn.Module) -> None:
    """Initialise as torchvision does: one spread for all layers but the auxiliary head."""
    for name, layer in body.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            std = _AUXILIARY_STD if name == _AUXILIARY_HEAD else _STD
            nn.init.trunc_normal_(layer.weight, 0.0, std, a=-2.0, b=2.0)


classifier_architectures.register(
    make_architecture(
        "inception_v3",
        initialise,
        blocks=("InceptionA", "InceptionB", "InceptionC", "InceptionD", "InceptionE"),
        heads=("fc", _AUXILIARY_HEAD),
        file_name="inception_v3_google-0cc3c7bd.pth",
        settings=InceptionSettings,
        published={"width_divisor": 1, "transform_input": True},
    )
)
