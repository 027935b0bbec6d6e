"""Too little memory for a batch: an error that says so in the recipe's words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.study import TrainingSettings
from knowledge_gaps.training.ranks import Ranks

_CPU_MESSAGE = "DefaultCPUAllocator: can't allocate memory"  # a plain RuntimeError of torch


@contextmanager
def explain_shortage(
    recipe: TrainingSettings, ranks: Ranks, device: torch.device
) -> Iterator[None]:
    """Turn running out of memory into an error that names half the batch.

    Args:
        recipe: of the training, whose batch was too large.
        ranks: that share the batch.
        device: of the training.

    Raises:
        UserError: in place of torch's error.
    """
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        if not is_shortage(error):
            raise
        place = "a GPU" if device.type == "cuda" else "this machine"
        shared = f" on {ranks.size} processes" if ranks.size > 1 else ""
        half = recipe.batch_size // 2
        advice = "a smaller model is needed"
        if half >= ranks.size and recipe.batch_size % 2 == 0:
            accumulated = 2 * recipe.gradient_accumulation_steps
            advice = (
                f"try {half} with gradient_accumulation_steps: {accumulated}, which are as many "
                "images an update"
            )
        raise UserError(
            f"batch_size: {recipe.batch_size} images{shared} do not fit into the memory of "
            f"{place}; {advice}"
        ) from error


def is_shortage(error: RuntimeError) -> bool:
    """Tell whether an error of torch means too little memory, on either kind of device."""
    return isinstance(error, torch.OutOfMemoryError) or _CPU_MESSAGE in str(error)
