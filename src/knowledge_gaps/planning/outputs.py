"""Whether the networks of a recipe give what is trained on: images of the reals' shape, and one
logit an image.

Networks run once on torch's meta device, which knows shapes and no values: whatever their size, it
takes a moment and no memory. Runs in a process that has torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.models.registry import ImageShape
from knowledge_gaps.planning.networks import (
    build_classifier,
    build_discriminator,
    build_generator,
)
from knowledge_gaps.study import Kind

_BATCH_SIZE = 2  # of one image, a mean over the batch would pass for one logit an image


def check_networks(
    kind: str, architecture: str, model: Mapping[str, Any], shape: ImageShape
) -> None:
    """Build the networks of a recipe and check the shapes of what they give.

    A network that cannot run without values is let through.

    Raises:
        UserError: for settings that do not fit, or names the network, the found and the needed
            shape.
    """
    with torch.device("meta"):
        if kind == Kind.GANS:
            _check_generator(architecture, model, shape)
            _check_discriminator(architecture, model, shape)
        else:
            _check_classifier(architecture, model, shape)


def _check_generator(architecture: str, model: Mapping[str, Any], shape: ImageShape) -> None:
    generator = build_generator(architecture, model, shape).eval()
    found = _try(lambda: generator(torch.empty(_BATCH_SIZE, generator.latent_dim)))
    _compare(f"the generator of {architecture!r}", found, (_BATCH_SIZE, *shape))


def _check_discriminator(architecture: str, model: Mapping[str, Any], shape: ImageShape) -> None:
    discriminator = build_discriminator(architecture, model, shape)
    found = _try(lambda: discriminator(torch.empty(_BATCH_SIZE, *shape)))
    _compare(f"the discriminator of {architecture!r}", found, (_BATCH_SIZE,))


def _check_classifier(architecture: str, model: Mapping[str, Any], shape: ImageShape) -> None:
    """Check all heads of a classifier, for in training mode it may have auxiliary ones."""
    classifier = build_classifier(architecture, model, shape).train()
    # as prepared: preparing images switches autocast off, which the meta device does not know
    prepared = (_BATCH_SIZE, *classifier.spec.input_shape)
    found = _try(lambda: classifier.network(torch.empty(prepared)))
    for logits in found if isinstance(found, tuple) else (found,):
        _compare(f"the classifier {architecture!r}", logits, (_BATCH_SIZE,))


def _try(run: Callable[[], Any]) -> Any:
    """Run a network; None where it fails, as one does here that asks for values or autocast."""
    try:
        with torch.no_grad():
            return run()
    except Exception:  # there is no common class; what fails with values too is said in training
        return None


def _compare(network: str, found: Any, needed: Sequence[int]) -> None:
    if found is None:
        return
    if not isinstance(found, Tensor):
        described = type(found).__name__
    elif tuple(found.shape) == tuple(needed) and found.is_floating_point():
        return
    else:
        described = _describe(found.dtype, found.shape)
    raise UserError(
        f"architecture: {network} gives {described} for a batch of {_BATCH_SIZE}, "
        f"{_describe(torch.float32, needed)} is needed"
    )


def _describe(dtype: torch.dtype, shape: Sequence[int]) -> str:
    return f"{str(dtype).removeprefix('torch.')} {list(shape)}"
