"""Frozen networks with less to compute: batch normalisation folded into the layer before it."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

_Module = TypeVar("_Module", bound=nn.Module)


def fold_batch_norm(network: _Module) -> _Module:
    """Copy a frozen network, with every normalisation that follows a convolution folded into it.

    The same function up to rounding: in evaluation mode a normalisation is a factor and a summand a
    channel. Neighbours in a `torch.nn.Sequential` are folded. Raises ValueError in training mode.
    """
    if network.training:
        raise ValueError("only a frozen network's batch normalisation can be folded")
    return _fold_tree(copy.deepcopy(network)).requires_grad_(False)


def _fold_tree(module: _Module) -> _Module:
    """Fold a network's parts first, then what stands in a row in it."""
    for name, child in list(module.named_children()):
        setattr(module, name, _fold_tree(child))
    if isinstance(module, nn.Sequential):
        layers = _fold_row(module)
        while len(module) > 0:
            del module[-1]
        module.extend(layers)
    return module


def _fold_row(layers: nn.Sequential) -> list[nn.Module]:
    folded: list[nn.Module] = []
    for layer in layers:
        before = folded[-1] if folded else None
        if isinstance(before, nn.Conv2d) and isinstance(layer, _BatchNorm):
            folded[-1] = fuse_conv_bn_eval(before, layer)
        else:
            folded.append(layer)
    return folded
