"""The machine: how many workers, which device, and which rank this process is.

None of it is a parameter of a study. Environment variables override what is found: KGAPS_WORKERS
(processes side by side), KGAPS_WORKERS_PER_GPU, KGAPS_PROCESSES (that train one instance together)
and KGAPS_DEVICE ("cpu" keeps off a GPU, "cuda" insists on one).
"""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from knowledge_gaps.core.errors import UserError

if TYPE_CHECKING:
    import torch

WORKERS_VARIABLE = "KGAPS_WORKERS"
WORKERS_PER_GPU_VARIABLE = "KGAPS_WORKERS_PER_GPU"
PROCESSES_VARIABLE = "KGAPS_PROCESSES"
DEVICE_VARIABLE = "KGAPS_DEVICE"

# all of them are there in a process that torchrun started
_RANK_VARIABLES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_LARGEST_MMAP_THRESHOLD_BYTES = 32 << 20
_KEPT_BYTES = 1 << 30


@dataclass(frozen=True)
class Rank:
    """This process among those that torchrun started to train together.

    Attributes:
        index: among all, on all hosts; 0 is the one that writes.
        local_index: among those of this host; decides its GPU.
        size: how many there are, at least 2.
    """

    index: int
    local_index: int
    size: int

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes, reports and holds the lock."""
        return self.index == 0


def read_rank() -> Rank | None:
    """Return which rank torchrun made this process; None when it is on its own.

    Raises:
        UserError: when torchrun's variables are no counts.
    """
    if any(name not in os.environ for name in _RANK_VARIABLES):
        return None
    values = [os.environ[name] for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE")]
    if not all(value.isdecimal() for value in values):
        raise UserError(f"RANK, LOCAL_RANK, WORLD_SIZE: {values} found, counts are needed")
    index, local_index, size = (int(value) for value in values)
    return Rank(index, local_index, size) if size > 1 else None


def check_alone(command: str) -> None:
    """Refuse to run a command in several processes of torchrun; each would do all of it."""
    rank = read_rank()
    if rank is not None:
        raise UserError(
            f"WORLD_SIZE: {rank.size} found, but {command!r} runs as one process; gans and "
            "classifiers may be started by torchrun"
        )


def count_processes(option: int | None) -> int:
    """Return how many processes train one instance together: as asked for, else 1.

    Args:
        option: of the command line, if given; at least 1.

    Raises:
        UserError: when KGAPS_PROCESSES is no count, this machine has fewer GPUs (but some), or
            torchrun started another number.
    """
    key = "--num-processes" if option is not None else PROCESSES_VARIABLE
    rank, num_gpus = read_rank(), count_gpus()
    count = option or _read_count(key, 1 if rank is None else rank.size)
    if rank is not None and count != rank.size:
        raise UserError(f"{key}: {count} found, but torchrun started {rank.size} processes")
    if rank is None and 0 < num_gpus < count:
        raise UserError(f"{key}: {count} found, this machine has {num_gpus} GPUs")
    return count


def count_workers(num_tasks: int, use_gpus: bool = True) -> int:
    """Return how many processes work side by side: one a GPU, or as many as
    KGAPS_WORKERS_PER_GPU says, otherwise one a core.

    Args:
        num_tasks: no more workers than that are of use.
        use_gpus: False for work that stays on the CPU.

    Raises:
        UserError: when KGAPS_WORKERS or KGAPS_WORKERS_PER_GPU is no count.
    """
    num_gpus = count_gpus() if use_gpus else 0
    usual = num_gpus * _read_count(WORKERS_PER_GPU_VARIABLE, 1) or count_cores()
    return min(_read_count(WORKERS_VARIABLE, usual), num_tasks)


def _read_count(variable: str, default: int) -> int:
    text = os.environ.get(variable, str(default))
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"{variable}: {text!r} found, a count of at least 1 is needed")
    return int(text)


def count_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def count_gpus() -> int:
    """Return how many CUDA devices are visible, 0 when KGAPS_DEVICE is "cpu".

    Raises:
        UserError: when KGAPS_DEVICE is neither "cpu" nor "cuda", or "cuda" where there is no GPU.
    """
    chosen = os.environ.get(DEVICE_VARIABLE)
    if chosen not in (None, "cpu", "cuda"):
        raise UserError(f"{DEVICE_VARIABLE}: {chosen!r} found, 'cpu' or 'cuda' is needed")
    num_gpus = 0 if chosen == "cpu" else _count_visible_gpus()
    if chosen == "cuda" and num_gpus == 0:
        raise UserError(
            f"{DEVICE_VARIABLE}: 'cuda' found, there is no GPU here that torch can use: unset it, "
            "or set 'cpu'"
        )
    return num_gpus


def _count_visible_gpus() -> int:
    # importing torch takes longer than all else that a parent process does: ask only where it pays
    if not has_gpu_driver():
        return 0
    import torch

    return torch.cuda.device_count()


def has_gpu_driver() -> bool:
    """Tell whether NVIDIA's driver is loaded, without which no GPU can be used."""
    return Path("/dev/nvidiactl").exists()


def find_device() -> torch.device:
    """Return the device that evaluation runs on: the first GPU, or the CPU where there is none."""
    import torch

    return torch.device("cuda" if count_gpus() > 0 else "cpu")


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


def find_gpu(rank: Rank, num_gpus: int) -> int:
    """Return the index of a rank's GPU; raises UserError when this host has too few."""
    if rank.local_index >= num_gpus:
        raise UserError(
            f"LOCAL_RANK: {rank.local_index} found, this host has {num_gpus} GPUs: start no more "
            f"processes a host, or set {DEVICE_VARIABLE}=cpu"
        )
    return rank.local_index
