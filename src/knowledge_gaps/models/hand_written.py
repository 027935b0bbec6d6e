"""Where layers take this project's own gradients instead of torch's: training on a CPU.

torch.func cannot look into a gradient written by hand; whoever transforms a network with it
switches the layers back to torch's own for that time (`use_torch_layers`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

_uses_torch_layers = ContextVar("uses_torch_layers", default=False)


@contextmanager
def use_torch_layers() -> Iterator[None]:
    """Run layers with torch's own gradients, which torch.func's transforms understand."""
    token = _uses_torch_layers.set(True)
    try:
        yield
    finally:
        _uses_torch_layers.reset(token)


def is_hand_written(tensor: Tensor) -> bool:
    """Tell whether a layer takes the way written by hand: on a CPU, without autocast."""
    return (
        tensor.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and not _uses_torch_layers.get()
    )
