"""Gradient checkpointing: a block's activations are computed again in the backward pass.

It trades time for memory and changes no number: the second pass sees the same weights and batch,
and what it does to running statistics is done to copies.

Source: Chen et al. 2016, by way of torch.utils.checkpoint.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import Tensor, is_grad_enabled, nn
from torch.utils.checkpoint import checkpoint


def recompute_blocks(network: nn.Module, blocks: Collection[str]) -> None:
    """Let the blocks of a network, given by their types' names, compute their activations again.

    Each maps one tensor to one tensor. Names in the state dict stay as they are.
    """
    for block in network.modules():
        if type(block).__name__ in blocks:
            block.forward = partial(_run_block, block)


def _run_block(block: nn.Module, images: Tensor) -> Any:
    compute = partial(type(block).forward, block)
    if not is_grad_enabled():
        return compute(images)
    return checkpoint(
        compute,
        images,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), _spare_buffers(block)),
    )


@contextmanager
def _spare_buffers(block: nn.Module) -> Iterator[None]:
    """Give a block copies of its buffers for a while: batch statistics count once."""
    kept = [
        (module, name, buffer)
        for module in block.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    for module, name, buffer in kept:
        setattr(module, name, buffer.clone())
    try:
        yield
    finally:
        for module, name, buffer in kept:
            setattr(module, name, buffer)
