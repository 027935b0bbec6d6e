"""Which precision and memory layout a block runs in.

Autocast is asked once, at the door of a network, and switched off inside: blocks cast explicitly,
so that what runs in half precision is a setting and not a list of operations.

Source: Karras et al. 2020b (Training Generative Adversarial Networks with Limited Data), appendix
on mixed-precision training: the highest resolutions only, activations clamped.
"""

from __future__ import annotations

import torch
from torch import Tensor

CLAMP = 256.0  # |activation| of a half-precision block is kept below


def find_half_dtype(device: torch.device) -> torch.dtype | None:
    """Return the dtype of the autocast that is active for a device, or None."""
    if not torch.is_autocast_enabled(device.type):
        return None
    return torch.get_autocast_dtype(device.type)


def disable_autocast(device: torch.device) -> torch.autocast:
    """Make the context in which operations keep the dtype of what they are given."""
    return torch.autocast(device.type, enabled=False)


def to_full(values: Tensor) -> Tensor:
    """Turn half precision into float32; float64, for gradient checks, stays."""
    return values if values.dtype == torch.float64 else values.float()


def to_block(values: Tensor, half_dtype: torch.dtype | None) -> Tensor:
    """Bring feature maps into the precision and the layout of the block that they enter.

    Channels last pays for convolutions on the CPU, and on a GPU for those in half precision.

    Args:
        values: [N, C, H, W].
        half_dtype: None for a block in full precision.
    """
    values = to_full(values) if half_dtype is None else values.to(half_dtype)
    if half_dtype is None and values.device.type != "cpu":
        return values.contiguous()
    return values.contiguous(memory_format=torch.channels_last)
