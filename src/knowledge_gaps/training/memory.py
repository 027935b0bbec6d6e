"""Out of memory: what happened in the user's words, and a batch that would fit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.study import TrainingSettings
from knowledge_gaps.training.ranks import Ranks

_CPU_MESSAGE = "DefaultCPUAllocator: can't allocate memory"  # a plain RuntimeError of torch
_REQUEST = re.compile(r"Tried to allocate ([\d.]+) (bytes|[KMG]iB)")
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_SMALLEST_BATCH = 2
_MARGIN = 0.9  # of the memory; the rest is the system's and the allocator's


@contextmanager
def explain_shortage(
    recipe: TrainingSettings, ranks: Ranks, device: torch.device
) -> Iterator[None]:
    """Turn running out of memory into an error that names a batch that would fit.

    Args:
        recipe: of the training, whose batch was too large.
        ranks: that share the batch.
        device: of the training.

    Raises:
        UserError: in place of torch's error.
    """
    held_bytes = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        if not is_shortage(error):
            raise
        share = recipe.batch_size // ranks.size
        fits = halve_until(share, estimate_share(share, held_bytes, device, str(error)))
        raise UserError(describe_shortage(recipe, ranks.size, fits, device)) from error


def is_shortage(error: RuntimeError) -> bool:
    """Tell whether an error of torch means too little memory, on either kind of device."""
    return isinstance(error, torch.OutOfMemoryError) or _CPU_MESSAGE in str(error)


def estimate_share(share: int, held_bytes: int, device: torch.device, message: str) -> float:
    """Estimate how many images would fit, from the point where memory ran out.

    What an image took until then is the peak beyond what was held before the training, and the
    request that failed, divided by the images. A whole step takes more, so the estimate is an upper
    limit. The CPU's allocator does not say how much it had: half the batch is the guess there.

    Args:
        share: images in this process's batch.
        held_bytes: on the device, before the training.
        device: of the training.
        message: of torch's error.
    """
    if device.type != "cuda":
        return share / 2
    peak_bytes = torch.cuda.max_memory_allocated(device) + parse_request(message)
    total_bytes = torch.cuda.get_device_properties(device).total_memory
    per_image = max(peak_bytes - held_bytes, 1) / share
    return float((total_bytes * _MARGIN - held_bytes) / per_image)


def parse_request(message: str) -> float:
    """Return the bytes that could not be allocated, by torch's message; 0 where it says none."""
    found = _REQUEST.search(message)
    return float(found.group(1)) * _UNITS[found.group(2)] if found is not None else 0.0


def halve_until(share: int, limit: float) -> int | None:
    """Return the largest half, quarter, ... of a batch within a limit; None where none is."""
    while share % 2 == 0 and share // 2 >= 1:
        share //= 2
        if share <= limit:
            return share
    return None


def describe_shortage(
    recipe: TrainingSettings, num_ranks: int, fits: int | None, device: torch.device
) -> str:
    """Say which batch is too large and which would probably not be.

    Args:
        recipe: of the training.
        num_ranks: processes that share the batch.
        fits: images of one process's batch that fit by estimation; None where none does.
        device: of the training.
    """
    place = "a GPU" if device.type == "cuda" else "this machine"
    text = f"batch_size: {recipe.batch_size} images"
    text += f" on {num_ranks} processes" if num_ranks > 1 else ""
    text += f" do not fit into the memory of {place}; "
    if fits is None or fits * num_ranks < _SMALLEST_BATCH:
        return text + "no smaller batch would by estimation: a smaller model is needed"
    batch_size = fits * num_ranks
    factor = recipe.batch_size // batch_size
    accumulated = recipe.gradient_accumulation_steps * factor
    return text + (
        f"{batch_size} may by estimation, with gradient_accumulation_steps: {accumulated} for as "
        "many images an update"
    )
