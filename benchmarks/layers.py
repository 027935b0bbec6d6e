"""What the layers with gradients written by hand gain over torch's own, one thread, on this CPU.

    python benchmarks/layers.py

Forward and backward pass of each layer of the reduced MNIST study's networks that has such a
gradient, as ratios of torch's CPU time to ours: medians of paired runs, with the smallest and the
largest.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from unittest.mock import patch

import torch
from torch import Tensor, nn

from knowledge_gaps.core.determinism import configure_process
from knowledge_gaps.core.devices import keep_freed_memory
from knowledge_gaps.models import fast_layers
from knowledge_gaps.models.fast_layers import BatchNorm2d, DoublingConv2d, HalvingConv2d
from knowledge_gaps.models.folding import fold_batch_norm
from knowledge_gaps.models.frozen import freeze

PAIRS = 9
CALLS = 40

Layers = tuple[str, nn.Module, tuple[int, ...]]


def list_layers() -> list[Layers]:
    """List layers by name, with the shape of their input, which takes a gradient."""
    return [
        ("discriminator, first convolution", HalvingConv2d(1, 16, 4, 1), (64, 1, 28, 28)),
        ("classifier, first convolution", HalvingConv2d(1, 32, 3, 1, False), (64, 1, 28, 28)),
        ("generator, last convolution", DoublingConv2d(16, 1, 4), (64, 16, 14, 14)),
        ("discriminator, normalisation", BatchNorm2d(32), (64, 32, 7, 7)),
        ("generator, last normalisation", BatchNorm2d(16), (64, 16, 14, 14)),
        ("classifier, first normalisation", BatchNorm2d(32), (128, 32, 14, 14)),
    ]


def main() -> None:
    """Print a line a layer, then one for a frozen classifier with folded normalisation."""
    configure_process()
    keep_freed_memory()
    for name, layer, shape in list_layers():
        run = make_pass(layer, torch.randn(shape))

        def run_torchs(run: Callable[[], None] = run) -> None:
            with patch.object(fast_layers, "is_hand_written", lambda _: False):
                run()

        print_ratios(name, run_torchs, run)
    network = freeze(
        nn.Sequential(
            HalvingConv2d(1, 32, 3, 1, bias=False),
            BatchNorm2d(32),
            nn.ReLU(inplace=True),
            HalvingConv2d(32, 64, 3, 1, bias=False),
            BatchNorm2d(64),
            nn.ReLU(inplace=True),
        )
    )
    images = torch.randn(64, 1, 28, 28)
    passes = [make_pass(module, images) for module in (network, fold_batch_norm(network))]
    print_ratios("frozen classifier, folded", *passes)


def make_pass(layer: nn.Module, inputs: Tensor) -> Callable[[], None]:
    """Make a forward and backward pass through a layer, to all that takes a gradient."""
    inputs = inputs.requires_grad_()
    wanted = [inputs, *(value for value in layer.parameters() if value.requires_grad)]
    gradient = torch.randn_like(layer(inputs))

    def run() -> None:
        torch.autograd.grad(layer(inputs), wanted, gradient)

    return run


def print_ratios(name: str, run_theirs: Callable[[], None], run_ours: Callable[[], None]) -> None:
    """Time two ways in turn and print how many times as long the first takes."""
    for run in (run_theirs, run_ours):
        time_calls(run)
    ratios = [time_calls(run_theirs) / time_calls(run_ours) for _ in range(PAIRS)]
    low, high = min(ratios), max(ratios)
    print(f"{name:34s} {statistics.median(ratios):5.2f}  ({low:.2f} to {high:.2f})")


def time_calls(run: Callable[[], None]) -> float:
    """Return the CPU seconds of some calls in this process."""
    start = time.process_time()
    for _ in range(CALLS):
        run()
    return time.process_time() - start


if __name__ == "__main__":
    main()
