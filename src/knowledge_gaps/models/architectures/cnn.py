"""The plain CNN GAN-classifier of the low-parameter setting.

DEVIATION: the paper says "vanilla CNN" and no more; depth and widths are a choice of the recipe.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field
from torch import Tensor, nn

from knowledge_gaps.models.input_spec import InputSpec
from knowledge_gaps.models.registry import (
    ClassifierArchitecture,
    ImageShape,
    ModelSettings,
    classifier_architectures,
)


def _check_odd(size_px: int) -> int:
    if size_px % 2 == 0:
        raise ValueError("an odd number is needed")
    return size_px


class CnnSettings(ModelSettings):
    """Sizes of a CNN classifier."""

    channels: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)]
    """Of its convolutions, each of which halves the resolution."""
    kernel_px: Annotated[int, Field(ge=1), AfterValidator(_check_odd)] = 3
    """Side of the kernels; odd."""


class Cnn(nn.Module):
    """Strided convolutions with batch normalisation and ReLU, then a linear head."""

    def __init__(self, settings: CnnSettings, input_shape: ImageShape) -> None:
        super().__init__()
        channels_in, height, width = input_shape
        layers: list[nn.Module] = []
        for channels_out in settings.channels:
            padding = settings.kernel_px // 2
            layers += [
                nn.Conv2d(channels_in, channels_out, settings.kernel_px, 2, padding, bias=False),
                nn.BatchNorm2d(channels_out),
                nn.ReLU(inplace=True),
            ]
            height, width, channels_in = -(-height // 2), -(-width // 2), channels_out
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Linear(channels_in * height * width, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits float32 [N], positive = real, of prepared images float32 [N, C, H, W]."""
        logits: Tensor = self.head(self.layers(images))
        return logits.squeeze(1)


def make_input_spec(settings: CnnSettings, image_shape: ImageShape) -> InputSpec:
    """Take images as they are: no resize, values kept in [-1, 1]."""
    channels, height, width = image_shape
    return InputSpec(
        channels=channels,
        image_px=(height, width),
        input_px=(height, width),
        mean=(0.5,) * channels,
        std=(0.5,) * channels,
    )


classifier_architectures.register(ClassifierArchitecture("cnn", CnnSettings, Cnn, make_input_spec))
