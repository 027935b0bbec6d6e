"""Networks of a recipe: freshly built, and checked for the shapes that training needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.models.input_spec import GanClassifier
from knowledge_gaps.models.registry import (
    Generator,
    ImageShape,
    classifier_architectures,
    gan_architectures,
    parse_settings,
)
from knowledge_gaps.study import Kind

_BATCH_SIZE = 2  # of one image, a mean over the batch would pass for one logit an image


def build_generator(architecture: str, model: Mapping[str, Any], shape: ImageShape) -> Generator:
    """Build a freshly initialised generator; raises UserError for settings that do not fit."""
    entry = gan_architectures.get(architecture)
    return entry.build_generator(parse_settings(entry, model), shape)


def build_discriminator(
    architecture: str, model: Mapping[str, Any], shape: ImageShape
) -> nn.Module:
    """Build a freshly initialised discriminator; raises UserError for settings that do not fit."""
    entry = gan_architectures.get(architecture)
    return entry.build_discriminator(parse_settings(entry, model), shape)


def build_classifier(
    architecture: str, model: Mapping[str, Any], shape: ImageShape
) -> GanClassifier:
    """Build a freshly initialised classifier; raises UserError for settings that do not fit."""
    entry = classifier_architectures.get(architecture)
    settings = parse_settings(entry, model)
    spec = entry.make_input_spec(settings, shape)
    return GanClassifier(entry.build(settings, spec.input_shape), spec)


def build_on_meta(
    kind: str, architecture: str, model: Mapping[str, Any], shape: ImageShape
) -> dict[str, nn.Module]:
    """Build "G" and "D" of a GAN's recipe, "C" of a classifier's, as shapes without values."""
    builders: dict[str, Callable[..., nn.Module]] = {"C": build_classifier}
    if kind == Kind.GANS:
        builders = {"G": build_generator, "D": build_discriminator}
    with torch.device("meta"):
        return {key: build(architecture, model, shape) for key, build in builders.items()}


def check_networks(
    kind: str, architecture: str, model: Mapping[str, Any], shape: ImageShape
) -> None:
    """Check that a recipe's networks give images of the reals' shape and one logit an image.

    A network that cannot run without values is let through. Raises UserError, which names the
    network, the found and the needed shape.
    """
    images, logits = (_BATCH_SIZE, *shape), (_BATCH_SIZE,)
    for key, network in build_on_meta(kind, architecture, model, shape).items():
        if isinstance(network, GanClassifier):
            # all heads: in training mode there may be auxiliary ones. The input is as prepared,
            # for preparing images switches autocast off, which the meta device does not know
            found = _run(network.network.train(), (_BATCH_SIZE, *network.spec.input_shape))
            for head in found if isinstance(found, tuple) else (found,):
                _compare(f"the classifier {architecture!r}", head, logits)
        elif key == "D":
            _compare(f"the discriminator of {architecture!r}", _run(network, images), logits)
        else:
            assert isinstance(network, Generator)
            found = _run(network.eval(), (_BATCH_SIZE, network.latent_dim))
            _compare(f"the generator of {architecture!r}", found, images)


def _run(network: nn.Module, shape: Sequence[int]) -> Any:
    """Run a network; None where it fails, as one does here that asks for values or autocast."""
    try:
        with torch.no_grad(), torch.device("meta"):
            return network(torch.empty(shape))
    except Exception:  # there is no common class; what fails with values too is said in training
        return None


def _compare(network: str, found: Any, needed: Sequence[int]) -> None:
    described = type(found).__name__
    if isinstance(found, Tensor):
        described = f"{str(found.dtype).removeprefix('torch.')} {list(found.shape)}"
        if tuple(found.shape) == tuple(needed) and found.is_floating_point():
            return
    if found is not None:
        raise UserError(
            f"architecture: {network} gives {described} for a batch of {_BATCH_SIZE}, "
            f"float32 {list(needed)} is needed"
        )
