"""Small StyleGAN2 networks for the tests of its parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from knowledge_gaps.models import networks
from knowledge_gaps.models.registry import ImageShape

SMALL: dict[str, Any] = {
    "latent_dim": 6,
    "style_dim": 5,
    "mapping_layers": 2,
    "mapping_lr_multiplier": 0.1,
    "channel_base": 128,
    "max_channels": 8,
}
SHAPE = (3, 16, 16)


def build_generator(shape: ImageShape = SHAPE, noise: float | None = None, **changes: Any) -> Any:
    """Build a small generator off its start: biases, and strengths of its noise unless given."""
    torch.manual_seed(0)
    generator = networks.build_generator("stylegan2", {**SMALL, **changes}, shape)
    return _shake(generator, noise)


def build_discriminator(shape: ImageShape = SHAPE, **changes: Any) -> Any:
    """Build a small discriminator; its biases are not 0, unlike fresh ones."""
    torch.manual_seed(1)
    return _shake(networks.build_discriminator("stylegan2", {**SMALL, **changes}, shape))


def draw(*shape: int, seed: int = 7, dtype: torch.dtype = torch.float32) -> Tensor:
    """Draw standard normal numbers without touching the global ones."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def check_slopes(network: nn.Module, compute: Callable[[], Tensor], constant: str) -> None:
    """Compare a penalty's gradient with finite differences; it is None for one end of names."""
    names, parameters = zip(*network.named_parameters(), strict=True)
    gradients = torch.autograd.grad(compute(), parameters, allow_unused=True)
    assert sum(gradient is not None for gradient in gradients) >= len(names) - 5
    step = 1e-6
    for name, parameter, gradient in zip(names, parameters, gradients, strict=True):
        if gradient is None:
            assert name.endswith(constant), name
            continue
        direction = draw(*parameter.shape, seed=9, dtype=torch.float64)
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.add_(direction, alpha=sign * step)
            values.append(compute().item())
            with torch.no_grad():
                parameter.sub_(direction, alpha=sign * step)
        slope = (values[0] - values[1]) / (2 * step)
        assert slope == pytest.approx((gradient * direction).sum().item(), rel=1e-4, abs=1e-8), name


def check_half_blocks(
    network: nn.Module, blocks: nn.ModuleList, inputs: Tensor, expected: list[torch.dtype]
) -> None:
    """Check in which dtypes blocks run under autocast, and that the result stays near full."""
    dtypes: list[torch.dtype] = []
    for block in blocks:
        block.register_forward_hook(lambda _, __, result: dtypes.append(result[0].dtype))
    full = network(inputs)
    assert dtypes == [torch.float32] * len(blocks)
    dtypes.clear()
    with torch.autocast("cpu", torch.bfloat16):
        outputs = network(inputs)
    assert dtypes == expected
    assert outputs.dtype == torch.float32
    assert torch.isfinite(outputs).all()
    assert torch.equal(outputs, full) == (torch.bfloat16 not in expected)
    torch.testing.assert_close(outputs, full, rtol=0, atol=0.06)


@torch.no_grad()
def _shake(network: nn.Module, noise: float | None = None) -> nn.Module:
    for name, parameter in network.named_parameters():
        if name.endswith("noise_strength") and noise is not None:
            parameter.fill_(noise)
        elif name.endswith(("bias", "noise_strength")):
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return network
