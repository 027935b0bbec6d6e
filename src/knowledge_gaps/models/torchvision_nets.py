"""torchvision's networks as GAN-classifiers: heads of one logit, narrower variants, their input.

torchvision is imported where a network is built: others are spared the second that it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from knowledge_gaps.models.input_spec import InputSpec
from knowledge_gaps.models.registry import (
    ClassifierArchitecture,
    ImagenetWeights,
    ImageShape,
    ModelSettings,
)

# of torchvision's published weights; random ones start from the same range of values
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_COLOURS = len(_IMAGENET_MEAN)
_PUBLISHED = {"width_divisor": 1}


class TorchvisionSettings(ModelSettings):
    """Sizes of one of torchvision's networks."""

    width_divisor: Literal[1, 2, 4, 8, 16] = 1
    """Every number of channels is divided by it, rounded up; 1 is the published network, anything
    else a narrower variant for small images."""
    input_px: Annotated[int, Field(ge=32)] = 224
    """Side of the square that images are resized to, as published by default; at 32, all strides
    together leave 1 px."""

    def list_options(self) -> dict[str, Any]:
        """List further arguments of torchvision's constructor."""
        return {}


class TorchvisionClassifier(nn.Module):
    """One of torchvision's networks, whose heads have one class."""

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


def make_architecture(
    name: str,
    initialise: Callable[[nn.Module], None],
    blocks: tuple[str, ...],
    heads: tuple[str, ...],
    file_name: str,
    settings: type[TorchvisionSettings] = TorchvisionSettings,
    published: Mapping[str, int | bool] = _PUBLISHED,
) -> ClassifierArchitecture:
    """Describe one of torchvision's networks as a GAN-classifier.

    `initialise` is the rule of torchvision's constructor, for the layers of a narrower variant;
    `heads` are the linear layers that end in classes; `published` are the settings for which the
    weights of `file_name` were made.
    """

    def build(settings: TorchvisionSettings, input_shape: ImageShape) -> TorchvisionClassifier:
        from torchvision.models import get_model

        make_body = partial(get_model, name, num_classes=1, **settings.list_options())
        if settings.width_divisor == 1:
            return TorchvisionClassifier(make_body())
        with torch.device("meta"):  # the layout alone: no memory, no random number
            body = make_body()
        divide_widths(body, settings.width_divisor)
        initialise(body)
        return TorchvisionClassifier(body)

    imagenet = ImagenetWeights(file_name, partial(_load_body, heads=heads), published)
    return ClassifierArchitecture(name, settings, build, _make_input_spec, blocks, imagenet)


def divide_widths(network: nn.Module, divisor: int) -> None:
    """Replace all layers of a network by narrower ones with weights of their own, in place.

    Rounded up; the three colours stay, and depthwise convolutions' groups follow their channels.
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


def _make_input_spec(settings: TorchvisionSettings, image_shape: ImageShape) -> InputSpec:
    """Resize to the network's square and normalise as its published weights expect."""
    channels, height, width = image_shape
    return InputSpec(
        channels=channels,
        image_px=(height, width),
        input_px=(settings.input_px, settings.input_px),
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
    )


def _load_body(network: nn.Module, state: Mapping[str, Tensor], heads: tuple[str, ...]) -> None:
    """Load a published state into a body, without its heads and without parts that it lacks."""
    assert isinstance(network, TorchvisionClassifier)
    body, prefixes = network.body, tuple(f"{head}." for head in heads)
    own = body.state_dict()
    kept = {
        key: own[key] if key.startswith(prefixes) else value
        for key, value in state.items()
        if getattr(body, key.partition(".")[0], body) is not None
    }
    body.load_state_dict(kept, strict=True)


def recompute_blocks(network: nn.Module, blocks: Collection[str]) -> None:
    """Let blocks of a network, by their types' names, compute their activations twice.

    That takes less memory and changes no number: the second pass leaves running statistics as they
    were. Source: Chen et al. 2016, by way of torch.utils.checkpoint.
    """
    for block in network.modules():
        if type(block).__name__ in blocks:
            block.forward = partial(_run_block, block)


def _run_block(block: nn.Module, images: Tensor) -> Any:
    return checkpoint(
        partial(type(block).forward, block),
        images,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), _keep_buffers(block)),
    )


@contextmanager
def _keep_buffers(block: nn.Module) -> Iterator[None]:
    """Put a block's buffers back at the end: batch statistics count once."""
    kept = [(buffer, buffer.clone()) for buffer in block.buffers()]
    try:
        yield
    finally:
        for buffer, value in kept:
            buffer.data.copy_(value)  # unseen by autograd, which keeps buffers of the first pass
