"""The machine: how many workers, and which device.

None of it is a parameter of a study. Environment variables override what is found:
KGAPS_WORKERS (processes side by side) and KGAPS_DEVICE ("cpu" keeps off a GPU).
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from knowledge_gaps.runtime.errors import UserError

if TYPE_CHECKING:
    from accelerate import Accelerator

WORKERS_VARIABLE = "KGAPS_WORKERS"
DEVICE_VARIABLE = "KGAPS_DEVICE"

# of torchrun, MPI and SLURM; Accelerate would wait for other ranks that nobody starts
_DISTRIBUTED_VARIABLES = (
    "WORLD_SIZE",
    "RANK",
    "LOCAL_RANK",
    "PMI_SIZE",
    "OMPI_COMM_WORLD_SIZE",
    "MV2_COMM_WORLD_SIZE",
)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_LARGEST_MMAP_THRESHOLD_BYTES = 32 << 20
_KEPT_BYTES = 1 << 30


def count_workers(num_tasks: int, use_gpus: bool = True) -> int:
    """Return how many processes work side by side: one a GPU, otherwise one a core.

    Args:
        num_tasks: no more workers than that are of use.
        use_gpus: False for work that stays on the CPU.

    Raises:
        UserError: when KGAPS_WORKERS is no count.
    """
    chosen = os.environ.get(WORKERS_VARIABLE)
    if chosen is None:
        return min((count_gpus() if use_gpus else 0) or count_cores(), num_tasks)
    if not chosen.isdecimal() or int(chosen) < 1:
        raise UserError(f"{WORKERS_VARIABLE}: {chosen!r} found, a count of at least 1 is needed")
    return min(int(chosen), num_tasks)


def count_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def count_gpus() -> int:
    """Return how many CUDA devices are visible, 0 when KGAPS_DEVICE is "cpu".

    Raises:
        UserError: when KGAPS_DEVICE is neither "cpu" nor "cuda".
    """
    chosen = os.environ.get(DEVICE_VARIABLE, "cuda")
    if chosen not in ("cpu", "cuda"):
        raise UserError(f"{DEVICE_VARIABLE}: {chosen!r} found, 'cpu' or 'cuda' is needed")
    # importing torch takes longer than all else that a parent process does: ask only where it pays
    if chosen == "cpu" or not Path("/dev/nvidiactl").exists():
        return 0
    import torch

    return torch.cuda.device_count()


def keep_freed_memory() -> None:
    """Let the C library keep the memory that this process frees, for its next allocation.

    A training frees and allocates the same tensors at every step. By default glibc gives the larger
    ones back to the system each time, and the page faults of taking them anew cost about a fifth
    of a small network's step. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def build_accelerator(
    worker: int, mixed_precision: str = "no", gradient_accumulation_steps: int = 1
) -> Accelerator:
    """Build the Accelerator of one worker: one process, whatever a launcher's variables say.

    Args:
        worker: index of the worker; worker k takes GPU k modulo their number.
        mixed_precision: "no", "bf16" or "fp16".
        gradient_accumulation_steps: batches whose gradients are averaged for one update.

    Raises:
        UserError: for fp16 without a GPU, where no loss scaling would protect it.
    """
    num_gpus = count_gpus()
    if mixed_precision == "fp16" and num_gpus == 0:
        raise UserError("mixed_precision: 'fp16' needs a GPU; 'bf16' and 'no' are allowed here")
    for variable in _DISTRIBUTED_VARIABLES:
        os.environ.pop(variable, None)
    from accelerate import Accelerator

    if num_gpus > 0:
        import torch

        torch.cuda.set_device(worker % num_gpus)
    return Accelerator(
        cpu=num_gpus == 0,
        mixed_precision=mixed_precision,
        gradient_accumulation_steps=gradient_accumulation_steps,
    )
