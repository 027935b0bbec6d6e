"""torchvision's networks as GAN-classifiers: heads of one logit, narrower variants, their input.

Which network it is and how its weights start is in the file named as the architecture. torchvision
is imported by what builds a network, not by this module: a study without these networks is spared
the second that it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from knowledge_gaps.models.input_spec import InputSpec
from knowledge_gaps.models.registry import ImageShape, ModelSettings

# of torchvision's published weights; random ones start from the same range of values
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_COLOURS = len(IMAGENET_MEAN)


class TorchvisionSettings(ModelSettings):
    """Sizes of one of torchvision's networks."""

    width_divisor: Literal[1, 2, 4, 8, 16] = 1
    """Every number of channels is divided by it, rounded up; 1 is the published network, anything
    else a narrower variant for small images."""
    input_px: Annotated[int, Field(ge=32)] = 224
    """Side of the square that images are resized to, as published by default; at 32, all strides
    together leave 1 px."""


class TorchvisionClassifier(nn.Module):
    """One of torchvision's networks whose heads have one class.

    Args:
        body: returns [N, 1], or in training mode a tuple of such with the main head first.
    """

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits [N] of prepared images float32 [N, 3, H, W], or a tuple as the body."""
        images = images.contiguous(memory_format=torch.channels_last)  # the faster layout
        outputs: Tensor | tuple[Tensor, ...] = self.body(images)
        if isinstance(outputs, Tensor):
            return outputs.squeeze(1)
        return tuple(head.squeeze(1) for head in outputs)


def build_classifier(
    settings: TorchvisionSettings,
    make_body: Callable[[], nn.Module],
    initialise: Callable[[nn.Module], None],
) -> TorchvisionClassifier:
    """Build a network with fresh weights, drawn from torch's global generator.

    Args:
        settings: with the divisor of the widths.
        make_body: torchvision's constructor, with one class; it initialises the published width.
        initialise: the same rule for the layers of a narrower variant.
    """
    if settings.width_divisor == 1:
        return TorchvisionClassifier(make_body())
    with torch.device("meta"):  # the layout alone: no memory, no random number
        body = make_body()
    divide_widths(body, settings.width_divisor)
    initialise(body)
    return TorchvisionClassifier(body)


def divide_widths(network: nn.Module, divisor: int) -> None:
    """Replace all layers of a network by narrower ones with weights of their own, in place.

    Rounded up, so that one head stays one head and no layer is left without a channel; the three
    colours stay. Groups of depthwise convolutions are their channels, and follow them.
    """
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            narrow = _make_narrow(layer, lambda width: -(-width // divisor))
            if narrow is not None:
                setattr(parent, name, narrow)


def _make_narrow(layer: nn.Module, divide: Callable[[int], int]) -> nn.Module | None:
    """Make the narrower form of a layer; None for what has no width of its own."""
    if isinstance(layer, nn.Conv2d):
        is_stem = layer.in_channels == _COLOURS
        return nn.Conv2d(
            _COLOURS if is_stem else divide(layer.in_channels),
            divide(layer.out_channels),
            layer.kernel_size,  # type: ignore[arg-type]  # a pair, which its annotation forgets
            layer.stride,  # type: ignore[arg-type]
            layer.padding,  # type: ignore[arg-type]
            groups=divide(layer.groups),
            bias=layer.bias is not None,
        )
    if isinstance(layer, nn.BatchNorm2d):
        return nn.BatchNorm2d(divide(layer.num_features), layer.eps, layer.momentum)
    if isinstance(layer, nn.Linear):
        return nn.Linear(divide(layer.in_features), divide(layer.out_features))
    return None


def make_input_spec(settings: TorchvisionSettings, image_shape: ImageShape) -> InputSpec:
    """Resize to the network's square and normalise as its published weights expect.

    The network sees three channels; grey images are repeated.
    """
    channels, height, width = image_shape
    return InputSpec(
        channels=channels,
        image_px=(height, width),
        input_px=(settings.input_px, settings.input_px),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )


def load_body(network: nn.Module, state: Mapping[str, Tensor], heads: tuple[str, ...]) -> None:
    """Load a published state into a classifier's body; its own heads stay as they are.

    Args:
        network: a `TorchvisionClassifier` of the published width.
        state: of torchvision's network for 1000 classes.
        heads: names of the linear layers that end in classes.

    Raises:
        RuntimeError: when the state is of another network; torch names the keys.
    """
    assert isinstance(network, TorchvisionClassifier)
    prefixes = tuple(f"{head}." for head in heads)
    kept = {key: value for key, value in state.items() if not key.startswith(prefixes)}
    own = network.body.state_dict()
    kept.update({key: value for key, value in own.items() if key.startswith(prefixes)})
    network.body.load_state_dict(kept, strict=True)
